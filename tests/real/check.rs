//! What must hold in every trace of a client that has closed.

use std::sync::OnceLock;

use jsonschema::Validator;
use nettrace::record::{
    DialTrace, DnsQueryTrace, EndReason, HttpReqTrace, JSON_SCHEMA, SocketOpType, SocketTrace, TcpConnTrace,
    TlsTunnelTrace, UdpConnTrace,
};
use nettrace::{NetTrace, Timestamp, TraceId};

/// Every reference resolves, all that began has ended, times nest, totals are the sums of operations, and
/// the JSON is that of the schema.
#[track_caller]
pub fn at_rest(trace: &NetTrace) {
    let mut check = Check { trace, wrong: Vec::new() };
    check.json();
    trace.dials.iter().for_each(|dial| check.dial(dial));
    trace.tcp_conns.iter().for_each(|conn| check.tcp(conn));
    trace.udp_conns.iter().for_each(|conn| check.udp(conn));
    trace.dns_queries.iter().for_each(|query| check.dns(query));
    trace.tls_tunnels.iter().for_each(|tunnel| check.tls(tunnel));
    trace.http_requests.iter().for_each(|request| check.http(request));
    let wrong = check.wrong;
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", serde_json::to_string_pretty(&trace.precise()).unwrap());
}

struct Check<'a> {
    trace: &'a NetTrace,
    wrong: Vec<String>,
}

impl<'a> Check<'a> {
    fn json(&mut self) {
        static SCHEMA: OnceLock<Validator> = OnceLock::new();
        let schema = SCHEMA
            .get_or_init(|| jsonschema::validator_for(&serde_json::from_str(JSON_SCHEMA).unwrap()).unwrap());
        let precise = serde_json::to_value(self.trace.precise()).unwrap();
        for json in [&precise, &serde_json::to_value(self.trace).unwrap()] {
            self.wrong.extend(
                schema.iter_errors(json).map(|error| format!("{error} at {}", error.instance_path())),
            );
        }
        let read: NetTrace = serde_json::from_value::<NetTrace>(precise.clone()).unwrap();
        self.that(serde_json::to_value(read.precise()).unwrap() == precise, || {
            "JSON changes when read".into()
        });
    }

    fn dial(&mut self, dial: &DialTrace) {
        let what = format!("dial {}", dial.trace_id);
        self.in_order(&what, &[dial.dial_begin_at, dial.dial_end_at]);
        self.in_order(
            &what,
            &[dial.dial_begin_at, dial.resolve_begin_at, dial.resolve_end_at, dial.dial_end_at],
        );
        self.ended(&what, dial.dial_end_at, dial.end_reason.as_ref());
        self.failed_as_said(&what, dial.failure.is_some(), &dial.dial_err);
        self.that(dial.failure.is_none() == !dial.established_conn.is_undefined(), || {
            format!("{what}: either fails or establishes a connection")
        });
        if let Some(conn) = self.tcp_of(&what, &dial.established_conn) {
            self.that(conn.from_dial == dial.trace_id, || format!("{what}: not its own connection"));
            self.in_order(&what, &[conn.handshake_end_at, dial.dial_end_at]);
        }
        if !dial.triggered_by.is_undefined() {
            let request = self.trace.http_requests.get(&dial.triggered_by);
            self.that(request.is_some(), || format!("{what}: no request {}", dial.triggered_by));
            self.that(!dial.ctx_close_at.is_undefined(), || format!("{what}: nobody let go of it"));
        }
        for server in &dial.resolver_dials {
            let what = format!("{what} to {}", server.nameserver);
            self.in_order(
                &what,
                &[dial.resolve_begin_at, server.dial_begin_at, server.dial_end_at, dial.resolve_end_at],
            );
            self.failed_as_said(&what, server.failure.is_some(), &server.dial_err);
            let conn = server.established_conn.as_str();
            let known = self.trace.udp_conns.get(conn).is_some() || self.trace.tcp_conns.get(conn).is_some();
            self.that(known != server.failure.is_some(), || format!("{what}: {conn:?}"));
        }
    }

    fn tcp(&mut self, conn: &TcpConnTrace) {
        let what = format!("tcp conn {}", conn.trace_id);
        self.in_order(&what, &[conn.handshake_begin_at, conn.handshake_end_at, conn.conn_close_at]);
        let end = if conn.connected { conn.conn_close_at } else { conn.handshake_end_at };
        self.ended(&what, end, conn.end_reason.as_ref());
        self.failed_as_said(
            &what,
            conn.failure.is_some(),
            &format!("{}{}", conn.handshake_err, conn.conn_err),
        );
        self.within_dial(&what, &conn.from_dial, &[conn.handshake_begin_at, conn.handshake_end_at]);
        self.that(conn.socket_trace.is_some() == conn.connected, || format!("{what}: operations"));
        self.that(conn.reused == conn.handshake_begin_at.is_absolute(), || format!("{what}: reused"));
        let life = [conn.handshake_end_at, conn.conn_close_at];
        self.ops(&what, conn.socket_trace.as_ref(), life, conn.total_sent_bytes, conn.total_recv_bytes);
    }

    fn udp(&mut self, conn: &UdpConnTrace) {
        let what = format!("udp conn {}", conn.trace_id);
        let life = [conn.socket_create_at, conn.conn_close_at];
        self.in_order(&what, &life);
        self.ended(&what, conn.conn_close_at, conn.end_reason.as_ref());
        self.failed_as_said(&what, conn.failure.is_some(), &conn.conn_err);
        self.within_dial(&what, &conn.from_dial, &life);
        self.that(conn.socket_trace.is_some(), || format!("{what}: operations"));
        self.ops(&what, conn.socket_trace.as_ref(), life, conn.total_sent_bytes, conn.total_recv_bytes);
    }

    fn dns(&mut self, query: &DnsQueryTrace) {
        let what = format!("dns query {}", query.trace_id);
        self.ended(&what, query.end_at, query.end_reason.as_ref());
        let udp = self.trace.udp_conns.get(&query.connection);
        let tcp = self.trace.tcp_conns.get(&query.connection);
        let Some((dial, begin, end, frame, sent, received)) = udp
            .map(|c| {
                (&c.from_dial, c.socket_create_at, c.conn_close_at, 0, c.total_sent_bytes, c.total_recv_bytes)
            })
            .or(tcp.map(|c| {
                (&c.from_dial, c.handshake_end_at, c.conn_close_at, 2, c.total_sent_bytes, c.total_recv_bytes)
            }))
        else {
            return self.wrong.push(format!("{what}: no connection {}", query.connection));
        };
        self.that(*dial == query.from_dial, || format!("{what}: of another dial than its connection"));
        self.in_order(&what, &[begin, query.end_at, end]);
        for message in &query.dns_query_msgs {
            self.in_order(&what, &[begin, message.sent_at, end]);
        }
        for message in &query.dns_reply_msgs {
            self.in_order(&what, &[begin, message.recv_at, end]);
        }
        let sum =
            |sizes: &mut dyn Iterator<Item = u32>| sizes.map(|size| u64::from(size + frame)).sum::<u64>();
        let asked = sum(&mut query.dns_query_msgs.iter().map(|message| message.size));
        let answered = sum(&mut query.dns_reply_msgs.iter().map(|message| message.size));
        self.that((asked, answered) == (sent, received), || {
            format!("{what}: messages of {asked} and {answered} bytes in {sent} and {received}")
        });
    }

    fn tls(&mut self, tunnel: &TlsTunnelTrace) {
        let what = format!("tls tunnel {}", tunnel.trace_id);
        self.in_order(&what, &[tunnel.handshake_begin_at, tunnel.handshake_end_at, tunnel.close_at]);
        self.ended(&what, tunnel.close_at, tunnel.end_reason.as_ref());
        self.failed_as_said(&what, tunnel.failure.is_some(), &tunnel.handshake_err);
        let Some(conn) = self.tcp_of(&what, &tunnel.tcp_conn) else {
            return self.wrong.push(format!("{what}: no connection"));
        };
        self.in_order(
            &what,
            &[conn.handshake_end_at, tunnel.handshake_begin_at, tunnel.handshake_end_at, conn.conn_close_at],
        );
        if let Some(dial) = self.trace.dials.get(&conn.from_dial) {
            self.in_order(&what, &[dial.dial_end_at, tunnel.handshake_begin_at]);
        }
    }

    fn http(&mut self, request: &HttpReqTrace) {
        let what = format!("request {} {}", request.trace_id, request.req_url);
        self.in_order(
            &what,
            &[request.req_sent_at, request.conn_acquired_at, request.req_body_end_at, request.end_at],
        );
        self.in_order(
            &what,
            &[
                request.conn_acquired_at,
                request.first_byte_at,
                request.resp_recv_at,
                request.resp_body_end_at,
                request.end_at,
            ],
        );
        self.ended(&what, request.end_at, request.end_reason.as_ref());
        self.failed_as_said(&what, request.failure.is_some(), &request.req_error);
        if !request.prev_hop.is_undefined() {
            let hop = self.trace.http_requests.get(&request.prev_hop);
            self.that(hop.is_some(), || format!("{what}: no hop {}", request.prev_hop));
            let end = hop.map_or(Timestamp::UNDEFINED, |hop| hop.resp_recv_at);
            self.in_order(&what, &[end, request.req_sent_at]);
        }
        for attempt in &request.attempts {
            self.tcp_of(&what, &attempt.tcp_conn);
        }
        let Some(conn) = self.tcp_of(&what, &request.tcp_conn) else { return };
        self.in_order(&what, &[conn.handshake_end_at, request.conn_acquired_at, conn.conn_close_at]);
        if request.tls_tunnel.is_undefined() {
            return;
        }
        let Some(tunnel) = self.trace.tls_tunnels.get(&request.tls_tunnel) else {
            return self.wrong.push(format!("{what}: no tunnel {}", request.tls_tunnel));
        };
        self.that(tunnel.tcp_conn == request.tcp_conn, || {
            format!("{what}: the tunnel of another connection")
        });
        self.in_order(&what, &[tunnel.handshake_end_at, request.conn_acquired_at]);
    }

    /// All within the life of the connection, none before its predecessor, and the totals are their sums.
    fn ops(&mut self, what: &str, ops: Option<&SocketTrace>, life: [Timestamp; 2], sent: u64, received: u64) {
        let Some(ops) = ops else { return };
        let (mut sums, mut last) = ((0, 0), life[0]);
        for op in &ops.socket_ops {
            self.in_order(what, &[op.call_at, op.return_at]);
            self.in_order(what, &[last, op.return_at, life[1]]);
            self.in_order(what, &[life[0], op.call_at]);
            last = op.return_at;
            match op.r#type {
                SocketOpType::Read => sums.1 += u64::from(op.data_len),
                SocketOpType::Write => sums.0 += u64::from(op.data_len),
                ref other => self.wrong.push(format!("{what}: {other:?}")),
            }
        }
        self.that(ops.dropped_ops > 0 || sums == (sent, received), || {
            format!("{what}: operations moved {sums:?}, the totals are {:?}", (sent, received))
        });
    }

    fn within_dial(&mut self, what: &str, dial: &TraceId, times: &[Timestamp]) {
        let Some(dial) = self.trace.dials.get(dial) else {
            return self.wrong.push(format!("{what}: no dial {dial}"));
        };
        let all: Vec<_> =
            [dial.dial_begin_at].into_iter().chain(times.iter().copied()).chain([dial.dial_end_at]).collect();
        self.in_order(what, &all);
    }

    /// The connection; an identifier that refers to nothing is no fault, one that refers to none is.
    fn tcp_of(&mut self, what: &str, id: &TraceId) -> Option<&'a TcpConnTrace> {
        let conn = self.trace.tcp_conns.get(id);
        self.that(conn.is_some() || id.is_undefined(), || format!("{what}: no connection {id}"));
        conn
    }

    fn ended(&mut self, what: &str, at: Timestamp, reason: Option<&EndReason>) {
        self.that(!at.is_undefined() && reason.is_some(), || {
            format!("{what}: has not ended: {at} {reason:?}")
        });
    }

    fn failed_as_said(&mut self, what: &str, failed: bool, text: &str) {
        self.that(failed != text.is_empty(), || format!("{what}: failed is {failed}, the text {text:?}"));
    }

    /// None of those that are defined is before its predecessor, all within the trace; those before its begin,
    /// of connections that are older, are absolute.
    fn in_order(&mut self, what: &str, times: &[Timestamp]) {
        let begin = self.trace.trace_begin_at;
        let known: Vec<_> = times.iter().filter(|time| !time.is_undefined()).collect();
        let absolute: Vec<_> = known
            .iter()
            .filter_map(
                |time| if time.is_absolute() { time.unix_nanos() } else { begin.add(**time).unix_nanos() },
            )
            .collect();
        let before = known
            .iter()
            .zip(&absolute)
            .all(|(time, at)| time.is_absolute() == (Some(*at) < begin.unix_nanos()));
        let end = begin.add(self.trace.trace_end_at).unix_nanos();
        let ordered = absolute.is_sorted() && absolute.last().is_none_or(|last| Some(*last) <= end);
        self.that(ordered && before, || format!("{what}: times out of order: {times:#?}"));
    }

    fn that(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(why());
        }
    }
}
