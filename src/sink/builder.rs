//! The one place to say what is recorded: the sink's builder.

use super::{
    config::{HeaderCapture, Retention, SinkConfig},
    ids::IdFormat,
    probe::Probe,
    subscriber::Subscriber,
    trace_sink::TraceSink,
};
use http::HeaderName;
use std::sync::Arc;

/// Says what a [`TraceSink`] records. By default: dials, connections and their operations, DNS messages, TLS
/// handshakes and HTTP requests without headers, within [`Retention::bounded`].
///
/// # Examples
///
/// ```
/// use nettrace::{HeaderCapture, Retention, TraceSink};
///
/// let sink = TraceSink::builder()
///     .headers(HeaderCapture::Values) // credentials stay hidden …
///     .reveal_headers([http::HeaderName::from_static("x-request-token")]) // … except this one
///     .mask_query(true)
///     .socket_ops(false) // totals are still recorded
///     .retention(Retention::bounded().requests(1_000).bytes(8 << 20))
///     .build();
/// ```
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct TraceSinkBuilder {
    config: SinkConfig,
}

impl TraceSinkBuilder {
    /// Record each read and write of a socket (`socketTrace`). Totals are kept either way. On by default.
    pub fn socket_ops(mut self, on: bool) -> Self {
        self.config.socket_ops = on;
        self
    }

    /// Record DNS messages (`dnsQueries`). On by default.
    pub fn dns(mut self, on: bool) -> Self {
        self.config.dns = on;
        self
    }

    /// Record TLS handshakes (`tlsTunnels`). On by default.
    pub fn tls(mut self, on: bool) -> Self {
        self.config.tls = on;
        self
    }

    /// Record HTTP requests (`httpRequests`). On by default.
    pub fn http(mut self, on: bool) -> Self {
        self.config.http = on;
        self
    }

    /// How header fields are recorded. Off by default: they may hold secrets.
    pub fn headers(mut self, capture: HeaderCapture) -> Self {
        self.config.headers = capture;
        self
    }

    /// Leaves out the header fields for which `exclude` is true, or panics. It is called on the request's path,
    /// under no lock, and should be quick.
    pub fn exclude_header(mut self, exclude: impl Fn(&HeaderName) -> bool + Send + Sync + 'static) -> Self {
        self.config.exclude_header = Some(Arc::new(exclude));
        self
    }

    /// Records the values of these header fields as they are, although they may hold secrets: see
    /// [`HeaderCapture::Values`] for what is hidden otherwise.
    pub fn reveal_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.config.reveal_headers.extend(names);
        self
    }

    /// Records the query of a URL as `?***`, also in `Location`, `Content-Location`, `Referer`, `Origin`,
    /// `Destination`, `Refresh` and `Link`. Off by default.
    pub fn mask_query(mut self, on: bool) -> Self {
        self.config.mask_query = on;
        self
    }

    /// How records are named. [`IdFormat::counter`] by default.
    pub fn ids(mut self, format: IdFormat) -> Self {
        self.config.ids = format;
        self
    }

    /// An identifier of the session, written into every trace (`uuid`).
    pub fn session(mut self, session: impl Into<String>) -> Self {
        self.config.session = Some(session.into());
        self
    }

    /// How much is kept. [`Retention::bounded`] by default.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.config.retention = retention;
        self
    }

    /// Adds something that looks at the sockets of traced connections.
    pub fn probe(mut self, probe: impl Probe) -> Self {
        self.config.probes.push(Arc::new(probe));
        self
    }

    /// Adds something that is handed every record as it ends.
    pub fn subscriber(mut self, subscriber: impl Subscriber) -> Self {
        self.config.subscribers.push(Arc::new(subscriber));
        self
    }

    /// Starts the sink: its clock runs from here.
    pub fn build(self) -> TraceSink {
        TraceSink::start(self.config)
    }
}

impl TraceSink {
    /// Returns a builder that configures what is recorded.
    pub fn builder() -> TraceSinkBuilder {
        TraceSinkBuilder::default()
    }
}
