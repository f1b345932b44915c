//! Recorders of dials: what a connector and a resolver say of their work.

use super::{
    clock::Tick,
    conn::{AttemptRecorder, ConnRecorder, ConnRef, Endpoint, Transport},
    core::Core,
    export,
    group::{Group, ResolverDial},
    scope,
    subscriber::FinishedRecord,
};
use crate::{
    error::{Fault, classify::io_fault},
    record::{EndReason, Failure, TraceId},
};
use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
};

/// A running dial: what a poll scope carries, and what everything below a connector hangs its records on.
#[derive(Clone, Debug, Default)]
pub(crate) struct DialRef(pub(super) Option<Arc<Group>>);

impl DialRef {
    /// The dial in whose poll we are; off when there is none.
    pub(crate) fn current() -> Self {
        DialRef(scope::dial())
    }

    /// Runs `f`, a poll, with this dial as the current one.
    pub(crate) fn scope<R>(&self, f: impl FnOnce() -> R) -> R {
        match &self.0 {
            Some(group) => scope::with_dial(group, f),
            None => f(),
        }
    }

    /// The identifier of the dial; empty when it is not recorded.
    pub(crate) fn id(&self) -> TraceId {
        self.0.as_ref().map_or_else(TraceId::default, |group| group.core.id(group.dial_number()))
    }

    /// Polls `future` to its end with this dial as the current one.
    pub(crate) async fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| self.scope(|| future.as_mut().poll(cx))).await
    }

    /// Begins with the first, ends with the last: a name may be looked up in more than one step.
    pub(crate) fn resolve_begin(&self) {
        let Some(group) = &self.0 else { return };
        let now = group.core.now();
        let mut state = group.state();
        if !state.resolve_begin.is_some() {
            state.resolve_begin = now;
        }
    }

    pub(crate) fn resolve_end(&self) {
        let Some(group) = &self.0 else { return };
        let now = group.core.now();
        group.state().resolve_end = now;
    }

    /// Recorded once for each nameserver.
    pub(crate) fn skipped_nameserver(&self, nameserver: SocketAddr, reason: &str) {
        let Some(group) = &self.0 else { return };
        let mut state = group.state();
        if !state.skipped.iter().any(|(known, _)| *known == nameserver) {
            state.skipped.push((nameserver, reason.into()));
        }
    }

    /// An attempt to reach a nameserver begins.
    pub(crate) fn resolver_dial(&self, nameserver: SocketAddr) -> ResolverDialRecorder {
        ResolverDialRecorder(self.0.clone().map(|group| {
            group.begun();
            let begin = group.core.now();
            let mut state = group.state();
            state.resolver_dials.push(ResolverDial {
                nameserver,
                begin,
                end: Tick::NONE,
                fault: None,
                conn: 0,
            });
            let index = state.resolver_dials.len() - 1;
            drop(state);
            (group, index, nameserver)
        }))
    }
}

/// Held by the future of a dial; dropped before the dial has ended it says `cancelled`.
#[derive(Debug, Default)]
pub(crate) struct DialRecorder(DialRef);

impl DialRecorder {
    pub(super) fn new(group: Arc<Group>) -> Self {
        DialRecorder(DialRef(Some(group)))
    }

    pub(crate) fn dial(&self) -> &DialRef {
        &self.0
    }

    pub(crate) fn source_ip(&self, ip: IpAddr) {
        if let Some(group) = &self.0.0 {
            group.state().source_ip = Some(ip);
        }
    }

    /// A TCP handshake begins.
    pub(crate) fn attempt(&self, remote: SocketAddr) -> AttemptRecorder {
        AttemptRecorder::begin(self.0.0.clone(), remote, false)
    }

    /// A connection that somebody else made: its handshake took the whole dial as far as is known.
    pub(crate) fn adopt(&self, transport: Transport, endpoint: Endpoint, above_tls: bool) -> ConnRecorder {
        ConnRecorder::adopt(self.0.0.clone(), transport, endpoint, above_tls)
    }

    pub(crate) fn established(mut self, conn: Option<&ConnRef>) {
        let Some(group) = self.0.0.take() else { return };
        group.state().established = conn.map_or(0, ConnRef::number);
        end(&group, EndReason::Closed, None);
    }

    pub(crate) fn failed(mut self, failure: Failure, text: &str) {
        let Some(group) = self.0.0.take() else { return };
        let fault = Fault::new(failure, text);
        end(&group, fault.end_reason(), Some(fault));
    }
}

impl Drop for DialRecorder {
    fn drop(&mut self) {
        let Some(group) = self.0.0.take() else { return };
        group.let_go(group.core.now());
        let fault = Fault::new(Failure::Interrupted, "the dial was given up");
        end(&group, EndReason::Cancelled, Some(fault));
    }
}

fn end(group: &Arc<Group>, reason: EndReason, fault: Option<Fault>) {
    let Some(dial) = &group.dial else { return };
    if dial.end.end(group.core.now().max(dial.begin), reason, fault) {
        group.ended();
        group.core.publish(|| export::dial(group, &group.core.timeline()).map(FinishedRecord::Dial));
    }
}

/// One attempt to reach a nameserver; dropped before it has ended it was given up.
#[derive(Debug)]
pub(crate) struct ResolverDialRecorder(Option<(Arc<Group>, usize, SocketAddr)>);

impl ResolverDialRecorder {
    pub(crate) fn failed(mut self, error: &io::Error) {
        self.end(Some(io_fault(error)), 0);
    }

    pub(crate) fn timed_out(mut self) {
        self.end(Some(Fault::new(Failure::GenericTimeoutError, "timed out")), 0);
    }

    /// A UDP socket is connected to the nameserver: nothing more is to be done to reach it.
    pub(crate) fn udp(mut self, local: SocketAddr) -> ConnRecorder {
        let Some((group, _, nameserver)) = &self.0 else { return ConnRecorder::off() };
        let conn = ConnRecorder::udp(group.clone(), local, *nameserver);
        self.end(None, conn.number());
        conn
    }

    /// The TCP handshake with the nameserver begins.
    pub(crate) fn tcp(&self) -> AttemptRecorder {
        match &self.0 {
            Some((group, _, nameserver)) => AttemptRecorder::begin(Some(group.clone()), *nameserver, true),
            None => AttemptRecorder::off(),
        }
    }

    /// The nameserver is reached.
    pub(crate) fn connected(mut self, conn: &ConnRecorder) {
        self.end(None, conn.number());
    }

    fn end(&mut self, fault: Option<Fault>, conn: u64) {
        let Some((group, index, _)) = self.0.take() else { return };
        let now = group.core.now();
        if let Some(dial) = group.state().resolver_dials.get_mut(index).filter(|dial| !dial.end.is_some()) {
            (dial.end, dial.fault, dial.conn) = (now.max(dial.begin), fault, conn);
        }
        group.ended();
    }
}

impl Drop for ResolverDialRecorder {
    fn drop(&mut self) {
        self.end(Some(Fault::new(Failure::Interrupted, "given up")), 0);
    }
}

/// What the sink knows when a dial begins.
pub(super) fn begin(core: &Arc<Core>, destination: String) -> (Arc<Group>, DialRecorder) {
    let request = scope::request().filter(|request| Arc::ptr_eq(&request.core, core));
    let head = super::group::DialHead {
        number: core.numbers.one(),
        begin: core.now(),
        destination: destination.into(),
        trigger: request.as_ref().map_or(0, |request| request.number()),
        end: Default::default(),
    };
    let group = Group::new(core.clone(), Some(head));
    if let Some(request) = request {
        request.caused(&group);
    }
    (group.clone(), DialRecorder::new(group))
}
