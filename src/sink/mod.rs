//! Where instrumentation writes, and where traces come from.
//!
//! A layer asks the sink for a recorder, holds it as long as the thing lives, and dropping it is the end:
//! futures may be dropped at any await point, so nothing depends on code that runs after one.

mod budget;
mod clock;
mod config;
mod conn;
mod context;
mod core;
mod dial;
mod dns;
mod ids;
#[cfg(loom)]
pub mod loom_models;
mod probe;
mod proxy;
mod registry;
mod request;
mod snapshot;
mod subscriber;
mod tls;

#[cfg(all(feature = "_bench", debug_assertions))]
pub(crate) use self::clock::readings;
#[cfg(any(feature = "connect", feature = "tls"))]
pub(crate) use self::conn::identity::describe_conn;
#[cfg(all(feature = "tcp-info", target_os = "linux"))]
pub(crate) use self::conn::probe_data::RawTcpInfo;
#[cfg(feature = "reqwest")]
pub(crate) use self::dial::foreign_dial::ForeignTunnel;
#[cfg(feature = "tonic")]
pub(crate) use self::request::recorder::PendingRequest;
pub(crate) use self::{
    clock::Tick,
    conn::{
        record::{Endpoint, Transport},
        recorder::ConnRecorder,
    },
    dial::{
        attempt::AttemptRecorder,
        recorder::{DialRecorder, DialRef},
    },
    dns::{
        answers::{AnswerHead, AnswerText, AnswerValue, AnswersBuilder},
        record::{DnsQuery, DnsRecorder, DnsReply},
    },
    proxy::recorder::{ProxyName, SocksRecorder},
    request::{
        headers::without_user_info,
        record::{RequestHead, RequestRef},
        recorder::{CurrentRequest, DecodedBodyRecorder, RequestBodyRecorder, RequestRecorder},
    },
    tls::recorder::{PeerChain, TlsFacts, TlsRecorder},
};
pub use self::{
    config::{HeaderCapture, Retention, TraceSinkBuilder},
    conn::record::ConnRef,
    ids::IdFormat,
    probe::{Probe, ProbeEvent, ProbeSocket},
    request::handle::{NotTraced, RequestHandle, ResponseExt},
    subscriber::{FinishedRecord, Subscriber},
};

use self::{
    config::SinkConfig,
    core::Core,
    dial::group::{DialGroup, GroupSlot},
    registry::{Evictable, IdAllocator, Registry, batch_alloc::BatchAlloc},
    request::record::{NewRequest, RequestRecord},
};
use crate::record::{Dropped, EndReason, NetTrace, Text};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Where instrumentation writes. Cheap to clone; all clones are the same sink.
///
/// Its memory is bounded unless [`Retention::unbounded`] is chosen. Traces are taken from it at any time with
/// [`snapshot`](Self::snapshot), which disturbs neither the traffic nor later snapshots.
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
pub struct TraceSink(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    core: Arc<Core>,
    requests: Registry<RequestRecord>,
    groups: Registry<GroupSlot>,
    group_alloc: BatchAlloc<Arc<DialGroup>>,
    /// The order of the groups, which are no records and have no identifier.
    group_order: IdAllocator,
}

impl TraceSink {
    /// A bounded sink that records everything but the values of headers.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// To say what is recorded.
    pub fn builder() -> TraceSinkBuilder {
        TraceSinkBuilder::default()
    }

    /// A sink that never records anything. Layers that are given one do nothing, read no clock and allocate
    /// nothing.
    pub const fn disabled() -> Self {
        TraceSink(None)
    }

    fn start(config: SinkConfig) -> Self {
        let core = Arc::new(Core::new(config));
        let retention = core.config.retention;
        let requests = Registry::new(retention.requests, core.clone());
        let groups = Registry::new(retention.connections, ());
        let group_order = IdAllocator::new();
        let group_alloc = BatchAlloc::new(retention.connections);
        TraceSink(Some(Arc::new(Inner { core, requests, groups, group_alloc, group_order })))
    }

    /// Stops or resumes the recording of what begins from now on. What has begun is recorded to its end.
    /// Without effect on a disabled or closed sink.
    pub fn set_enabled(&self, enabled: bool) {
        if let Some(inner) = &self.0 {
            inner.core.set_on(enabled);
        }
    }

    /// Whether what begins now is recorded.
    pub fn is_enabled(&self) -> bool {
        self.active_core().is_some()
    }

    /// All that is known now. The same records have the same identifiers in every trace; two traces of an idle
    /// client differ in `traceEndAt` alone.
    pub fn snapshot(&self, description: impl AsRef<str>) -> NetTrace {
        let Some(inner) = &self.0 else {
            return NetTrace { description: description.as_ref().into(), ..NetTrace::default() };
        };
        // Before the requests: each that caused a dial had begun then.
        let groups = inner.groups.pin().iter().filter_map(|(_, slot)| slot.group()).collect();
        let mut trace = snapshot::builder::all(&inner.core, groups, || inner.requests.pin());
        trace.description = description.as_ref().into();
        trace.dropped = inner.dropped(&trace);
        trace
    }

    /// The trace of one request with all that it refers to: its connections, tunnels and dials, their DNS
    /// messages and failed attempts, and the hops before it. Empty when the request was not traced.
    pub fn trace_of(&self, request: &RequestHandle) -> NetTrace {
        request.trace()
    }

    /// Has the probes look at the connections again. Await it before a [`snapshot`](Self::snapshot) that should show
    /// what they know now.
    ///
    /// The last packets of TCP come a round trip after a connection was closed: also after `Client::close`. The probes
    /// of this crate wait for them here, so that conntrack entries have their final state and captures are complete.
    /// They return as soon as they have seen the end, and at the latest 200 ms after the close.
    pub async fn refresh(&self) {
        let Some(inner) = &self.0 else { return };
        for probe in inner.core.probes() {
            probe::refresh_probe(&**probe).await;
        }
    }

    /// Starts anew: traces begin now. Connections that are open come back with their dial, names and tunnels,
    /// `reused` and with absolute times; requests in flight stay.
    pub fn clear(&self) {
        let Some(inner) = &self.0 else { return };
        inner.requests.clear();
        inner.groups.clear();
        inner.core.begin_anew();
        inner.core.probes().iter().for_each(|probe| probe::catch_panic(|| probe.clear()));
    }

    /// Ends the recording for good: stops probes and subscribers, ends what is open as `sink-closed`. Clients
    /// go on, untraced. Traces can still be taken. Closing again does nothing.
    ///
    /// The probes look a last time, at what is there now. To have the last packets of connections that were closed just
    /// before, await [`refresh`](Self::refresh) first.
    pub fn close(&self) {
        let Some(inner) = &self.0 else { return };
        if !inner.core.close() {
            return;
        }
        for record in inner.requests.collect() {
            let request = RequestRef { record };
            request.end(EndReason::SinkClosed, None);
        }
        for group in inner.groups.collect().iter().filter_map(|slot| slot.group()) {
            group.sink_closed();
        }
        inner.core.config.probes.iter().for_each(|probe| probe::catch_panic(|| probe.close()));
    }

    /// All probes, also of a sink that was closed.
    #[cfg(all(unix, feature = "capture"))]
    pub(crate) fn probes(&self) -> &[Arc<dyn Probe>] {
        self.0.as_ref().map_or(&[], |inner| &inner.core.config.probes)
    }

    /// Whether it records, or may be switched on to do so.
    #[cfg(any(feature = "reqwest", feature = "tonic"))]
    pub(crate) fn may_record(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| !inner.core.is_closed())
    }

    /// Returns `true` if queries of URLs are not to be shown.
    #[cfg(feature = "client")]
    pub(crate) fn masks_queries(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.core.config.mask_query)
    }

    /// What to record into, if anything is to be recorded.
    #[inline]
    fn active_core(&self) -> Option<&Arc<Core>> {
        self.0.as_ref().map(|inner| &inner.core).filter(|core| core.is_on())
    }

    /// A dial begins, to `host:port`; or goes on that had begun before its connector was called.
    pub(crate) fn dial(&self, destination: impl FnOnce() -> Text) -> DialRecorder {
        let Some(inner) = self.0.as_ref().filter(|inner| inner.core.is_on()) else {
            return DialRecorder::default();
        };
        if let Some(begun) = context::take_begun_dial(&inner.core) {
            return begun;
        }
        let (group, recorder) = dial::recorder::begin(&inner.core, &inner.group_alloc, destination());
        inner.register_group(group);
        recorder
    }

    /// The dial in whose poll we are if it records into this sink, else a place for what begins outside any.
    pub(crate) fn lookup(&self) -> DialRef {
        let Some(inner) = self.0.as_ref().filter(|inner| inner.core.is_on()) else {
            return DialRef::default();
        };
        if let Some(group) = context::current_dial().filter(|group| Arc::ptr_eq(&group.core, &inner.core)) {
            return DialRef(Some(group));
        }
        let group = inner.group_alloc.group(&inner.core, None);
        inner.register_group(group.clone());
        DialRef(Some(group))
    }

    /// A connection was accepted.
    #[cfg(feature = "server")]
    pub(crate) fn accepted(&self, endpoint: impl FnOnce() -> Endpoint) -> ConnRecorder {
        let Some(inner) = self.0.as_ref().filter(|inner| inner.core.is_on()) else {
            return ConnRecorder::off();
        };
        let group = inner.group_alloc.group(&inner.core, None);
        inner.register_group(group.clone());
        ConnRecorder::accepted(group, endpoint())
    }

    /// A TLS handshake begins.
    pub(crate) fn tls(&self, conn: Option<&ConnRef>, server_name: impl FnOnce() -> Text) -> TlsRecorder {
        TlsRecorder::begin(self, conn, false, server_name)
    }

    /// A TLS handshake is expected, as the server of which the client does.
    #[cfg(all(feature = "server", feature = "tls"))]
    pub(crate) fn accept_tls(&self, conn: Option<&ConnRef>) -> TlsRecorder {
        TlsRecorder::begin(self, conn, true, || Text::EMPTY)
    }

    /// A request was handed to a client.
    #[inline]
    pub(crate) fn request(&self, head: &RequestHead<'_>) -> RequestRecorder {
        match &self.0 {
            Some(inner) if self.records_requests() => inner.request(head),
            _ => RequestRecorder::off(),
        }
    }

    /// A CONNECT is sent to a proxy, on a connection to it.
    pub(crate) fn connect(&self, head: &RequestHead<'_>, conn: Option<&ConnRef>) -> RequestRecorder {
        let recorder = self.request(head);
        if let (Some(request), Some(conn)) = (recorder.request(), conn) {
            request.connects(conn);
        }
        recorder
    }

    /// Whether a request that begins now is recorded.
    #[inline]
    pub(crate) fn records_requests(&self) -> bool {
        self.active_core().is_some_and(|core| core.config.http)
    }
}

impl Default for TraceSink {
    fn default() -> Self {
        TraceSink::new()
    }
}

impl Inner {
    fn request(&self, head: &RequestHead<'_>) -> RequestRecorder {
        let beginning = NewRequest::new(&self.core, head);
        let new = || beginning.into_record(head);
        let (record, rolled) = self.requests.add(self.core.id_alloc, new);
        if rolled || self.core.budget.is_exceeded() {
            self.evict_excess();
        }
        let request = RequestRef { record };
        if self.core.is_closed() {
            // Closed since we looked, perhaps without having seen this one.
            request.end(EndReason::SinkClosed, None);
            return RequestRecorder::off();
        }
        RequestRecorder::new(request, head)
    }

    fn register_group(&self, group: Arc<DialGroup>) {
        let (slot, rolled) = self.groups.add(&self.group_order, || GroupSlot::new(group));
        if rolled || self.core.budget.is_exceeded() {
            self.evict_excess();
        }
        if self.core.is_closed()
            && let Some(group) = slot.group()
        {
            // Closed since we looked, perhaps without having seen this one.
            group.sink_closed();
        }
    }

    /// Once in 32 records, and when the budget is exceeded: keeps the bounds. The oldest go first, requests and
    /// connections for themselves; when too many connections are left that requests refer to, more requests go with
    /// theirs.
    #[cold]
    fn evict_excess(&self) {
        let Retention { requests, connections, .. } = self.core.config.retention;
        let ended_conns = || self.core.ended_conns.load(Relaxed);
        while self.requests.listed() > requests.saturating_add(registry::CHUNK)
            && self.requests.evict_oldest()
        {}
        while (self.groups.listed() > connections.saturating_add(registry::CHUNK)
            || ended_conns() > connections)
            && self.groups.evict_oldest()
        {}
        if ended_conns() > connections {
            self.groups.sweep_kept();
        }
        // More than must go, so that this does not come again soon.
        let enough = if ended_conns() > connections { connections - connections / 16 } else { usize::MAX };
        let mut before = usize::MAX;
        while ended_conns() > enough && ended_conns() < before {
            before = ended_conns();
            let evicted = (0..8).filter(|_| self.requests.evict_oldest()).count();
            self.groups.sweep_kept();
            if evicted == 0 {
                break;
            }
        }
        let fixed = self.requests.listed() * RequestRecord::FIXED_BYTES;
        if self.core.budget.is_limited() && self.core.budget.is_due(fixed) {
            self.evict_over_budget();
        }
    }

    /// Evicts the oldest requests and connections, in the order in which they began, until a sixteenth of the budget is
    /// free. What is running stays, and what it needs.
    fn evict_over_budget(&self) {
        let budget = &self.core.budget;
        let fixed = || self.requests.listed() * RequestRecord::FIXED_BYTES;
        let taken = || fixed().saturating_add(budget.charged());
        let limit = budget.limit();
        if taken() > limit {
            let enough = limit - limit / 16;
            while taken() > enough {
                let before = taken();
                // A sweep goes through all connections that outlived their chunk: the more, the rarer.
                let batch = (self.groups.kept() / (4 * registry::CHUNK)).max(4);
                let mut evicted = 0;
                while evicted < batch && taken() > enough && self.evict_oldest() {
                    evicted += 1;
                }
                // With a request goes what no other needs.
                self.groups.sweep_kept();
                if evicted == 0 && taken() >= before {
                    break;
                }
            }
        }
        budget.settle(fixed());
    }

    /// Lets the oldest block of either kind go.
    fn evict_oldest(&self) -> bool {
        let request = self.requests.oldest(|request| request.begin);
        let group = self.groups.oldest(|slot| slot.group().map_or(Tick::NONE, |group| group.begin_at()));
        match (request, group) {
            (None, None) => false,
            (Some(request), Some(group)) if group <= request => self.groups.evict_any(),
            (None, Some(_)) => self.groups.evict_any(),
            (Some(_), _) => self.requests.evict_any(),
        }
    }

    fn dropped(&self, trace: &NetTrace) -> Option<Dropped> {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let of_tcp = trace.tcp_conns.iter().filter_map(|conn| conn.socket_trace.as_ref());
        let of_udp = trace.udp_conns.iter().filter_map(|conn| conn.socket_trace.as_ref());
        let dropped = Dropped {
            http_requests: self.requests.dropped(),
            dials: count(&self.core.drop_counters.dials),
            tcp_conns: count(&self.core.drop_counters.tcp_conns),
            udp_conns: count(&self.core.drop_counters.udp_conns),
            socket_ops: of_tcp.chain(of_udp).map(|ops| ops.dropped_ops).sum(),
        };
        (!dropped.is_empty()).then_some(dropped)
    }
}

impl Drop for Inner {
    /// Breaks the links between requests, so that a long chain of them is not dropped recursively.
    fn drop(&mut self) {
        self.requests.collect().iter().for_each(|record| record.on_evict(&self.core));
    }
}
