//! Rows for dials: attempts to connect, and the tunnels over their connections.

use super::block::{Ending, Row};
use super::dns;
use super::style::{Line, Style};
use super::suites;
use crate::graph::{ConnSource, TraceGraph};
use crate::readable;
use crate::record::{
    DialTrace, EndReason, Failure, HttpReqTrace, PeerCert, SocksTrace, TcpConnTrace, TcpInfo, TcpInfoEvent,
    Text, TlsTunnelTrace, WireStop,
};

/// Returns the rows of a dial in order: the lookup, each attempt, the tunnels. `used` is the connection that the
/// request used; any other established one is marked as unused.
pub(super) fn dial_rows(graph: &TraceGraph<'_>, dial: &DialTrace, used: Option<&str>) -> Vec<Row> {
    let mut rows = dns::lookup_rows(graph, dial);
    let mut attempts: Vec<_> = graph.tcp_of(dial).iter().filter(|conn| !conn.from_resolver).collect();
    attempts.sort_by_key(|conn| graph.times.at(conn.handshake_begin_at));
    for conn in &attempts {
        let failed_dial = Some(dial).filter(|_| attempts.len() == 1);
        let mut row = attempt_row(graph, conn, failed_dial);
        // Of a foreign connector only begin and end of the whole are known.
        if conn.handshake_begin_at == dial.dial_begin_at {
            if dial.is_lookup_unobserved() && conn.unix_path.is_empty() {
                row.label = "tcp+dns".into();
                row.notes.item(Style::Dim, "includes name lookup");
            }
            row.move_begin(graph.times.at(dial.resolve_end_at));
        }
        if conn.layer == "application" {
            row.notes.item(Style::Dim, "includes any TLS handshake");
        }
        if conn.connected && used.is_some_and(|used| used != conn.trace_id.as_str()) {
            row.notes.item(Style::Dim, "not used by this request");
        }
        rows.push(row);
    }
    if attempts.is_empty()
        && (rows.is_empty() || dns::has_addresses(graph, dial))
        && (dial.is_lookup_unobserved() || !failed_before_connecting(dial))
    {
        rows.push(unobserved_attempts_row(graph, dial));
    }
    let mut tunnels: Vec<Row> = attempts.iter().flat_map(|conn| tunnel_rows(graph, conn)).collect();
    tunnels.sort_by_key(Row::begin);
    rows.extend(tunnels);
    rows
}

/// Returns `true` if the dial failed before the first attempt: no usable address, or an invalid setting.
fn failed_before_connecting(dial: &DialTrace) -> bool {
    dial.failure.as_ref().is_some_and(|failure| {
        matches!(failure, Failure::InvalidArgument | Failure::NoRuntime | Failure::NameserversSkipped)
            || failure.as_str().trim_start_matches("x_").starts_with("dns_")
    })
}

/// Returns a row for attempts that were not observed, as when a foreign connector failed.
fn unobserved_attempts_row(graph: &TraceGraph<'_>, dial: &DialTrace) -> Row {
    let times = graph.times;
    let ending =
        Ending { reason: dial.end_reason.as_ref(), failure: dial.failure.as_ref(), text: &dial.dial_err };
    let end = times.at(dial.dial_end_at);
    let is_running = end.is_none() && ending.reason.is_none() && !ending.is_failure();
    let end = end.or(times.end.filter(|_| is_running));
    let begin = times.at(dial.resolve_end_at).or(times.at(dial.dial_begin_at));
    let label = if dial.is_lookup_unobserved() { "tcp+dns" } else { "tcp" };
    let mut row = Row::new(label, Style::Tcp, begin, end);
    row.notes.push(Style::Plain, &dial.dst_address);
    if dial.is_lookup_unobserved() {
        row.notes.item(Style::Dim, "includes name lookup");
    }
    if is_running {
        row.notes.item(Style::Warn, "still connecting");
    } else {
        row.notes.item(Style::Dim, "attempts not observed");
    }
    row.append_ending(&ending);
    row
}

/// Returns the rows of a connection's dial, or of the connection alone if its dial is not in the trace.
pub(super) fn source_rows(graph: &TraceGraph<'_>, source: ConnSource<'_>, used: Option<&str>) -> Vec<Row> {
    match source {
        ConnSource::Dial(dial) => dial_rows(graph, dial, used),
        ConnSource::Conn(conn) => {
            [attempt_row(graph, conn, None)].into_iter().chain(tunnel_rows(graph, conn)).collect()
        }
    }
}

/// Returns the CONNECT requests over the connections that are drawn with `source`.
pub(super) fn connects<'i>(
    graph: &'i TraceGraph<'_>,
    source: ConnSource<'i>,
) -> impl Iterator<Item = &'i HttpReqTrace> {
    let (of_dial, alone) = match source {
        ConnSource::Dial(dial) => (graph.tcp_of(dial), None),
        ConnSource::Conn(conn) => (&[][..], Some(conn)),
    };
    let conns = of_dial.iter().copied().filter(|conn| !conn.from_resolver).chain(alone);
    conns.flat_map(|conn| graph.connects_of(conn).iter().copied())
}

/// Returns the rows of the handshakes over a connection: TLS, CONNECT and SOCKS.
pub(super) fn tunnel_rows<'i>(
    graph: &'i TraceGraph<'_>,
    conn: &'i TcpConnTrace,
) -> impl Iterator<Item = Row> + 'i {
    let socks = conn.socks.iter().map(|handshake| socks_row(graph, handshake));
    let connects = graph.connects_of(conn).iter().map(|request| connect_row(graph, request));
    let tunnels = graph.tunnels_of(conn).iter().map(|tunnel| tls_row(graph, tunnel));
    tunnels.chain(connects).chain(socks)
}

/// Returns the row of a CONNECT request.
fn connect_row(graph: &TraceGraph<'_>, request: &HttpReqTrace) -> Row {
    let times = graph.times;
    let ending = Ending {
        reason: request.end_reason.as_ref(),
        failure: request.failure.as_ref(),
        text: &request.req_error,
    };
    let end = times.at(request.end_at);
    let is_running = end.is_none() && ending.reason.is_none() && !ending.is_failure();
    let end = end.or(times.end.filter(|_| is_running));
    let mut row = Row::new("proxy", Style::Tcp, times.at(request.req_sent_at), end);
    row.notes.push(Style::Plain, format!("CONNECT {}", request.req_url));
    if request.resp_status_code != 0 {
        row.notes.item(Style::Plain, readable::status(request.resp_status_code));
    }
    if is_running {
        row.notes.item(Style::Warn, "no answer yet");
    }
    row.append_ending(&ending);
    row
}

fn socks_row(graph: &TraceGraph<'_>, handshake: &SocksTrace) -> Row {
    let times = graph.times;
    let ending = Ending {
        reason: handshake.end_reason.as_ref().filter(|reason| **reason != EndReason::Closed),
        failure: handshake.failure.as_ref(),
        text: &handshake.handshake_err,
    };
    let end = times.at(handshake.handshake_end_at);
    let is_running = end.is_none() && handshake.end_reason.is_none() && !ending.is_failure();
    let end = end.or(times.end.filter(|_| is_running));
    let mut row = Row::new("proxy", Style::Tcp, times.at(handshake.handshake_begin_at), end);
    row.notes.push(Style::Plain, format!("SOCKS5 to {}", handshake.target));
    if is_running {
        row.notes.item(Style::Warn, "no answer yet");
    }
    row.append_ending(&ending);
    row
}

/// Returns the row of a TCP handshake. The Go package records the error of a failed one with its dial.
pub(super) fn attempt_row(
    graph: &TraceGraph<'_>,
    conn: &TcpConnTrace,
    failed_dial: Option<&DialTrace>,
) -> Row {
    let times = graph.times;
    let (begin, end) = (times.at(conn.handshake_begin_at), times.at(conn.handshake_end_at));
    let mut ending = Ending {
        reason: conn.end_reason.as_ref(),
        failure: conn.failure.as_ref(),
        text: &conn.handshake_err,
    };
    if conn.connected {
        ending = Ending { reason: None, failure: None, text: "" };
    } else if let Some(dial) = failed_dial.filter(|_| !ending.is_failure() && ending.reason.is_none()) {
        ending.text = &dial.dial_err;
    }
    let is_running = !conn.connected && end.is_none() && ending.reason.is_none() && !ending.is_failure();
    let end = if is_running { times.end } else { end };
    let mut row = Row::new("tcp", Style::Tcp, begin, end);
    row.notes.push(Style::Plain, remote(conn));
    let of_handshake =
        |info: &&TcpInfo| matches!(info.event, TcpInfoEvent::Connected | TcpInfoEvent::ConnectFailed);
    if let Some(info) = conn.tcp_info.first().filter(of_handshake) {
        retransmissions(&mut row.notes, info, "SYN");
    }
    row.append_ending(&ending);
    if is_running {
        row.notes.item(Style::Warn, "still connecting");
    } else if !conn.connected && !ending.is_failure() && ending.reason.is_none() {
        row.style = Style::Dim;
        row.notes.item(Style::Warn, "not connected");
    }
    row
}

/// Returns the row of a TLS handshake. How an established tunnel ended is shown with its connection and requests.
pub(super) fn tls_row(graph: &TraceGraph<'_>, tunnel: &TlsTunnelTrace) -> Row {
    let times = graph.times;
    let (begin, end) = (times.at(tunnel.handshake_begin_at), times.at(tunnel.handshake_end_at));
    let is_established = end.is_some() && tunnel.handshake_err.is_empty();
    let ending = Ending {
        reason: tunnel.end_reason.as_ref().filter(|_| !is_established),
        failure: tunnel.failure.as_ref().filter(|_| !is_established),
        text: &tunnel.handshake_err,
    };
    let is_running = end.is_none() && ending.reason.is_none() && !ending.is_failure();
    let end = end.or_else(|| times.at(tunnel.close_at)).or(times.end.filter(|_| is_running));
    let mut row = Row::new("tls", Style::Tls, begin, end);
    if graph.is_to_proxy(tunnel) {
        row.notes.push(Style::Plain, "with the proxy");
    }
    session(&mut row.notes, tunnel);
    if let Some(leaf) = tunnel.peer_certs.first() {
        certificate(&mut row.notes, leaf, tunnel);
    }
    if is_running {
        row.notes.item(Style::Warn, "still shaking hands");
    }
    if !tunnel.alert.is_empty() {
        row.notes.item(Style::Warn, format!("alert {}", tunnel.alert.replace('_', " ")));
    }
    row.append_ending(&ending);
    row
}

/// Returns the version, such as `TLSv1.3`, as far as it is known. Empty if nothing was negotiated.
pub(super) fn tls_version(tunnel: &TlsTunnelTrace) -> &str {
    match (tunnel.tls_version.as_str(), tunnel.cipher_suite) {
        ("", 0) => "",
        ("", suite) => suites::version(suite),
        (version, _) => version,
    }
}

fn session(notes: &mut Line, tunnel: &TlsTunnelTrace) {
    notes.item(Style::Plain, tls_version(tunnel));
    if tunnel.did_resume {
        notes.item(Style::Good, "resumed");
    }
    if tunnel.cipher_suite != 0 {
        notes.item(Style::Plain, suites::name(tunnel.cipher_suite));
    }
    notes.item(Style::Plain, &tunnel.key_exchange_group);
    if tunnel.hello_retry_request {
        notes.item(Style::Warn, "HelloRetryRequest");
    }
    notes.item(Style::Plain, &tunnel.negotiated_proto);
}

fn certificate(notes: &mut Line, leaf: &PeerCert, tunnel: &TlsTunnelTrace) {
    notes.item(Style::Plain, &leaf.subject);
    if leaf.issuer == leaf.subject {
        notes.word(Style::Dim, "signed by itself");
    } else if !leaf.issuer.is_empty() {
        notes.word(Style::Dim, format!("signed by {}", leaf.issuer));
    }
    // The details of a rejected certificate depend on the reason.
    match tunnel.failure {
        Some(Failure::SslInvalidHostname) if !leaf.sans.is_empty() => {
            notes.item(Style::Plain, format!("is for {}, not {}", leaf.sans.join(", "), tunnel.server_name));
        }
        Some(Failure::SslInvalidCertificate) => {
            notes.item(Style::Plain, format!("valid from {} until {}", leaf.not_before, leaf.not_after));
        }
        _ => {}
    }
}

/// Returns the remote end of a connection.
pub(super) fn remote(conn: &TcpConnTrace) -> String {
    if conn.unix_path.is_empty() {
        dns::address(&conn.addr_tuple.dst_ip, conn.addr_tuple.dst_port)
    } else {
        readable::shortened(&conn.unix_path).into_owned()
    }
}

/// Returns both ends of a connection, the local one first, with an arrow from the side that connected.
pub(super) fn endpoints(conn: &TcpConnTrace) -> String {
    let addrs = &conn.addr_tuple;
    if addrs.src_ip.is_empty() || !conn.unix_path.is_empty() {
        return remote(conn);
    }
    let arrow = if conn.accepted { '←' } else { '→' };
    format!("{} {arrow} {}", dns::address(&addrs.src_ip, addrs.src_port), remote(conn))
}

/// Appends what the kernel reported about a connection when it was last queried: NAT, round-trip time, retransmissions.
pub(super) fn kernel_facts(facts: &mut Line, conn: &TcpConnTrace) {
    if let Some(outside) = nat_addresses(conn) {
        facts.item(Style::Plain, format!("NAT {outside}"));
    }
    let Some(info) = conn.tcp_info.last().filter(|_| conn.connected) else { return };
    if let Some(rtt) = info.rtt_us {
        facts.item(Style::Plain, format!("rtt {}", readable::duration(i64::from(rtt) * 1_000, false)));
    }
    retransmissions(facts, info, "segment");
}

/// Appends what was read of the HTTP on a connection, where it explains something: who shut it down, and why not all of
/// it was read.
pub(super) fn wire_facts(facts: &mut Line, conn: &TcpConnTrace) {
    let Some(wire) = conn.wire.as_deref() else { return };
    let go_aways = wire.http2.iter().flat_map(|http2| http2.go_aways.iter());
    for go_away in go_aways {
        let side = if go_away.by_server { "server" } else { "client" };
        // An orderly shutdown, as servers do it to connections of a certain age.
        let style = if go_away.error == "NO_ERROR" { Style::Dim } else { Style::Warn };
        facts.item(style, format!("GOAWAY from the {side}: {}", go_away.error));
        facts.word(Style::Plain, readable::shortened(&go_away.debug_data));
    }
    if let Some(reason) = wire.stop_reason.as_ref().filter(|reason| **reason != WireStop::Upgraded) {
        facts.item(Style::Dim, format!("HTTP not read to the end ({reason})"));
    }
}

/// Returns both ends as seen from the other side of a NAT, if there is one.
fn nat_addresses(conn: &TcpConnTrace) -> Option<String> {
    let entry = conn.conntrack.as_deref().filter(|entry| entry.addr_orig == conn.addr_tuple)?;
    let (here, reply) = (&conn.addr_tuple, &entry.addr_reply);
    let source = (&reply.dst_ip, reply.dst_port);
    let destination = (&reply.src_ip, reply.src_port);
    let is_same = source == (&here.src_ip, here.src_port) && destination == (&here.dst_ip, here.dst_port);
    let text = |(ip, port): (&Text, u16)| dns::address(ip, port);
    (!is_same && !reply.src_ip.is_empty()).then(|| format!("{} → {}", text(source), text(destination)))
}

fn retransmissions(line: &mut Line, info: &TcpInfo, what: &str) {
    if let Some(again) = info.total_retrans.filter(|again| *again > 0) {
        line.item(Style::Warn, format!("{} sent again", readable::count(again as usize, what)));
    }
}

/// Returns how an established connection ended, if it is worth mentioning.
pub(super) fn close_outcome(conn: &TcpConnTrace) -> Ending<'_> {
    Ending {
        reason: conn.end_reason.as_ref().filter(|reason| **reason != EndReason::Closed),
        failure: conn.failure.as_ref().filter(|_| conn.connected),
        text: &conn.conn_err,
    }
}
