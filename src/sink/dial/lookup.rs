//! Records name lookups and the attempts that follow them, as resolvers and connectors report them.
//!
//! A lookup and its attempts belong to the dial that needs them. The dial itself is recorded by
//! [`recorder`](super::recorder).

use super::{
    attempt::AttemptRecorder,
    group::{self, DialGroup, ResolverDial},
    recorder::{DialRecorder, DialRef},
};
use crate::{
    error::{FailureDetail, classify::io_failure_detail},
    nameserver::Nameserver,
    record::{
        EndReason, Failure, TraceId,
        limits::{MAX_REASON_BYTES, limit},
    },
    sink::{
        conn::{
            conn_ref::ConnRef,
            new_record::Endpoint,
            record::{ConnRecord, Transport},
            recorder::ConnRecorder,
        },
        context,
        record_id::RecordId,
        registry::end::End,
        trace_sink::TraceSink,
    },
};
use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
};

impl TraceSink {
    /// Returns the dial in whose poll this is called, if it records into this sink; otherwise a new group for records
    /// outside any dial.
    pub(crate) fn lookup(&self) -> DialRef {
        let Some(records) = self.active() else { return DialRef::default() };
        DialRef(Some(records.current_group().unwrap_or_else(|| records.new_group())))
    }
}

impl DialRef {
    /// Returns the dial in whose poll this is called; an empty reference if there is none.
    pub(crate) fn current() -> Self {
        DialRef(context::current_dial())
    }

    /// Returns the identifier of the dial; the undefined one if there is no dial.
    pub(crate) fn id(&self) -> TraceId {
        self.0.as_ref().map_or_else(TraceId::default, |group| group.core.id(group.dial_id()))
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
    pub(crate) fn resolver_dial(&self, nameserver: &Nameserver) -> ResolverDialRecorder {
        ResolverDialRecorder(self.0.clone().and_then(|group| {
            let index = group.begin_record(|state| {
                let dial = ResolverDial {
                    nameserver: nameserver.clone(),
                    #[cfg(feature = "encrypted-dns")]
                    shared: None,
                    begin: group.core.now(),
                    end: None,
                    conn: None,
                };
                // Usually there are two: A and AAAA records are queried over a socket each.
                group::push_reserving(&mut state.dial.resolver_dials, 2, dial)
            })?;
            Some((group, index))
        }))
    }
}

impl DialRecorder {
    pub(crate) fn source_ip(&self, ip: IpAddr) {
        if let Some(group) = &self.dial().0 {
            group.update_dial(|dial| dial.source_ip = Some(ip));
        }
    }

    /// Begins a TCP handshake.
    pub(crate) fn attempt(&self, remote: SocketAddr) -> AttemptRecorder {
        let from_resolver = false;
        AttemptRecorder::begin(self.dial().0.clone(), remote, from_resolver)
    }
}

/// Records a dial of the resolver: over UDP a connected socket, over TCP one attempt. If it is dropped before that has
/// ended, it is recorded as cancelled.
#[derive(Debug)]
pub(crate) struct ResolverDialRecorder(pub(super) Option<(Arc<DialGroup>, usize)>);

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
    pub(crate) fn udp(self, local: SocketAddr, remote: SocketAddr) -> ConnRecorder {
        let Some((group, _)) = &self.0 else { return ConnRecorder::off() };
        let endpoint = Endpoint { local: Some(local), remote: Some(remote), path: None };
        let conn = ConnRecorder::begin(group.clone(), |core| ConnRecord {
            from_resolver: true,
            ..ConnRecord::new(core, Transport::Udp, endpoint)
        });
        self.connected(&conn);
        conn
    }

    /// Begins the TCP handshake with the nameserver.
    pub(crate) fn tcp(&self, remote: SocketAddr) -> AttemptRecorder {
        match &self.0 {
            Some((group, _)) => {
                let from_resolver = true;
                AttemptRecorder::begin(Some(group.clone()), remote, from_resolver)
            }
            None => AttemptRecorder::off(),
        }
    }

    /// Records that the TCP handshake with the nameserver succeeded. That ends the dial.
    pub(crate) fn connected(mut self, conn: &ConnRecorder) {
        self.end(EndReason::Closed, conn.conn_ref().and_then(ConnRef::record_id), || None);
    }

    pub(super) fn end(
        &mut self,
        reason: EndReason,
        conn: Option<RecordId>,
        fault: impl FnOnce() -> Option<FailureDetail>,
    ) {
        let Some((group, index)) = self.0.take() else { return };
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
