//! [`TraceSink`]: what layers ask for recorders, and users for traces.

#[cfg(feature = "server")]
use super::conn::{record::Endpoint, recorder::ConnRecorder};
#[cfg(all(unix, feature = "capture"))]
use super::probe::Probe;
use super::{
    config::SinkConfig,
    conn::conn_ref::ConnRef,
    context,
    core::Core,
    dial::{
        group::DialGroup,
        recorder::{self, DialRecorder, DialRef},
    },
    probe,
    request::{
        handle::RequestHandle,
        new_request::{NewRequest, RequestHead},
        record::RequestRecord,
        recorder::RequestRecorder,
    },
    retention::RetainedRecords,
    snapshot,
    tls::recorder::TlsRecorder,
};
use crate::record::{EndReason, NetTrace, Text};
use std::sync::Arc;

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
    pub(super) fn start(config: SinkConfig) -> Self {
        let fixed_bytes = config.retention.requests.saturating_mul(RequestRecord::FIXED_BYTES);
        TraceSink(Some(Arc::new(RetainedRecords::new(Core::new(config, fixed_bytes)))))
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
        // The groups are read first: then every request that caused one of their dials has begun already.
        let groups = records.groups();
        let mut trace = snapshot::builder::all(&records.core, groups, || records.pin_requests());
        trace.description = description.as_ref().into();
        trace.dropped = records.dropped(&trace);
        trace
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
    #[cfg(any(feature = "reqwest", feature = "tonic"))]
    pub(crate) fn may_record(&self) -> bool {
        self.0.as_ref().is_some_and(|records| !records.core.is_closed())
    }

    /// Returns `true` if the queries of URLs are masked.
    #[cfg(feature = "client")]
    pub(crate) fn masks_queries(&self) -> bool {
        self.0.as_ref().is_some_and(|records| records.core.config.mask_query)
    }

    /// Returns `true` if a request that begins now is recorded.
    #[inline]
    pub(crate) fn records_requests(&self) -> bool {
        self.active().is_some_and(|records| records.core.config.http)
    }

    /// Begins a dial to `destination` (`host:port`), or continues the one that had begun before its connector was
    /// called.
    pub(crate) fn dial(&self, destination: impl FnOnce() -> Text) -> DialRecorder {
        let Some(records) = self.active() else { return DialRecorder::default() };
        if let Some(begun) = recorder::take_begun_dial(&records.core) {
            return begun;
        }
        let (group, recorder) = recorder::begin(&records.core, &records.group_alloc, destination());
        records.add_group(group);
        recorder
    }

    /// Returns the dial in whose poll this is called, if it records into this sink; otherwise a new group for records
    /// outside any dial.
    pub(crate) fn lookup(&self) -> DialRef {
        let Some(records) = self.active() else { return DialRef::default() };
        DialRef(Some(current_group(records).unwrap_or_else(|| new_group(records))))
    }

    /// Records a connection that was accepted.
    #[cfg(feature = "server")]
    pub(crate) fn accepted(&self, endpoint: impl FnOnce() -> Endpoint) -> ConnRecorder {
        let Some(records) = self.active() else { return ConnRecorder::off() };
        ConnRecorder::accepted(new_group(records), endpoint())
    }

    /// Begins a TLS handshake of a client.
    pub(crate) fn tls(&self, conn: Option<&ConnRef>, server_name: impl FnOnce() -> Text) -> TlsRecorder {
        self.begin_tls(conn, false, server_name)
    }

    /// Begins a TLS handshake of a server, which the client will start.
    #[cfg(all(feature = "server", feature = "tls"))]
    pub(crate) fn accept_tls(&self, conn: Option<&ConnRef>) -> TlsRecorder {
        self.begin_tls(conn, true, || Text::EMPTY)
    }

    fn begin_tls(
        &self,
        conn: Option<&ConnRef>,
        accepted: bool,
        server_name: impl FnOnce() -> Text,
    ) -> TlsRecorder {
        let Some(records) = self.active().filter(|records| records.core.config.tls) else {
            return TlsRecorder::off();
        };
        // A connection of another sink has no record in this one.
        match conn.filter(|conn| conn.is_of(&records.core)) {
            Some(conn) => TlsRecorder::begin(conn.clone(), accepted, server_name()),
            None => {
                let group = current_group(records).unwrap_or_else(|| new_group(records));
                TlsRecorder::begin_over_unknown(group, accepted, server_name())
            }
        }
    }

    /// Begins a request that was handed to a client, or came to a server.
    #[inline]
    pub(crate) fn request(&self, head: &RequestHead<'_>) -> RequestRecorder {
        match &self.0 {
            Some(records) if self.records_requests() => begin_request(records, head),
            _ => RequestRecorder::off(),
        }
    }

    /// Begins a CONNECT request, sent to a proxy on the connection to it.
    pub(crate) fn connect(&self, head: &RequestHead<'_>, conn: Option<&ConnRef>) -> RequestRecorder {
        let recorder = self.request(head);
        if let (Some(request), Some(conn)) = (recorder.request(), conn) {
            request.connects(conn);
        }
        recorder
    }

    /// Returns the core of the sink, unless it is disabled.
    #[cfg(feature = "reqwest")]
    pub(super) fn core(&self) -> Option<&Arc<Core>> {
        self.0.as_ref().map(|records| &records.core)
    }

    /// Returns what to record into, if anything is to be recorded.
    #[inline]
    fn active(&self) -> Option<&RetainedRecords> {
        self.0.as_deref().filter(|records| records.core.is_on())
    }
}

impl Default for TraceSink {
    fn default() -> Self {
        TraceSink::new()
    }
}

fn begin_request(records: &RetainedRecords, head: &RequestHead<'_>) -> RequestRecorder {
    let new = NewRequest::new(&records.core, head);
    let request = records.add_request(|| new.into_record(head));
    if records.core.is_closed() {
        // `TraceSink::close` may have run since the caller checked, without having seen this request.
        request.end(EndReason::SinkClosed, None);
        return RequestRecorder::off();
    }
    RequestRecorder::new(request, head)
}

/// Returns the group of the dial in whose poll this is called, if it records into the same sink.
fn current_group(records: &RetainedRecords) -> Option<Arc<DialGroup>> {
    context::current_dial().filter(|group| Arc::ptr_eq(&group.core, &records.core))
}

/// Adds a group for records outside any dial.
fn new_group(records: &RetainedRecords) -> Arc<DialGroup> {
    let group = DialGroup::allocate(&records.group_alloc, &records.core, None);
    records.add_group(group.clone());
    group
}
