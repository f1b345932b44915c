//! The builder of a [`TraceSink`]: the one place to configure what is recorded.

#[cfg(feature = "json")]
use super::dump::{Dump, DumpReceiver, DumpedSink};
use super::{
    config::{HeaderCapture, Retention, SinkConfig},
    ids::IdFormat,
    probe::Probe,
    slice::{Slice, SliceReceiver},
    slice_filter::SliceFilter,
    slice_queue::{PendingReceiver, Receiver, SliceQueue},
    subscriber::Subscriber,
    trace_sink::TraceSink,
};
use http::HeaderName;
use std::{sync::Arc, time::Duration};

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
    receivers: Vec<PendingReceiver>,
    #[cfg(feature = "json")]
    dumped_sink: DumpedSink,
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

    /// Sets the time without progress after which a request counts as stalled. None by default.
    ///
    /// The probes then look at its connection ([`ProbeEvent::Stalled`](super::ProbeEvent::Stalled)), once until the request
    /// makes progress again. A request without a connection is not looked at.
    ///
    /// A thread of the sink checks the requests in flight in intervals of a quarter of the time, of 5 ms at least and one
    /// second at most. So a stall is found up to an interval late.
    ///
    /// Linux only, with one of the features `tcp-info` and `conntrack`; elsewhere it has no effect.
    pub fn stalled_after(mut self, time: Duration) -> Self {
        self.config.stalled_after = Some(time);
        self
    }

    /// Adds a subscriber, which is handed every record as it ends.
    pub fn subscriber(mut self, subscriber: impl Subscriber) -> Self {
        self.config.subscribers.push(Arc::new(subscriber));
        self
    }

    /// Hands the slices of the finished requests that `filter` chooses to `receiver`, on a thread of its own.
    ///
    /// A slice is handed over soon after its request has ended, in batches. [`TraceSink::flush`] waits for that. If the
    /// receiver is slower than the traffic, 4,096 requests wait and further ones are
    /// [lost](SliceReceiver::lost) to it, though not to the sink. What the receiver itself sends must not be recorded by
    /// the same sink if the filter could choose it.
    ///
    /// ```
    /// use nettrace::{Slice, SliceFilter, TraceSink};
    ///
    /// let sink = TraceSink::builder()
    ///     .on_slice(SliceFilter::none().failed(true), |slice: Slice| eprintln!("{}", slice.request().req_url))
    ///     .build();
    /// ```
    pub fn on_slice(mut self, filter: SliceFilter, receiver: impl SliceReceiver) -> Self {
        self.receivers.push(PendingReceiver::new(filter, Receiver::Receive(Box::new(receiver))));
        self
    }

    /// Keeps requests longer for whose slices `keep` returns `true`, like those that [`Retention::keep`] chooses. It is
    /// called on a thread of its own with the slices of the finished requests that `filter` chooses.
    ///
    /// ```
    /// use nettrace::{Slice, SliceFilter, TraceSink};
    ///
    /// let is_large = |slice: &Slice| slice.request().resp_content_len > 1 << 20;
    /// let sink = TraceSink::builder().keep_if(SliceFilter::all(), is_large).build();
    /// ```
    pub fn keep_if(mut self, filter: SliceFilter, keep: impl FnMut(&Slice) -> bool + Send + 'static) -> Self {
        self.receivers.push(PendingReceiver::new(filter, Receiver::Keep(Box::new(keep))));
        self
    }

    /// Writes the trace to a directory when requests fail, or for another reason that `dump` has. Errors are reported
    /// through `tracing` (target `nettrace`).
    #[cfg(feature = "json")]
    pub fn dump(self, dump: Dump) -> Self {
        let (filter, sink) = (dump.filter(), self.dumped_sink.clone());
        self.on_slice(filter, DumpReceiver::new(dump, sink))
    }

    /// Creates the sink and starts its clock.
    pub fn build(self) -> TraceSink {
        #[cfg(feature = "explain")]
        if self.config.retention.keep.needs_verdict() {
            let with_findings = SliceFilter::none().with_findings(true);
            return self.keep_if(with_findings, |_| true).start();
        }
        self.start()
    }

    fn start(self) -> TraceSink {
        let queues = self.receivers.into_iter().filter_map(SliceQueue::start).collect();
        let sink = TraceSink::start(self.config, queues);
        #[cfg(feature = "json")]
        let _ = self.dumped_sink.set(sink.downgrade());
        sink
    }
}

impl TraceSink {
    /// Returns a builder that configures what is recorded.
    pub fn builder() -> TraceSinkBuilder {
        TraceSinkBuilder::default()
    }
}
