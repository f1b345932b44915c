use std::fmt;
use std::time::Duration;

use super::{DialTrace, HttpReqTrace, NetTrace, Timestamp, TlsTunnelTrace};

/// How long the phases of a request took.
///
/// A phase that did not happen, or has not ended yet, is `None`. Connecting counts only where the request
/// itself caused it: on a connection that another request dialled, all the time until it was available is
/// `blocked`. The phase in which a request failed ends with the failure.
///
/// Printed on one line: `blocked 0 · dns 12.1 ms · connect 8.3 ms · total 20.4 ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// From the begin until there was a connection, less `dns`, `connect` and `tls`.
    pub blocked: Option<Duration>,
    /// Looking the name up.
    pub dns: Option<Duration>,
    /// From the end of the look-up until the TCP connection was established.
    pub connect: Option<Duration>,
    /// The TLS handshake; with an HTTPS proxy both of them.
    pub tls: Option<Duration>,
    /// Sending the request with its body. A response that comes earlier ends it.
    pub send: Option<Duration>,
    /// Waiting for the head of the response.
    pub wait: Option<Duration>,
    /// Receiving the body of the response.
    pub receive: Option<Duration>,
    /// From begin to end.
    pub total: Option<Duration>,
}

impl HttpReqTrace {
    /// How long the phases of the request took, by what the trace knows of its dial and tunnel.
    pub fn timings(&self, trace: &NetTrace) -> Timings {
        let axis = Axis::of(trace);
        let Some(begin) = axis.at(self.req_sent_at) else { return Timings::default() };
        let end = axis.at(self.end_at);
        let acquired = axis.at(self.conn_acquired_at);
        let response = axis.at(self.resp_recv_at);

        let connected_by = acquired.or(end);
        let own = self.own_dial(trace).map(|dial| Connecting { request: self, trace, axis, dial });
        let in_time = |from: &i128| connected_by.is_none_or(|limit| *from <= limit);
        let phase = |(from, to)| span(Some(from).filter(in_time), until(to, connected_by));
        let dns = own.as_ref().and_then(Connecting::dns).and_then(phase);
        let connect = own.as_ref().and_then(Connecting::connect).and_then(phase);
        let handshakes = own.iter().flat_map(Connecting::handshakes);
        let tls = handshakes.filter_map(phase).reduce(Duration::saturating_add);
        let own_time = [dns, connect, tls].into_iter().flatten().sum();

        let body_end = axis.at(self.req_body_end_at);
        Timings {
            blocked: span(Some(begin), connected_by).map(|time| time.saturating_sub(own_time)),
            dns,
            connect,
            tls,
            send: span(acquired, until(body_end, response).or(end)),
            wait: span(body_end, response.or(end)),
            receive: span(response, axis.at(self.resp_body_end_at).or(end)),
            total: span(Some(begin), end),
        }
    }

    /// The dial that made the request's connection, or failed to, if the request caused it.
    fn own_dial<'a>(&self, trace: &'a NetTrace) -> Option<&'a DialTrace> {
        let caused = |dial: &&DialTrace| dial.triggered_by == self.trace_id && !self.trace_id.is_undefined();
        if self.tcp_conn.is_undefined() {
            return trace.dials.iter().rev().find(caused);
        }
        match trace.tcp_conns.get(&self.tcp_conn) {
            Some(conn) => trace.dials.get(&conn.from_dial).filter(caused),
            None => trace.dials.iter().filter(caused).find(|dial| dial.established_conn == self.tcp_conn),
        }
    }
}

/// What a request's own dial and tunnels did.
struct Connecting<'a> {
    request: &'a HttpReqTrace,
    trace: &'a NetTrace,
    axis: Axis,
    dial: &'a DialTrace,
}

/// Begin of a phase, and its end if it is known.
type Phase = (i128, Option<i128>);

impl<'a> Connecting<'a> {
    fn dns(&self) -> Option<Phase> {
        let end = self.axis.at(self.dial.resolve_end_at).or(self.axis.at(self.dial.dial_end_at));
        Some((self.axis.at(self.dial.resolve_begin_at)?, end))
    }

    fn connect(&self) -> Option<Phase> {
        let looked_up = !self.dial.resolve_begin_at.is_undefined();
        let established = self.trace.tcp_conns.get(&self.dial.established_conn);
        let mut attempts =
            self.trace.tcp_conns.iter().filter(|c| c.from_dial == self.dial.trace_id && !c.from_resolver);
        let first = established.or_else(|| attempts.next());
        if looked_up && first.is_none() {
            return None; // It did not get beyond the look-up.
        }
        let begin = match self.axis.at(self.dial.resolve_end_at) {
            Some(resolved) => resolved,
            None if looked_up => self.axis.at(first?.handshake_begin_at)?,
            None => self.axis.at(self.dial.dial_begin_at)?,
        };
        let end = established.and_then(|conn| self.axis.at(conn.handshake_end_at));
        Some((begin, end.or(self.axis.at(self.dial.dial_end_at))))
    }

    fn handshakes(&self) -> impl Iterator<Item = Phase> {
        let linked = [&self.request.proxy_tls_tunnel, &self.request.tls_tunnel];
        // A request that failed or was dropped in the handshake may not know of it.
        let unlinked =
            linked.iter().all(|id| id.is_undefined()) && !self.dial.established_conn.is_undefined();
        let tunnels = self.trace.tls_tunnels.iter().filter(move |_| unlinked);
        let tunnels = tunnels.filter(|tunnel| tunnel.tcp_conn == self.dial.established_conn);
        let tunnels = tunnels.chain(linked.into_iter().filter_map(|id| self.trace.tls_tunnels.get(id)));
        tunnels.filter_map(|tunnel: &TlsTunnelTrace| {
            Some((self.axis.at(tunnel.handshake_begin_at)?, self.axis.at(tunnel.handshake_end_at)))
        })
    }
}

/// Puts relative and absolute times on one line.
#[derive(Clone, Copy)]
struct Axis {
    begin_unix_nanos: i128,
}

impl Axis {
    fn of(trace: &NetTrace) -> Self {
        Axis { begin_unix_nanos: trace.trace_begin_at.unix_nanos().unwrap_or(0) }
    }

    fn at(self, time: Timestamp) -> Option<i128> {
        let relative = time.relative_nanos().map(i128::from);
        relative.or_else(|| Some(time.unix_nanos()? - self.begin_unix_nanos))
    }
}

/// The earlier of two ends, as far as they are known.
fn until(a: Option<i128>, b: Option<i128>) -> Option<i128> {
    a.into_iter().chain(b).min()
}

fn span(from: Option<i128>, to: Option<i128>) -> Option<Duration> {
    let nanos = (to? - from?).max(0);
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases = [
            ("blocked", self.blocked),
            ("dns", self.dns),
            ("connect", self.connect),
            ("tls", self.tls),
            ("send", self.send),
            ("wait", self.wait),
            ("receive", self.receive),
            ("total", self.total),
        ];
        let mut separator = "";
        for (name, time) in phases {
            if let Some(time) = time {
                write!(f, "{separator}{name} {}", Short(time))?;
                separator = " · ";
            }
        }
        Ok(())
    }
}

/// A duration for people: `0`, `431 µs`, `12.1 ms`, `3.20 s`.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        match nanos {
            ..500 => f.write_str("0"),
            ..999_500 => write!(f, "{} µs", (nanos + 500) / 1_000),
            ..999_950_000 => write!(f, "{:.1} ms", nanos as f64 / 1e6),
            _ => write!(f, "{:.2} s", self.0.as_secs_f64()),
        }
    }
}
