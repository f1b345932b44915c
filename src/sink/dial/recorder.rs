//! Records dials: what a connector and a resolver report of their work.

use super::{
    attempt::AttemptRecorder,
    group::{self, DialGroup, DialHead, ResolverDial},
};
use crate::{
    error::{FailureDetail, classify::io_failure_detail},
    record::{
        EndReason, Failure, Text, TraceId,
        limits::{LimitedText, MAX_ADDRESS_BYTES, MAX_REASON_BYTES, limit},
    },
    scoped,
    sink::{
        clock::Tick,
        conn::{
            conn_ref::ConnRef,
            record::{Endpoint, Transport},
            recorder::ConnRecorder,
        },
        context,
        core::Core,
        probe::catch_panic,
        record_id::RecordId,
        registry::{
            batch_alloc::BatchAlloc,
            end::{End, EndCell},
        },
        request::record::RequestRef,
        snapshot::to_record,
        subscriber::FinishedRecord,
    },
};
#[cfg(feature = "tonic")]
use std::time::Duration;
use std::{
    cell::Cell,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
};

thread_local! {
    /// A dial that has begun before the layer that records dials was called.
    static BEGUN_DIAL: Cell<Option<DialRecorder>> = const { Cell::new(None) };
}

/// A reference to a running dial: what the current poll works for, and what everything below a connector adds its
/// records to.
#[derive(Clone, Debug, Default)]
pub(crate) struct DialRef(pub(in crate::sink) Option<Arc<DialGroup>>);

impl DialRef {
    /// Returns the dial in whose poll this is called; an empty reference if there is none.
    pub(crate) fn current() -> Self {
        DialRef(context::current_dial())
    }

    #[cfg(feature = "reqwest")]
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Reads the clock of the sink; `None` if nothing is recorded.
    #[cfg(feature = "reqwest")]
    pub(crate) fn now(&self) -> Option<Tick> {
        self.0.as_ref().map(|group| group.core.now())
    }

    /// Runs `f`, a poll, with this dial as the current one.
    pub(crate) fn scope<R>(&self, f: impl FnOnce() -> R) -> R {
        match &self.0 {
            Some(group) => context::with_dial(group, f),
            None => f(),
        }
    }

    /// Returns the connection that the dial has led to, unless it has ended.
    #[cfg(feature = "tonic")]
    pub(crate) fn open_conn(&self) -> Option<ConnRef> {
        let group = self.0.as_ref()?;
        let state = group.state();
        let established = state.dial.established?;
        ConnRef::all(group, &state)
            .find(|conn| conn.record_id() == Some(established) && conn.record().end.is_open())
    }

    /// Ends the dial, unless it has ended, because whoever waited for it stopped after `limit`. Attempts that are
    /// dropped afterwards are recorded as timed out, too.
    #[cfg(feature = "tonic")]
    pub(crate) fn timed_out(&self, limit: Duration) {
        let Some(group) = &self.0 else { return };
        group.update_dial(|dial| dial.close_ctx(group.core.now()));
        let text = format!("not connected within {limit:?}");
        end(group, EndReason::Timeout, Some(FailureDetail::new(Failure::GenericTimeoutError, text)));
    }

    /// Returns the identifier of the dial; the empty one if it is not recorded.
    pub(crate) fn id(&self) -> TraceId {
        self.0.as_ref().map_or_else(TraceId::default, |group| group.core.id(group.dial_id()))
    }

    /// Runs `poll`. Returns its result, and the dials that began in it.
    #[cfg(feature = "tonic")]
    pub(crate) fn collect_begun<R>(poll: impl FnOnce() -> R) -> (R, impl Iterator<Item = DialRef>) {
        let (result, begun) = context::collecting_dials(poll);
        (result, begun.into_iter().map(|group| DialRef(Some(group))))
    }

    /// Polls `future` to its end with this dial as the current one.
    pub(crate) async fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| self.scope(|| future.as_mut().poll(cx))).await
    }

    /// Records that a lookup begins. A name may be looked up in more than one step: the first begin and the last end
    /// count.
    pub(crate) fn resolve_begin(&self) {
        let Some(group) = &self.0 else { return };
        group.update_dial(|dial| {
            dial.resolve_begin.get_or_insert_with(|| group.core.now());
        });
    }

    pub(crate) fn resolve_end(&self) {
        let Some(group) = &self.0 else { return };
        group.update_dial(|dial| dial.resolve_end = Some(group.core.now().max_some(dial.resolve_begin)));
    }

    /// Records that a nameserver is skipped, once for each.
    pub(crate) fn skipped_nameserver(&self, nameserver: SocketAddr, reason: &str) {
        let Some(group) = &self.0 else { return };
        group.update_dial(|dial| {
            if !dial.skipped.iter().any(|(known, _)| *known == nameserver) {
                dial.skipped.push((nameserver, limit(reason, MAX_REASON_BYTES).into()));
            }
        });
    }

    /// Begins an attempt to reach a nameserver.
    pub(crate) fn resolver_dial(&self, nameserver: SocketAddr) -> ResolverDialRecorder {
        ResolverDialRecorder(self.0.clone().and_then(|group| {
            let begin = group.core.now();
            let dial = ResolverDial { nameserver, begin, end: None, conn: None };
            // One for each address family.
            let index =
                group.begin_record(|state| group::push_reserving(&mut state.dial.resolver_dials, 2, dial))?;
            Some((group, index, nameserver))
        }))
    }
}

/// Records a dial, held by its future. If it is dropped before the dial has ended, the dial is recorded as cancelled.
#[derive(Debug, Default)]
pub(crate) struct DialRecorder(DialRef);

impl DialRecorder {
    pub(in crate::sink) fn new(group: Arc<DialGroup>) -> Self {
        DialRecorder(DialRef(Some(group)))
    }

    /// Takes the dial, to be ended by the caller.
    #[cfg(feature = "reqwest")]
    pub(in crate::sink) fn take(&mut self) -> Option<Arc<DialGroup>> {
        self.0.0.take()
    }

    pub(crate) fn dial(&self) -> &DialRef {
        &self.0
    }

    pub(in crate::sink) fn is_of(&self, core: &Arc<Core>) -> bool {
        self.0.0.as_ref().is_some_and(|group| Arc::ptr_eq(&group.core, core))
    }

    pub(crate) fn source_ip(&self, ip: IpAddr) {
        if let Some(group) = &self.0.0 {
            group.update_dial(|dial| dial.source_ip = Some(ip));
        }
    }

    /// Tells the probes that a connector of another crate is about to connect.
    pub(crate) fn before_foreign_connect(&self) {
        let probes = self.0.0.iter().flat_map(|group| group.core.probes());
        probes.for_each(|probe| catch_panic(|| probe.before_foreign_connect()));
    }

    /// Begins a TCP handshake.
    pub(crate) fn attempt(&self, remote: SocketAddr) -> AttemptRecorder {
        AttemptRecorder::begin(self.0.0.clone(), remote, false)
    }

    /// Records a connection that another crate's connector made. As far as is known, its handshake took the whole dial.
    pub(crate) fn adopt(
        &self,
        transport: Transport,
        endpoint: impl FnOnce() -> Endpoint,
        above_tls: bool,
    ) -> ConnRecorder {
        ConnRecorder::adopt(self.0.0.clone(), transport, endpoint, above_tls)
    }

    pub(crate) fn established(mut self, conn: Option<&ConnRef>) {
        let Some(group) = self.0.0.take() else { return };
        set_established(&group, conn);
        end(&group, EndReason::Closed, None);
    }

    pub(crate) fn failed(mut self, fault: impl FnOnce() -> FailureDetail) {
        let Some(group) = self.0.0.take() else { return };
        let fault = fault();
        end(&group, fault.end_reason(), Some(fault));
    }
}

impl Drop for DialRecorder {
    fn drop(&mut self) {
        let Some(group) = self.0.0.take() else { return };
        group.update_dial(|dial| dial.close_ctx(group.core.now()));
        let fault = FailureDetail::new(Failure::Interrupted, "the dial was given up");
        end(&group, EndReason::Cancelled, Some(fault));
    }
}

pub(in crate::sink) fn set_established(group: &DialGroup, conn: Option<&ConnRef>) {
    let is_for_trigger = context::current_request().is_some_and(|request| request.caused(group));
    group.update_dial(|dial| {
        (dial.established, dial.is_for_trigger) = (conn.and_then(ConnRef::record_id), is_for_trigger);
    });
}

fn end(group: &Arc<DialGroup>, reason: EndReason, fault: Option<FailureDetail>) {
    end_at(group, || group.core.now(), reason, fault);
}

pub(in crate::sink) fn end_at(
    group: &Arc<DialGroup>,
    at: impl FnOnce() -> Tick,
    reason: EndReason,
    fault: Option<FailureDetail>,
) {
    let Some(dial) = group.dial.as_ref().filter(|dial| dial.end.is_open()) else { return };
    let at = at().max(dial.begin);
    group.update_dial(|dial| dial.end_resolve(at));
    if dial.end.end(at, reason, fault) {
        group.record_ended();
        group.core.publish(|times| {
            let state = group.state().dial.clone();
            FinishedRecord::Dial(to_record::dial(&group.core, dial, state, times))
        });
    }
}

/// Records an attempt to reach a nameserver. If it is dropped before the attempt has ended, the attempt was abandoned.
#[derive(Debug)]
pub(crate) struct ResolverDialRecorder(Option<(Arc<DialGroup>, usize, SocketAddr)>);

impl ResolverDialRecorder {
    pub(crate) fn failed(mut self, error: &io::Error) {
        self.end(EndReason::Failed, None, || Some(io_failure_detail(error)));
    }

    pub(crate) fn timed_out(mut self) {
        self.end(EndReason::Timeout, None, || {
            Some(FailureDetail::new(Failure::GenericTimeoutError, "timed out"))
        });
    }

    /// Records that a UDP socket is connected to the nameserver, which is all that is needed to reach it.
    pub(crate) fn udp(mut self, local: SocketAddr) -> ConnRecorder {
        let Some((group, _, nameserver)) = &self.0 else { return ConnRecorder::off() };
        let conn = ConnRecorder::udp(group.clone(), local, *nameserver);
        self.end(EndReason::Closed, conn.record_id(), || None);
        conn
    }

    /// Begins the TCP handshake with the nameserver.
    pub(crate) fn tcp(&self) -> AttemptRecorder {
        match &self.0 {
            Some((group, _, nameserver)) => AttemptRecorder::begin(Some(group.clone()), *nameserver, true),
            None => AttemptRecorder::off(),
        }
    }

    /// Records that the nameserver is reached.
    pub(crate) fn connected(mut self, conn: &ConnRecorder) {
        self.end(EndReason::Closed, conn.record_id(), || None);
    }

    fn end(
        &mut self,
        reason: EndReason,
        conn: Option<RecordId>,
        fault: impl FnOnce() -> Option<FailureDetail>,
    ) {
        let Some((group, index, _)) = self.0.take() else { return };
        let ended = {
            let mut state = group.state();
            let dial = state.dial.resolver_dials.get_mut(index).filter(|dial| dial.end.is_none());
            dial.map(|dial| {
                dial.end = Some(End { at: group.core.now().max(dial.begin), reason, fault: fault() });
                dial.conn = conn;
            })
        };
        if ended.is_some() {
            group.record_ended();
        }
    }
}

impl Drop for ResolverDialRecorder {
    fn drop(&mut self) {
        self.end(EndReason::Cancelled, None, || Some(FailureDetail::new(Failure::Interrupted, "given up")));
    }
}

/// Begins a dial.
pub(in crate::sink) fn begin(
    core: &Arc<Core>,
    group_alloc: &BatchAlloc<Arc<DialGroup>>,
    destination: Text,
) -> (Arc<DialGroup>, DialRecorder) {
    let request = context::current_request().filter(|request| request.is_of(core) && request.is_open());
    let head = DialHead {
        id: core.id_alloc.next_id(),
        begin: core.now(),
        destination: LimitedText::new(destination, MAX_ADDRESS_BYTES),
        proxy: context::current_proxy(),
        trigger: request.as_ref().map(RequestRef::record_id),
        end: EndCell::default(),
    };
    let group = DialGroup::allocate(group_alloc, core, Some(head));
    if let Some(request) = request {
        request.caused_dial(&group);
    }
    #[cfg(feature = "tonic")]
    context::note_begun_dial(&group);
    (group.clone(), DialRecorder::new(group))
}

/// Runs `f` with a dial that has begun: the next layer that records dials continues it. Returns the dial if none did.
pub(in crate::sink) fn with_begun_dial<R>(
    dial: DialRecorder,
    f: impl FnOnce() -> R,
) -> (R, Option<DialRecorder>) {
    scoped::scope_and_take(&BEGUN_DIAL, dial, f)
}

/// Takes the dial that has begun, if it records into the sink of `core`.
pub(in crate::sink) fn take_begun_dial(core: &Arc<Core>) -> Option<DialRecorder> {
    let is_ours = scoped::with_current(&BEGUN_DIAL, |dial| dial.is_of(core)).unwrap_or(false);
    is_ours.then(|| BEGUN_DIAL.take()).flatten()
}
