//! What holds of every trace whose clients were closed.

use nettrace::{NetTrace, Timestamp, TraceId, record::SocketTrace};

/// Every reference resolves, everything has ended, times nest, totals are the sums of their operations.
#[track_caller]
pub(crate) fn assert_sound(trace: &NetTrace) {
    references(trace);
    everything_ended(trace);
    times_nest(trace);
    totals(trace);
}

#[track_caller]
fn references(trace: &NetTrace) {
    let known = |what: &str, id: &TraceId, found: bool| assert!(id.is_undefined() || found, "{what} {id}");
    let dial = |what, id: &TraceId| known(what, id, trace.dials.get(id).is_some());
    let tcp = |what, id: &TraceId| known(what, id, trace.tcp_conns.get(id).is_some());
    let tls = |what, id: &TraceId| known(what, id, trace.tls_tunnels.get(id).is_some());
    let request = |what, id: &TraceId| known(what, id, trace.http_requests.get(id).is_some());
    let any_conn = |what, id: &TraceId| {
        known(what, id, trace.tcp_conns.get(id).is_some() || trace.udp_conns.get(id).is_some());
    };
    for it in trace.dials.iter() {
        tcp("established", &it.established_conn);
        request("trigger", &it.triggered_by);
        it.resolver_dials.iter().for_each(|dial| any_conn("resolver's", &dial.established_conn));
    }
    trace.tcp_conns.iter().for_each(|it| dial("dial of tcp", &it.from_dial));
    trace.udp_conns.iter().for_each(|it| dial("dial of udp", &it.from_dial));
    for it in trace.dns_queries.iter() {
        dial("dial of dns", &it.from_dial);
        any_conn("connection of dns", &it.connection);
        assert!(!it.connection.is_undefined());
    }
    for it in trace.tls_tunnels.iter() {
        tcp("connection of tls", &it.tcp_conn);
        assert!(!it.tcp_conn.is_undefined());
    }
    for it in trace.http_requests.iter() {
        tcp("connection of request", &it.tcp_conn);
        tls("tunnel", &it.tls_tunnel);
        request("hop", &it.prev_hop);
        it.attempts.iter().for_each(|attempt| tcp("attempt", &attempt.tcp_conn));
    }
}

#[track_caller]
fn everything_ended(trace: &NetTrace) {
    for it in trace.dials.iter() {
        assert!(it.end_reason.is_some() && !it.dial_end_at.is_undefined(), "{it:?}");
    }
    for it in trace.tcp_conns.iter() {
        assert!(it.end_reason.is_some() && !it.handshake_end_at.is_undefined(), "{it:?}");
        assert_eq!(it.connected, !it.conn_close_at.is_undefined(), "{it:?}");
    }
    for it in trace.udp_conns.iter() {
        assert!(it.end_reason.is_some() && !it.conn_close_at.is_undefined(), "{it:?}");
    }
    for it in trace.dns_queries.iter() {
        assert!(it.end_reason.is_some() && !it.end_at.is_undefined(), "{it:?}");
    }
    for it in trace.tls_tunnels.iter() {
        assert!(it.end_reason.is_some() && !it.close_at.is_undefined(), "{it:?}");
    }
    for it in trace.http_requests.iter() {
        assert!(it.end_reason.is_some() && !it.end_at.is_undefined(), "{it:?}");
        assert_eq!(it.failure.is_some(), !it.req_error.is_empty(), "{it:?}");
    }
}

#[track_caller]
fn times_nest(trace: &NetTrace) {
    for dial in trace.dials.iter() {
        in_order(&[
            trace_begin(),
            dial.dial_begin_at,
            dial.resolve_begin_at,
            dial.resolve_end_at,
            dial.dial_end_at,
        ]);
        if let Some(request) = trace.http_requests.get(&dial.triggered_by) {
            in_order(&[request.req_sent_at, dial.dial_begin_at]);
        }
    }
    for conn in trace.tcp_conns.iter() {
        in_order(&[conn.handshake_begin_at, conn.handshake_end_at, conn.conn_close_at, trace.trace_end_at]);
        if let Some(dial) = trace.dials.get(&conn.from_dial) {
            in_order(&[dial.dial_begin_at, dial.resolve_end_at, conn.handshake_begin_at]);
            in_order(&[conn.handshake_end_at, dial.dial_end_at]);
        }
        let ops = conn.socket_trace.iter().flat_map(|ops| ops.socket_ops.iter());
        ops.for_each(|op| in_order(&[conn.handshake_end_at, op.call_at, op.return_at, conn.conn_close_at]));
    }
    for query in trace.dns_queries.iter() {
        let dial = trace.dials.get(&query.from_dial);
        let begin = dial.map_or(Timestamp::UNDEFINED, |dial| dial.resolve_begin_at);
        for sent in &query.dns_query_msgs {
            in_order(&[begin, sent.sent_at, query.end_at]);
        }
        for received in &query.dns_reply_msgs {
            in_order(&[begin, received.recv_at, query.end_at]);
        }
        let end = dial.map_or(Timestamp::UNDEFINED, |dial| dial.resolve_end_at);
        in_order(&[query.end_at, end]);
    }
    for tunnel in trace.tls_tunnels.iter() {
        let conn = trace.tcp_conns.get(&tunnel.tcp_conn).unwrap();
        in_order(&[
            conn.handshake_end_at,
            tunnel.handshake_begin_at,
            tunnel.handshake_end_at,
            tunnel.close_at,
        ]);
    }
    for request in trace.http_requests.iter() {
        in_order(&[request.req_sent_at, request.conn_acquired_at, request.req_body_end_at, request.end_at]);
        in_order(&[request.conn_acquired_at, request.first_byte_at, request.resp_recv_at]);
        in_order(&[request.resp_recv_at, request.resp_body_end_at, request.end_at, trace.trace_end_at]);
        if let Some(tunnel) = trace.tls_tunnels.get(&request.tls_tunnel) {
            in_order(&[tunnel.handshake_end_at, request.conn_acquired_at]);
        }
        if let Some(hop) = trace.http_requests.get(&request.prev_hop) {
            in_order(&[hop.end_at, request.req_sent_at]);
        }
    }
}

fn trace_begin() -> Timestamp {
    Timestamp::relative(0)
}

/// Each of these times that is known is not before the one before it.
#[track_caller]
fn in_order(times: &[Timestamp]) {
    let known: Vec<_> = times.iter().filter(|time| !time.is_undefined()).collect();
    assert!(known.windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
}

#[track_caller]
fn totals(trace: &NetTrace) {
    let sums = |ops: &SocketTrace| {
        assert_eq!(ops.dropped_ops, 0);
        let sum = |kind: &str| {
            let ops = ops.socket_ops.iter().filter(|op| op.r#type.as_str().starts_with(kind));
            ops.map(|op| u64::from(op.data_len)).sum::<u64>()
        };
        (sum("write"), sum("read"))
    };
    for conn in trace.tcp_conns.iter().filter(|conn| conn.connected) {
        let ops = conn.socket_trace.as_ref().unwrap();
        assert_eq!(sums(ops), (conn.total_sent_bytes, conn.total_recv_bytes), "{conn:?}");
    }
    for conn in trace.udp_conns.iter() {
        let ops = conn.socket_trace.as_ref().unwrap();
        assert_eq!(sums(ops), (conn.total_sent_bytes, conn.total_recv_bytes), "{conn:?}");
    }
}
