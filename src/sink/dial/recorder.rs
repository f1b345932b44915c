//! Records dials, as connectors report them.
//!
//! A dial is everything that is done to reach a destination: the lookup of its name, and attempts to connect until one
//! succeeds. [`begin`] starts one. It creates the [`DialGroup`], which holds the dial and every record that belongs to
//! it, and the [`DialRecorder`], which the connector keeps and which ends the dial. Everything below the connector
//! finds the dial through [`DialRef::current`], and adds its records to the group.
//!
//! There are also groups without a dial, for records that belong to none (see [`DialGroup::dial`]). A [`DialRef`] to
//! such a group accepts the same calls, but what it records about the dial itself appears in no trace.

use super::group::{DialGroup, DialHead};
use crate::{
    error::FailureDetail,
    record::{
        EndReason, Failure, Text,
        limits::{LimitedText, MAX_ADDRESS_BYTES},
    },
    scoped,
    sink::{
        clock::Tick,
        conn::{conn_ref::ConnRef, new_record::Endpoint, record::Transport, recorder::ConnRecorder},
        context,
        core::Core,
        probe::catch_panic,
        registry::{batch_alloc::BatchAlloc, end::EndCell},
        request::record::RequestRef,
        snapshot::to_record,
        subscriber::{FinishedRecord, RecordKind},
        trace_sink::TraceSink,
    },
};
#[cfg(feature = "tonic")]
use std::time::Duration;
use std::{cell::Cell, sync::Arc};

impl TraceSink {
    /// Begins a dial to `destination` (`host:port`), or continues the one that had begun before its connector was
    /// called.
    pub(crate) fn dial(&self, destination: impl FnOnce() -> Text) -> DialRecorder {
        let Some(records) = self.active() else { return DialRecorder::default() };
        if let Some(begun) = take_begun_dial(&records.core) {
            return begun;
        }
        let (group, recorder) = begin(&records.core, &records.group_alloc, destination());
        records.add_group(group);
        recorder
    }
}

/// A reference to a dial, for everything below the connector that adds records to it. Empty, and then without effect,
/// if nothing is recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct DialRef(pub(in crate::sink) Option<Arc<DialGroup>>);

impl DialRef {
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

    /// Runs `poll`. Returns its result, and the dials that began in it.
    #[cfg(feature = "tonic")]
    pub(crate) fn collect_begun<R>(poll: impl FnOnce() -> R) -> (R, impl Iterator<Item = DialRef>) {
        let (result, begun) = context::collecting_dials(poll);
        (result, begun.into_iter().map(|group| DialRef(Some(group))))
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

    /// Tells the probes that a connector of another crate is about to connect.
    pub(crate) fn before_foreign_connect(&self) {
        let probes = self.0.0.iter().flat_map(|group| group.core.probes());
        probes.for_each(|probe| catch_panic(|| probe.before_foreign_connect()));
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
    if dial.end.end(at, &reason, fault) {
        group.record_ended();
        if group.core.is_published(RecordKind::Dial, &reason) {
            group.core.publish(|times| {
                let state = group.state().dial.clone();
                FinishedRecord::Dial(to_record::dial(&group.core, dial, state, times))
            });
        }
    }
}

/// Begins a dial to `destination` (`host:port`), on behalf of the current request if there is one.
pub(in crate::sink) fn begin(
    core: &Arc<Core>,
    group_alloc: &BatchAlloc<Arc<DialGroup>>,
    destination: Text,
) -> (Arc<DialGroup>, DialRecorder) {
    let request = context::current_request().filter(|request| request.is_of(core) && request.is_open());
    let trigger = request.as_ref().map(RequestRef::record_id);
    let head = DialHead { proxy: context::current_proxy(), trigger, ..DialHead::new(core, destination) };
    let group = DialGroup::allocate(group_alloc, core, Some(head));
    if let Some(request) = request {
        request.caused_dial(&group);
    }
    #[cfg(feature = "tonic")]
    context::note_begun_dial(&group);
    (group.clone(), DialRecorder::new(group))
}

/// Begins a dial to `destination` (`host:port`) that no request caused, whatever runs in this poll.
#[cfg(feature = "encrypted-dns")]
pub(in crate::sink) fn begin_alone(
    core: &Arc<Core>,
    group_alloc: &BatchAlloc<Arc<DialGroup>>,
    destination: Text,
) -> (Arc<DialGroup>, DialRecorder) {
    let group = DialGroup::allocate(group_alloc, core, Some(DialHead::new(core, destination)));
    (group.clone(), DialRecorder::new(group))
}

impl DialHead {
    /// Returns the facts about a dial that begins now, without a proxy and without a request.
    fn new(core: &Core, destination: Text) -> Self {
        DialHead {
            id: core.id_alloc.next_id(),
            begin: core.now(),
            destination: LimitedText::new(destination, MAX_ADDRESS_BYTES),
            proxy: None,
            trigger: None,
            end: EndCell::default(),
        }
    }
}

thread_local! {
    /// A dial for the next layer that records dials to continue, in place of beginning its own. A proxy connector looks
    /// up a name before it calls the inner connector, and that lookup is a part of the inner connector's dial.
    static BEGUN_DIAL: Cell<Option<DialRecorder>> = const { Cell::new(None) };
}

/// Runs `f`. The first layer in it that records dials continues `dial`. Returns `dial` if there is no such layer.
#[cfg(feature = "proxy")]
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
