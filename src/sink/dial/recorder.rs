//! Records dials, as connectors and resolvers report them.
//!
//! A dial is everything that is done to reach a destination: the lookup of its name, and attempts to connect until one
//! succeeds. [`begin`] starts one. It creates the [`DialGroup`], which holds the dial and every record that belongs to
//! it, and the [`DialRecorder`], which the connector keeps and which ends the dial. Everything below the connector
//! finds the dial through [`DialRef::current`], and adds its records to the group.
//!
//! There are also groups without a dial, for records that belong to none (see [`DialGroup::dial`]). A [`DialRef`] to
//! such a group accepts the same calls, but what it records about the dial itself appears in no trace.

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

/// A reference to a dial, for everything below the connector that adds records to it. Empty, and then without effect,
/// if nothing is recorded.
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

    /// Reads the clock of the sink; `None` if the dial is not recorded or has ended.
    #[cfg(feature = "reqwest")]
    pub(crate) fn now(&self) -> Option<Tick> {
        let group = self.0.as_ref()?;
        group.dial.as_ref()?.end.is_open().then(|| group.core.now())
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

    /// Ends the dial, unless it has ended: its caller gave up after `timeout`. TCP attempts that are dropped afterwards
    /// are recorded as timed out, too.
    #[cfg(feature = "tonic")]
    pub(crate) fn timed_out(&self, timeout: Duration) {
        let Some(group) = &self.0 else { return };
        group.update_dial(|dial| dial.close_ctx(group.core.now()));
        let text = format!("not connected within {timeout:?}");
        end(group, EndReason::Timeout, Some(FailureDetail::new(Failure::GenericTimeoutError, text)));
    }

    /// Returns the identifier of the dial; the undefined one if there is no dial.
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

    /// Records that a lookup begins. If the name is looked up in several steps, the first begin and the last end count.
    pub(crate) fn resolve_begin(&self) {
        let Some(group) = &self.0 else { return };
        group.update_dial(|dial| {
            dial.resolve_begin.get_or_insert_with(|| group.core.now());
        });
    }

    /// Records that a lookup ends; see [`resolve_begin`](Self::resolve_begin).
    pub(crate) fn resolve_end(&self) {
        let Some(group) = &self.0 else { return };
        group.update_dial(|dial| dial.resolve_end = Some(group.core.now().max_some(dial.resolve_begin)));
    }

    /// Records that a nameserver is skipped. Only the first reason for each nameserver is recorded.
    pub(crate) fn skipped_nameserver(&self, nameserver: SocketAddr, reason: &str) {
        let Some(group) = &self.0 else { return };
        group.update_dial(|dial| {
            if !dial.skipped.iter().any(|(known, _)| *known == nameserver) {
                dial.skipped.push((nameserver, limit(reason, MAX_REASON_BYTES).into()));
            }
        });
    }

    /// Begins a dial of the resolver, to a nameserver.
    pub(crate) fn resolver_dial(&self, nameserver: SocketAddr) -> ResolverDialRecorder {
        ResolverDialRecorder(self.0.clone().and_then(|group| {
            let index = group.begin_record(|state| {
                let dial = ResolverDial { nameserver, begin: group.core.now(), end: None, conn: None };
                // Usually there are two: A and AAAA records are queried over a socket each.
                group::push_reserving(&mut state.dial.resolver_dials, 2, dial)
            })?;
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

    /// Takes the dial out of the recorder. The caller must end it.
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
        let from_resolver = false;
        AttemptRecorder::begin(self.0.0.clone(), remote, from_resolver)
    }

    /// Records a connection that another crate's connector made. When its handshake began is not known: it is recorded
    /// as the end of the lookup, or the begin of the dial if no lookup was recorded. `above_tls` says that the
    /// connector does TLS itself, so that the bytes counted are those inside TLS.
    pub(crate) fn adopt(
        &self,
        transport: Transport,
        endpoint: impl FnOnce() -> Endpoint,
        above_tls: bool,
    ) -> ConnRecorder {
        ConnRecorder::adopt(self.0.0.clone(), transport, endpoint, above_tls)
    }

    /// Ends the dial as successful. `conn` is its connection; `None` if that is not recorded.
    pub(crate) fn established(mut self, conn: Option<&ConnRef>) {
        let Some(group) = self.0.0.take() else { return };
        set_established(&group, conn);
        end(&group, EndReason::Closed, None);
    }

    /// Ends the dial as failed.
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

/// Records the connection of a dial, and whether the request that triggered the dial still waits for it. A client may
/// have given that request another connection in the meantime, and finish the dial on its own.
pub(in crate::sink) fn set_established(group: &DialGroup, conn: Option<&ConnRef>) {
    let is_for_trigger = context::current_request().is_some_and(|request| request.caused(group));
    group.update_dial(|dial| {
        dial.established = conn.and_then(ConnRef::record_id);
        dial.is_for_trigger = is_for_trigger;
    });
}

fn end(group: &Arc<DialGroup>, reason: EndReason, fault: Option<FailureDetail>) {
    end_at(group, || group.core.now(), reason, fault);
}

/// Ends the dial of a group at the time that `at` returns, and publishes it. Does nothing if it has ended.
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

/// Records a dial of the resolver: over UDP a connected socket, over TCP one attempt. If it is dropped before that has
/// ended, it is recorded as cancelled.
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

    /// Records that a UDP socket is connected to the nameserver. That ends the dial: UDP has no handshake.
    pub(crate) fn udp(mut self, local: SocketAddr) -> ConnRecorder {
        let Some((group, _, nameserver)) = &self.0 else { return ConnRecorder::off() };
        let conn = ConnRecorder::udp(group.clone(), local, *nameserver);
        self.end(EndReason::Closed, conn.record_id(), || None);
        conn
    }

    /// Begins the TCP handshake with the nameserver.
    pub(crate) fn tcp(&self) -> AttemptRecorder {
        match &self.0 {
            Some((group, _, nameserver)) => {
                let from_resolver = true;
                AttemptRecorder::begin(Some(group.clone()), *nameserver, from_resolver)
            }
            None => AttemptRecorder::off(),
        }
    }

    /// Records that the TCP handshake with the nameserver succeeded. That ends the dial.
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

/// Begins a dial to `destination` (`host:port`), on behalf of the current request if there is one.
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

thread_local! {
    /// A dial for the next layer that records dials to continue, in place of beginning its own. A proxy connector looks
    /// up a name before it calls the inner connector, and that lookup is a part of the inner connector's dial.
    static BEGUN_DIAL: Cell<Option<DialRecorder>> = const { Cell::new(None) };
}

/// Runs `f`. The first layer in it that records dials continues `dial`. Returns `dial` if there is no such layer.
pub(in crate::sink) fn with_begun_dial<R>(
    dial: DialRecorder,
    f: impl FnOnce() -> R,
) -> (R, Option<DialRecorder>) {
    scoped::scope_and_take(&BEGUN_DIAL, dial, f)
}

/// Takes the dial that [`with_begun_dial`] offers, if it records into the sink of `core`.
pub(in crate::sink) fn take_begun_dial(core: &Arc<Core>) -> Option<DialRecorder> {
    let is_ours = scoped::with_current(&BEGUN_DIAL, |dial| dial.is_of(core)).unwrap_or(false);
    is_ours.then(|| BEGUN_DIAL.take()).flatten()
}
