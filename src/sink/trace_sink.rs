//! [`TraceSink`]: what users ask for traces. What layers ask it for is next to each recorder.

#[cfg(all(unix, feature = "capture"))]
use super::probe::Probe;
#[cfg(feature = "json")]
use super::snapshot::stream::TraceStream;
use super::{
    config::SinkConfig,
    core::Core,
    probe,
    request::{handle::RequestHandle, record::RequestRecord},
    retention::RetainedRecords,
    slice_queue::SliceQueue,
    snapshot,
};
#[cfg(feature = "json")]
use crate::record::with_precise_times;
use crate::record::{EndReason, NetTrace};
#[cfg(feature = "json")]
use std::io::{self, Write as _};
#[cfg(feature = "json")]
use std::sync::Weak;
use std::{sync::Arc, time::Duration};

/// Where instrumentation writes. Cheap to clone; all clones are the same sink.
///
/// Its memory is bounded unless [`Retention::unbounded`](super::Retention::unbounded) is chosen. Traces are taken from it
/// at any time with [`snapshot`](Self::snapshot), which disturbs neither the traffic nor later snapshots.
///
/// ```
/// use nettrace::TraceSink;
///
/// let sink = TraceSink::new();
/// // … give it to the layers, make requests …
/// let trace = sink.snapshot("my request");
/// assert!(trace.http_requests.is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct TraceSink(Option<Arc<RetainedRecords>>);

impl TraceSink {
    /// Creates a sink with the default configuration: bounded, and without the header fields of requests and
    /// responses.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Creates a sink that never records anything.
    ///
    /// Layers that are given one read no clock and allocate nothing.
    pub const fn disabled() -> Self {
        TraceSink(None)
    }

    /// Starts the clock of a sink.
    pub(super) fn start(config: SinkConfig, slice_queues: Vec<SliceQueue>) -> Self {
        let fixed_bytes = config.retention.requests.saturating_mul(RequestRecord::FIXED_BYTES);
        let records = Arc::new(RetainedRecords::new(Core::new(config, slice_queues, fixed_bytes)));
        #[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
        records.watch_stalls();
        TraceSink(Some(records))
    }

    #[cfg(feature = "json")]
    pub(super) fn of(records: Arc<RetainedRecords>) -> Self {
        TraceSink(Some(records))
    }

    #[cfg(feature = "json")]
    pub(super) fn downgrade(&self) -> Weak<RetainedRecords> {
        self.0.as_ref().map(Arc::downgrade).unwrap_or_default()
    }

    /// Stops or resumes recording.
    ///
    /// What has begun before is recorded to its end. Has no effect on a disabled or closed sink.
    pub fn set_enabled(&self, enabled: bool) {
        if let Some(records) = &self.0 {
            records.core.set_on(enabled);
        }
    }

    /// Returns `true` if what begins now is recorded.
    pub fn is_enabled(&self) -> bool {
        self.active().is_some()
    }

    /// Returns a trace of all records that are kept.
    ///
    /// The same record has the same identifier in every trace. Two traces of an idle client differ only in
    /// `traceEndAt`.
    pub fn snapshot(&self, description: impl AsRef<str>) -> NetTrace {
        let Some(records) = &self.0 else {
            return NetTrace { description: description.as_ref().into(), ..NetTrace::default() };
        };
        #[cfg(feature = "_record")]
        records.evict_aged();
        // The groups are read first: then every request that caused one of their dials has begun already.
        let groups = records.groups();
        let mut trace = snapshot::builder::all(&records.core, groups, || records.pin_requests());
        trace.description = description.as_ref().into();
        let of_tcp = trace.tcp_conns.iter().filter_map(|conn| conn.socket_trace.as_ref());
        let of_udp = trace.udp_conns.iter().filter_map(|conn| conn.socket_trace.as_ref());
        trace.dropped = records.dropped(of_tcp.chain(of_udp).map(|ops| ops.dropped_ops).sum());
        trace
    }

    /// Writes a trace of all records that are kept as JSON, record by record.
    ///
    /// It has what [`snapshot`](Self::snapshot) returns, in another order, and takes little memory besides the records: a
    /// reference to each. A request that is in flight meanwhile may lack links to what comes later.
    ///
    /// # Errors
    ///
    /// Returns the first error of `writer`.
    #[cfg(feature = "json")]
    pub fn write_json(&self, description: impl AsRef<str>, writer: impl io::Write) -> io::Result<()> {
        let mut writer = io::BufWriter::new(writer);
        let description = description.as_ref();
        match &self.0 {
            Some(records) => {
                #[cfg(feature = "_record")]
                records.evict_aged();
                let (groups, dropped) = (records.groups(), |socket_ops| records.dropped(socket_ops));
                let requests = || records.pin_requests();
                let stream = TraceStream::new(&records.core, description, groups, requests, &dropped);
                serde_json::to_writer(&mut writer, &stream)?;
            }
            None => serde_json::to_writer(&mut writer, &self.snapshot(description))?,
        }
        writer.flush()
    }

    /// Variant of [`write_json`](Self::write_json) that writes relative times with nanoseconds, which the Go package
    /// cannot read: see [`NetTrace::precise`].
    ///
    /// # Errors
    ///
    /// Returns the first error of `writer`.
    #[cfg(feature = "json")]
    pub fn write_precise_json(&self, description: impl AsRef<str>, writer: impl io::Write) -> io::Result<()> {
        with_precise_times(|| self.write_json(description, writer))
    }

    /// Returns the trace of one request with everything that it refers to: its connections, tunnels and dials, their
    /// DNS messages and failed attempts, and the hops before it.
    ///
    /// The trace is empty if the request was not traced.
    pub fn trace_of(&self, request: &RequestHandle) -> NetTrace {
        request.trace()
    }

    /// Asks the probes to look at the connections again. Await it before a [`snapshot`](Self::snapshot) that should
    /// show what they know now.
    ///
    /// The last packets of TCP come a round trip after a connection was closed, also after `Client::close`. The probes
    /// of this crate wait for them here, so that conntrack entries have their final state and captures are complete.
    /// They return as soon as they have seen the end, and at the latest 200 ms after the close.
    pub async fn refresh(&self) {
        let Some(records) = &self.0 else { return };
        for probe in records.core.probes() {
            probe::refresh_probe(&**probe).await;
        }
    }

    /// Discards what has ended: later traces begin now.
    ///
    /// Open connections are shown again with their dial, DNS messages and tunnels, marked `reused` and with absolute
    /// times. Requests in flight stay.
    pub fn clear(&self) {
        let Some(records) = &self.0 else { return };
        records.clear();
        records.core.begin_anew();
        records.core.probes().iter().for_each(|probe| probe::catch_panic(|| probe.clear()));
    }

    /// Waits until the receivers have the slices of all requests that ended before, see
    /// [`on_slice`](super::TraceSinkBuilder::on_slice). Returns `false` if that takes longer than `timeout`.
    ///
    /// Call it before the process exits, and not in an asynchronous task: it blocks the thread.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.0.as_ref().is_none_or(|records| records.core.flush(timeout))
    }

    /// Stops recording for good: stops probes and subscribers, and ends what is open as `sink-closed`.
    ///
    /// Clients continue, untraced. Traces can still be taken. Closing a second time does nothing.
    ///
    /// The probes look a last time, at what is there now. To include the last packets of connections that were closed
    /// just before, await [`refresh`](Self::refresh) first.
    pub fn close(&self) {
        let Some(records) = &self.0 else { return };
        if !records.core.close() {
            return;
        }
        for request in records.requests() {
            request.end(EndReason::SinkClosed, None);
        }
        for group in records.groups() {
            group.sink_closed();
        }
        records.core.config.probes.iter().for_each(|probe| probe::catch_panic(|| probe.close()));
    }

    /// Returns all probes, also if the sink is closed.
    #[cfg(all(unix, feature = "capture"))]
    pub(crate) fn probes(&self) -> &[Arc<dyn Probe>] {
        self.0.as_ref().map_or(&[], |records| &records.core.config.probes)
    }

    /// Returns `true` if the sink records, or may be switched on to do so.
    #[cfg(any(feature = "debug-page", feature = "reqwest", feature = "tonic"))]
    pub(crate) fn may_record(&self) -> bool {
        self.0.as_ref().is_some_and(|records| !records.core.is_closed())
    }

    /// Returns `true` if the queries of URLs are masked.
    #[cfg(feature = "client")]
    pub(crate) fn masks_queries(&self) -> bool {
        self.0.as_ref().is_some_and(|records| records.core.config.mask_query)
    }

    /// Returns the core of the sink, unless it is disabled.
    #[cfg(feature = "reqwest")]
    pub(super) fn core(&self) -> Option<&Arc<Core>> {
        self.0.as_ref().map(|records| &records.core)
    }

    /// Returns what to record into, if anything is to be recorded.
    #[inline]
    pub(super) fn active(&self) -> Option<&RetainedRecords> {
        self.0.as_deref().filter(|records| records.core.is_on())
    }
}

impl Default for TraceSink {
    fn default() -> Self {
        TraceSink::new()
    }
}
