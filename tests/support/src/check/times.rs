//! Times nest, and totals are the sums of operations.

use std::fmt::Display;

use nettrace::record::{
    DialTrace, DnsQueryTrace, HttpReqTrace, NetTrace, SocketOpType, SocketTrace, TcpConnTrace, Timestamp,
    TlsTunnelTrace, TraceId, UdpConnTrace,
};

use super::{Problems, name};

pub(super) fn find_problems(trace: &NetTrace, problems: &mut Problems) {
    let mut times = Times { trace, problems };
    trace.dials.iter().for_each(|dial| times.dial(dial));
    trace.tcp_conns.iter().for_each(|conn| times.tcp_conn(conn));
    trace.udp_conns.iter().for_each(|conn| times.udp_conn(conn));
    trace.dns_queries.iter().for_each(|query| times.dns_query(query));
    trace.tls_tunnels.iter().for_each(|tunnel| times.tls_tunnel(tunnel));
    trace.http_requests.iter().for_each(|request| times.http_request(request));
}

struct Times<'a> {
    trace: &'a NetTrace,
    problems: &'a mut Problems,
}

impl<'a> Times<'a> {
    fn dial(&mut self, dial: &DialTrace) {
        let who = name(dial);
        self.in_order(
            &who,
            &[
                ("dialBeginAt", dial.dial_begin_at),
                ("resolveBeginAt", dial.resolve_begin_at),
                ("resolveEndAt", dial.resolve_end_at),
                ("dialEndAt", dial.dial_end_at),
                ("traceEndAt", self.trace.trace_end_at),
            ],
        );
        self.in_order(&who, &[("dialBeginAt", dial.dial_begin_at), ("ctxCloseAt", dial.ctx_close_at)]);
        if let Some(request) = self.trace.http_requests.get(&dial.triggered_by) {
            self.in_order(&who, &[("reqSentAt", request.req_sent_at), ("dialBeginAt", dial.dial_begin_at)]);
            self.in_order(&who, &[("ctxCloseAt", dial.ctx_close_at), ("request's endAt", request.end_at)]);
        }
        for inner in &dial.resolver_dials {
            self.in_lookup(
                &format!("{who}, {}", inner.nameserver),
                &dial.trace_id,
                &[("dialBeginAt", inner.dial_begin_at), ("dialEndAt", inner.dial_end_at)],
            );
        }
    }

    fn tcp_conn(&mut self, conn: &TcpConnTrace) {
        let who = name(conn);
        let handshake =
            [("handshakeBeginAt", conn.handshake_begin_at), ("handshakeEndAt", conn.handshake_end_at)];
        let close = ("connCloseAt", conn.conn_close_at);
        self.in_order(&who, &[handshake[0], handshake[1], close, ("traceEndAt", self.trace.trace_end_at)]);
        if let Some(socks) = &conn.socks {
            let begin = ("SOCKS begin", socks.handshake_begin_at);
            let end = ("SOCKS end", socks.handshake_end_at);
            self.in_order(&who, &[handshake[1], begin, end, close]);
        }
        self.kernel_times(&who, conn);
        let begin = if conn.connected { handshake[1] } else { handshake[0] };
        let readings = conn.tcp_info.iter().map(|info| ("tcpInfo's at", info.at));
        let end = if conn.connected { close } else { handshake[1] };
        self.in_order(&who, &[begin].into_iter().chain(readings).chain([end]).collect::<Vec<_>>());
        if conn.from_resolver {
            self.in_lookup(&who, &conn.from_dial, &[handshake[0], handshake[1], close]);
        } else if let Some(dial) = self.trace.dials.get(&conn.from_dial) {
            // A connection of a foreign connector: its handshake is recorded as if it took the whole dial.
            let is_adopted = conn.handshake_begin_at == dial.dial_begin_at;
            let begin = if is_adopted { dial.dial_begin_at } else { dial.resolve_end_at };
            self.in_order(
                &who,
                &[
                    ("dialBeginAt", dial.dial_begin_at),
                    ("dial's resolveEndAt", begin),
                    handshake[0],
                    handshake[1],
                    ("dialEndAt", dial.dial_end_at),
                ],
            );
        }
        self.ops(
            &who,
            &conn.socket_trace,
            conn.handshake_end_at,
            conn.conn_close_at,
            [conn.total_sent_bytes, conn.total_recv_bytes],
        );
        let silent = conn.connected || (conn.total_sent_bytes == 0 && conn.total_recv_bytes == 0);
        self.problems.expect(silent, &who, "carried bytes, but was never connected");
    }

    fn udp_conn(&mut self, conn: &UdpConnTrace) {
        let who = name(conn);
        let life = [("socketCreateAt", conn.socket_create_at), ("connCloseAt", conn.conn_close_at)];
        self.in_order(&who, &life);
        self.in_lookup(&who, &conn.from_dial, &life);
        self.ops(
            &who,
            &conn.socket_trace,
            conn.socket_create_at,
            conn.conn_close_at,
            [conn.total_sent_bytes, conn.total_recv_bytes],
        );
    }

    fn dns_query(&mut self, query: &DnsQueryTrace) {
        let who = name(query);
        let udp = self.trace.udp_conns.get(&query.connection);
        let udp = udp.map(|conn| (conn.socket_create_at, conn.conn_close_at));
        let tcp = self.trace.tcp_conns.get(&query.connection);
        let tcp = tcp.map(|conn| (conn.handshake_end_at, conn.conn_close_at));
        let Some((open, close)) = udp.or(tcp) else { return };
        let sent = query.dns_query_msgs.iter().map(|message| ("sentAt", message.sent_at));
        let received = query.dns_reply_msgs.iter().map(|message| ("recvAt", message.recv_at));
        // A connection that lookups share may be closed before those that wait for a reply learn of it, or get it.
        let is_shared =
            self.trace.tcp_conns.get(&query.connection).is_some_and(|conn| conn.from_dial != query.from_dial);
        let close = if is_shared { Timestamp::UNDEFINED } else { close };
        let ends = [("endAt", query.end_at), ("connCloseAt", close)];
        let all: Vec<_> =
            [("connection open", open)].into_iter().chain(sent).chain(received).chain(ends).collect();
        self.in_order(&who, &all);
    }

    fn tls_tunnel(&mut self, tunnel: &TlsTunnelTrace) {
        let conn = self.trace.tcp_conns.get(&tunnel.tcp_conn);
        let dial = conn.and_then(|conn| self.trace.dials.get(&conn.from_dial));
        self.in_order(
            name(tunnel),
            &[
                ("connection's handshakeEndAt", conn.map(|conn| conn.handshake_end_at).unwrap_or_default()),
                ("dialEndAt", dial.map(|dial| dial.dial_end_at).unwrap_or_default()),
                ("handshakeBeginAt", tunnel.handshake_begin_at),
                ("handshakeEndAt", tunnel.handshake_end_at),
                ("closeAt", tunnel.close_at),
                ("connCloseAt", conn.map(|conn| conn.conn_close_at).unwrap_or_default()),
            ],
        );
    }

    fn http_request(&mut self, request: &HttpReqTrace) {
        let who = name(request);
        let conn = self.trace.tcp_conns.get(&request.tcp_conn).map(|conn| conn.handshake_end_at);
        let tunnels = [&request.proxy_tls_tunnel, &request.tls_tunnel];
        let [proxy, tunnel] = tunnels.map(|id| self.trace.tls_tunnels.get(id).map(|t| t.handshake_end_at));
        let secured = [conn, proxy, tunnel].map(Option::unwrap_or_default);
        let acquired = ("connAcquiredAt", request.conn_acquired_at);
        let end = ("endAt", request.end_at);
        for ready in secured.into_iter().filter(|_| !request.conn_acquired_at.is_undefined()) {
            self.in_order(&who, &[("connection ready", ready), acquired]);
        }
        self.in_order(
            &who,
            &[
                ("reqSentAt", request.req_sent_at),
                acquired,
                ("firstByteAt", request.first_byte_at),
                ("respRecvAt", request.resp_recv_at),
                ("respBodyEndAt", request.resp_body_end_at),
                end,
                ("traceEndAt", self.trace.trace_end_at),
            ],
        );
        self.in_order(&who, &[acquired, ("reqBodyEndAt", request.req_body_end_at)]);
        for interim in &request.informational {
            self.in_order(&who, &[acquired, ("informational", interim.recv_at), end]);
        }
        if let Some(cause) = self.trace.http_requests.get(&request.triggered_by) {
            self.in_order(
                &who,
                &[("cause's reqSentAt", cause.req_sent_at), ("reqSentAt", request.req_sent_at)],
            );
            if cause.tcp_conn == request.tcp_conn {
                self.in_order(&who, &[end, ("cause's connAcquiredAt", cause.conn_acquired_at)]);
            }
        }
        if let Some(previous) = self.trace.http_requests.get(&request.prev_hop) {
            self.in_order(
                &who,
                &[("previous hop's respRecvAt", previous.resp_recv_at), ("reqSentAt", request.req_sent_at)],
            );
        }
        let timings = request.timings(self.trace);
        let phases = [
            timings.blocked,
            timings.dns,
            timings.connect,
            timings.proxy,
            timings.tls,
            timings.send,
            timings.wait,
            timings.receive,
        ];
        if let Some(total) = timings.total {
            let fits = phases.into_iter().flatten().sum::<std::time::Duration>() <= total;
            self.problems.expect(fits, &who, format!("the phases take longer than the total: {timings:?}"));
        }
    }

    /// Asserts that these times of a record of a lookup are within the lookup, and the lookup is within its dial.
    fn in_lookup(&mut self, who: &str, dial: &TraceId, times: &[(&str, Timestamp)]) {
        let Some(dial) = self.trace.dials.get(dial) else { return };
        let begin = [("dialBeginAt", dial.dial_begin_at), ("resolveBeginAt", dial.resolve_begin_at)];
        let end = [("resolveEndAt", dial.resolve_end_at), ("dialEndAt", dial.dial_end_at)];
        self.in_order(who, &[&begin, times, &end].concat());
    }

    /// Asserts that operations are within the lifetime of the socket, and that their bytes add up to `totals`, which is
    /// `[sent, received]`. While the socket is open, the last operation may be counted but not recorded yet.
    fn ops(
        &mut self,
        who: &str,
        ops: &Option<SocketTrace>,
        open: Timestamp,
        close: Timestamp,
        totals: [u64; 2],
    ) {
        let Some(SocketTrace { socket_ops, dropped_ops, .. }) = ops else { return };
        let (mut sums, mut last) = ([0, 0], [open, open]);
        let mut returned = open;
        for op in socket_ops.iter() {
            let direction = match op.r#type {
                SocketOpType::Write | SocketOpType::WriteTo => 0,
                SocketOpType::Read | SocketOpType::ReadFrom => 1,
                other => {
                    return self.problems.expect(false, who, format!("has an operation of type {other:?}"));
                }
            };
            sums[direction] += u64::from(op.data_len);
            let times = [
                ("the operation before it", last[direction]),
                ("callAt", op.call_at),
                ("returnAt", op.return_at),
            ];
            self.in_order(who, &times);
            self.in_order(who, &[("the operation before it", returned), ("returnAt", op.return_at)]);
            (last[direction], returned) = (op.return_at, op.return_at);
        }
        self.in_order(who, &[("last operation", returned), ("close", close)]);
        let at_most = || sums[0] <= totals[0] && sums[1] <= totals[1];
        let is_open = close.is_undefined() || *dropped_ops > 0;
        let fits = if is_open { at_most() } else { sums == totals };
        self.problems.expect(
            fits,
            who,
            format!("the operations have {sums:?} bytes, but the totals are {totals:?}"),
        );
    }

    /// Asserts that the defined times do not decrease.
    /// A byte is written before it is sent, and received before it is read; bytes are counted in the order of times.
    fn kernel_times(&mut self, who: &str, conn: &TcpConnTrace) {
        let Some(times) = conn.kernel_times.as_deref() else { return };
        let close = ("connCloseAt", conn.conn_close_at);
        for write in &times.writes {
            let written = [("handshakeEndAt", conn.handshake_end_at), ("writtenAt", write.written_at)];
            let stages = [
                ("scheduledAt", write.scheduled_at),
                ("sentAt", write.sent_at),
                ("ackedAt", write.acked_at),
                close,
            ];
            self.in_order(who, &[&written[..], &stages].concat());
        }
        for read in &times.reads {
            self.in_order(who, &[("receivedAt", read.received_at), ("readAt", read.read_at), close]);
        }
        let sent: Vec<_> = times.writes.iter().map(|write| write.sent_bytes).collect();
        let received: Vec<_> = times.reads.iter().map(|read| read.recv_bytes).collect();
        let is_counted =
            |bytes: &[u64], total| bytes.is_sorted() && bytes.last().is_none_or(|last| *last <= total);
        self.problems.expect(is_counted(&sent, conn.total_sent_bytes), who, "sentBytes of kernelTimes");
        self.problems.expect(is_counted(&received, conn.total_recv_bytes), who, "recvBytes of kernelTimes");
    }

    fn in_order(&mut self, who: impl Display, times: &[(&str, Timestamp)]) {
        let mut before: Option<(&str, i128)> = None;
        for &(what, time) in times {
            let Some(at) = self.unix_nanos(time) else { continue };
            if let Some((earlier, then)) = before {
                let holds = then <= at;
                self.problems.expect(holds, &who, format!("{what} is {} ns before {earlier}", then - at));
            }
            before = Some((what, at));
        }
    }

    /// Returns the time in nanoseconds since 1970, or `None` if it is undefined.
    fn unix_nanos(&self, time: Timestamp) -> Option<i128> {
        time.unix_nanos().or_else(|| self.trace.trace_begin_at.add(time).unix_nanos())
    }
}
