//! The times of a request, from its state and that of its dial: the same that its records have in a trace. Reading them
//! is far cheaper than putting the records together.

use super::{
    extras::{RequestLinks, linked_groups, path},
    record::{RequestRecord, RequestRef},
};
use crate::{
    record::{AttemptTimes, DialTimes, EndReason, Phase, RequestTimes, Timings, is_host_name},
    sink::{
        clock::{AtomicTick, Tick},
        conn::{
            conn_ref::ConnLink,
            record::{ConnPath, ConnRecord},
        },
        core::Core,
        dial::group::{DialGroup, GroupState},
        record_id::RecordId,
        registry::end::{End, EndCell},
    },
};
use std::sync::{Arc, atomic::Ordering::Relaxed};

impl RequestRef {
    /// Returns the durations of the phases, as [`HttpReqTrace::timings`](crate::record::HttpReqTrace::timings) computes
    /// them from the records.
    pub(in crate::sink) fn timings(&self) -> Timings {
        self.times().timings()
    }

    fn times(&self) -> RequestTimes {
        let (core, record): (_, &RequestRecord) = (self.core(), &self.record);
        // The end is read before the rest: what belongs to a request that has ended is then complete.
        let end = record.end.get();
        let seen = |at: &AtomicTick| at.get().filter(|at| end.as_ref().is_none_or(|end| *at <= end.at));
        let acquired = seen(&record.conn_acquired);
        let response_end = seen(&record.response_end);
        let has_ended_well =
            end.as_ref().is_some_and(|end| matches!(end.reason, EndReason::Closed | EndReason::Unobserved));
        // The length after decoding is stored plus one.
        let is_nothing_received = record.received.load(Relaxed) == 0 && record.decoded.load(Relaxed) <= 1;
        RequestTimes {
            begin: nanos(core, record.begin),
            acquired: acquired.map(|at| nanos(core, at)),
            body_end: if record.has_body { seen(&record.body_end) } else { acquired }
                .map(|at| nanos(core, at)),
            response: seen(&record.response_head).map(|at| nanos(core, at)),
            response_end: response_end.map(|at| nanos(core, at)),
            end: end.as_ref().and_then(end_at).map(|at| nanos(core, at)),
            is_response_body_unobserved: is_nothing_received && response_end.is_none() && has_ended_well,
            dial: OwnDial::of(self).map(|dial| dial.times()),
        }
    }
}

/// The dial that a request caused and that made its connection, or failed to.
struct OwnDial {
    group: Arc<DialGroup>,
    /// How far the request came.
    path: ConnPath,
    /// Each CONNECT that was made for the request.
    connects: Vec<RequestRef>,
}

impl OwnDial {
    fn of(request: &RequestRef) -> Option<Self> {
        let id = request.record_id();
        request.record.with_links(|conn, links| {
            let path = path(conn, links);
            let group = dial_of_path(conn, links, path, id)?.clone();
            let extras = links.and_then(|links| links.extras.as_deref());
            let connects = extras.map(|extras| extras.connects.iter().cloned().collect());
            Some(OwnDial { group, path, connects: connects.unwrap_or_default() })
        })
    }

    fn times(&self) -> DialTimes {
        let group = &*self.group;
        let state = group.state();
        let at = |tick: Option<Tick>| tick.map(|tick| nanos(&group.core, tick));
        let head = group.dial.as_ref();
        let established = state.dial.established;
        let established = group.conns(&state).find(|conn| established.is_some() && conn.id == established);
        let end = head.and_then(|head| head.end.get());
        let is_unix = established.is_some_and(|conn| conn.path.is_some());
        let is_lookup_unobserved = end.is_some()
            && state.dial.resolve_begin.is_none()
            && state.dial.resolver_dials.is_empty()
            && !is_unix
            && head.is_some_and(|head| is_host_name(head.destination.text()));
        DialTimes {
            begin: at(head.map(|head| head.begin)),
            end: at(end.as_ref().and_then(end_at)),
            resolve_begin: at(state.dial.resolve_begin),
            resolve_end: at(state.dial.resolve_end),
            attempt: attempt(group, &state, established),
            is_lookup_unobserved,
            proxy: established.and_then(|conn| self.proxy(conn)),
            handshakes: self.tunnels(&state, established.and_then(|conn| conn.id)).collect(),
        }
    }

    fn proxy(&self, established: &ConnRecord) -> Option<Phase> {
        let core = &self.group.core;
        if let Some(socks) = established.socks() {
            return Some(phase(core, socks.begin, &socks.end));
        }
        let connect = self.connects.iter().find(|connect| {
            connect.record.with_links(|conn, links| path(conn, links).conn == established.id)
        })?;
        Some(phase(core, connect.record.begin, &connect.record.end))
    }

    /// Returns the handshakes of the tunnels over which the request was sent. A request that failed or was dropped during
    /// the handshake may have no link to the tunnel.
    fn tunnels<'a>(
        &'a self,
        state: &'a GroupState,
        established: Option<RecordId>,
    ) -> impl Iterator<Item = Phase> + 'a {
        let linked = [self.path.proxy_tls, self.path.tls];
        let is_unlinked = linked.iter().all(Option::is_none);
        let core = &self.group.core;
        let is_own = move |id, conn| match is_unlinked {
            true => established.is_some() && conn == established,
            false => linked.contains(&Some(id)),
        };
        let tunnels = state.tls.iter().filter(move |tls| is_own(tls.id, tls.conn));
        tunnels.map(|tls| Phase {
            begin: nanos(core, tls.begin),
            end: tls.handshake_end.map(|at| nanos(core, at)),
        })
    }
}

/// Returns the dial of the connection that the request came to; without one, the last dial that the request caused.
fn dial_of_path<'a>(
    conn: Option<&'a ConnLink>,
    links: Option<&'a RequestLinks>,
    path: ConnPath,
    request: RecordId,
) -> Option<&'a Arc<DialGroup>> {
    let is_own = |group: &&Arc<DialGroup>| group.triggered_by() == Some(request);
    let of_conn = match conn {
        Some(conn) => Some(&conn.group),
        None => links.and_then(|links| links.dial.as_ref()),
    };
    match path.conn {
        Some(_) => of_conn.filter(is_own),
        None => linked_groups(conn, links)
            .filter(is_own)
            .max_by_key(|group| group.dial.as_ref().map(|dial| dial.begin)),
    }
}

/// Returns the attempt that succeeded, otherwise the first one.
fn attempt(group: &DialGroup, state: &GroupState, established: Option<&ConnRecord>) -> Option<AttemptTimes> {
    let attempts = || group.conns(state).filter(|conn| !conn.from_resolver && !conn.is_udp());
    let first = established.or_else(|| attempts().min_by_key(|conn| conn.begin))?;
    Some(AttemptTimes {
        begin: Some(nanos(&group.core, first.begin)),
        established: established.and_then(handshake_end).map(|at| nanos(&group.core, at)),
    })
}

/// Returns when a connection was established, or the attempt at it failed.
fn handshake_end(conn: &ConnRecord) -> Option<Tick> {
    let end = conn.end.get();
    let established = conn.established().filter(|at| end.as_ref().is_none_or(|end| *at <= end.at));
    established.or_else(|| end_at(end.as_ref()?))
}

fn phase(core: &Core, begin: Tick, end: &EndCell) -> Phase {
    let end = end.get().as_ref().and_then(end_at);
    Phase { begin: nanos(core, begin), end: end.map(|at| nanos(core, at)) }
}

/// Returns when a record ended; `None` if that was not observed.
fn end_at(end: &End) -> Option<Tick> {
    (end.reason != EndReason::Unobserved).then_some(end.at)
}

/// Returns a time in nanoseconds. Each time is rounded, and not each duration: so durations are those between the times
/// in a trace.
fn nanos(core: &Core, at: Tick) -> i128 {
    core.clock.nanos_between(core.clock.anchor.tick, at).into()
}
