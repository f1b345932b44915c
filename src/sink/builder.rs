//! The builder of a [`TraceSink`]: the one place to configure what is recorded.

use super::{
    config::{HeaderCapture, Retention, SinkConfig},
    ids::IdFormat,
    probe::Probe,
    subscriber::Subscriber,
    trace_sink::TraceSink,
};
use http::HeaderName;
use std::sync::Arc;

/// A builder that configures what a [`TraceSink`] records.
///
/// By default these are dials, connections and their operations, DNS messages, TLS handshakes, and HTTP requests
/// without header fields, within [`Retention::bounded`].
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
    /// Sets whether each read and write of a socket is recorded (`socketTrace`). Totals are kept either way. On by
    /// default.
    pub fn socket_ops(mut self, on: bool) -> Self {
        self.config.socket_ops = on;
        self
    }

    /// Sets whether DNS messages are recorded (`dnsQueries`). On by default.
    pub fn dns(mut self, on: bool) -> Self {
        self.config.dns = on;
        self
    }

    /// Sets whether TLS handshakes are recorded (`tlsTunnels`). On by default.
    pub fn tls(mut self, on: bool) -> Self {
        self.config.tls = on;
        self
    }

    /// Sets whether HTTP requests are recorded (`httpRequests`). On by default.
    pub fn http(mut self, on: bool) -> Self {
        self.config.http = on;
        self
    }

    /// Sets how header fields are recorded. Off by default, because they may hold secrets.
    pub fn headers(mut self, capture: HeaderCapture) -> Self {
        self.config.headers = capture;
        self
    }

    /// Leaves out the header fields for which `exclude` returns `true`, or panics.
    ///
    /// It is called on the request's path, under no lock, and should be quick.
    pub fn exclude_header(mut self, exclude: impl Fn(&HeaderName) -> bool + Send + Sync + 'static) -> Self {
        self.config.exclude_header = Some(Arc::new(exclude));
        self
    }

    /// Records the values of these header fields as they are, although they may hold secrets.
    ///
    /// See [`HeaderCapture::Values`] for what is hidden otherwise.
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

    /// Sets the format of the identifiers of records. [`IdFormat::counter`] by default.
    pub fn ids(mut self, format: IdFormat) -> Self {
        self.config.ids = format;
        self
    }

    /// Sets an identifier of the session, written into every trace (`uuid`).
    pub fn session(mut self, session: impl Into<String>) -> Self {
        self.config.session = Some(session.into());
        self
    }

    /// Sets how much is kept. [`Retention::bounded`] by default.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.config.retention = retention;
        self
    }

    /// Adds a probe, which looks at the sockets of traced connections.
    pub fn probe(mut self, probe: impl Probe) -> Self {
        self.config.probes.push(Arc::new(probe));
        self
    }

    /// Adds a subscriber, which is handed every record as it ends.
    pub fn subscriber(mut self, subscriber: impl Subscriber) -> Self {
        self.config.subscribers.push(Arc::new(subscriber));
        self
    }

    /// Creates the sink and starts its clock.
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
