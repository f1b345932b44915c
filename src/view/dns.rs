//! Rows for name lookups, with every DNS message.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};

use super::block::{Ending, Row};
use super::style::{Line, Style};
use crate::graph::TraceGraph;
use crate::readable;
use crate::record::{
    DialTrace, DnsAnswer, DnsQueryMsg, DnsQueryTrace, DnsRCode, DnsReplyMsg, DnsResType, DnsSvcb, Failure,
    ResolverDialTrace,
};

/// Returns the rows of a dial's lookup: one for the whole, one for each message, and one for each nameserver that could
/// not be queried. Empty if no name was looked up.
pub(super) fn lookup_rows(graph: &TraceGraph<'_>, dial: &DialTrace) -> Vec<Row> {
    let host = host_of(&dial.dst_address);
    let mut parts: Vec<Row> =
        graph.queries_of(dial).iter().flat_map(|query| exchange_rows(graph, query, host)).collect();
    parts.extend(dial.resolver_dials.iter().filter_map(|attempt| failed_nameserver(graph, attempt)));
    parts.extend(awaited_dials(graph, dial));
    parts.extend(unrecorded_exchanges(graph, dial));
    parts.sort_by_key(|row| row.begin().unwrap_or(i64::MAX));
    parts.extend(skipped_nameservers(dial));

    let (began, ended) = (graph.times.at(dial.resolve_begin_at), graph.times.at(dial.resolve_end_at));
    if parts.is_empty() && began.is_none() {
        return parts;
    }
    let asked = dial.resolver_dials.iter().filter_map(|attempt| graph.times.at(attempt.dial_begin_at));
    let begin = began.or_else(|| asked.chain(parts.iter().filter_map(Row::begin)).min());
    let is_running = began.is_some() && ended.is_none() && dial.end_reason.is_none();
    let end = match ended {
        None if is_running => graph.times.end,
        None => parts.iter().filter_map(Row::end).max(),
        known => known,
    };
    let mut whole = Row::new("dns", Style::Dns, begin, end);
    whole.notes.push(Style::Plain, host);
    if is_running {
        whole.notes.item(Style::Warn, "still running");
    } else if graph.tcp_of(dial).iter().all(|conn| conn.from_resolver) && !has_addresses(graph, dial) {
        // Without an address the error of the dial is that of the lookup.
        let (reason, failure) = (dial.end_reason.as_ref(), dial.failure.as_ref());
        whole.append_ending(&Ending { reason, failure, text: &dial.dial_err });
    } else if parts.is_empty() {
        whole.notes.item(Style::Dim, "known without asking");
    }
    parts.insert(0, whole);
    parts
}

/// Returns `true` if the lookup of a dial is complete and its messages contain addresses.
pub(super) fn has_addresses(graph: &TraceGraph<'_>, dial: &DialTrace) -> bool {
    let replies = graph.queries_of(dial).iter().flat_map(|query| &query.dns_reply_msgs);
    let mut answers = replies.filter(|reply| reply.ignored.is_empty()).flat_map(|reply| &reply.answers);
    let is_over = graph.times.at(dial.resolve_end_at) < graph.times.at(dial.dial_end_at).or(graph.times.end);
    !dial.resolve_end_at.is_undefined()
        && is_over
        && answers.any(|answer| matches!(answer.r#type, DnsResType::A | DnsResType::Aaaa))
}

/// Returns the rows of the messages over one connection to a nameserver. The name is left out where it is `host`.
pub(super) fn exchange_rows(graph: &TraceGraph<'_>, query: &DnsQueryTrace, host: &str) -> Vec<Row> {
    let server = server(graph, query);
    let mut rows = Vec::with_capacity(query.dns_query_msgs.len());
    let replies = &query.dns_reply_msgs;
    let mut is_used = vec![false; replies.len()];
    // The indexes of the replies that are not matched with a query yet, by ID.
    let mut unused: HashMap<u16, VecDeque<usize>> = HashMap::new();
    for (at, reply) in replies.iter().enumerate().filter(|(_, reply)| reply.ignored.is_empty()) {
        unused.entry(reply.id).or_default().push_back(at);
    }
    for message in &query.dns_query_msgs {
        let at = unused.get_mut(&message.id).and_then(VecDeque::pop_front);
        let reply = at.map(|at| {
            is_used[at] = true;
            &replies[at]
        });
        rows.push(query_row(graph, query, message, reply, &server, host));
    }
    for reply in replies.iter().zip(is_used).filter(|(_, is_used)| !is_used).map(|(reply, _)| reply) {
        let at = graph.times.at(reply.recv_at);
        let mut row = Row::part("", Style::Warn, at, None);
        row.notes.push(Style::Plain, &server.name);
        let why = if reply.ignored.is_empty() { "nothing asked for it" } else { &reply.ignored };
        row.notes.item(Style::Warn, format!("reply ignored: {why}"));
        rows.push(row);
    }
    rows
}

struct Nameserver<'a> {
    name: String,
    closed_at: Option<i64>,
    failure: Option<&'a Failure>,
    error: &'a str,
}

/// Returns the nameserver at the other end of the connection.
fn server<'a>(graph: &TraceGraph<'a>, query: &DnsQueryTrace) -> Nameserver<'a> {
    let id = &query.connection;
    if let Some(conn) = graph.trace.udp_conns.get(id) {
        return Nameserver {
            name: address(&conn.addr_tuple.dst_ip, conn.addr_tuple.dst_port),
            closed_at: graph.times.at(conn.conn_close_at),
            failure: conn.failure.as_ref(),
            error: &conn.conn_err,
        };
    }
    match graph.trace.tcp_conns.get(id) {
        Some(conn) => Nameserver {
            name: format!(
                "{} {}",
                protocol(graph, query),
                address(&conn.addr_tuple.dst_ip, conn.addr_tuple.dst_port)
            ),
            closed_at: graph.times.at(conn.conn_close_at),
            failure: conn.failure.as_ref(),
            error: &conn.conn_err,
        },
        None => Nameserver { name: String::new(), closed_at: None, failure: None, error: "" },
    }
}

/// Returns the protocol that carried the messages over a TCP connection.
fn protocol(graph: &TraceGraph<'_>, query: &DnsQueryTrace) -> &'static str {
    match graph.last_tunnel_of(&query.connection) {
        _ if !query.http_req.is_empty() => "https",
        Some(_) => "tls",
        None => "tcp",
    }
}

fn query_row(
    graph: &TraceGraph<'_>,
    query: &DnsQueryTrace,
    message: &DnsQueryMsg,
    reply: Option<&DnsReplyMsg>,
    server: &Nameserver<'_>,
    host: &str,
) -> Row {
    let sent = graph.times.at(message.sent_at);
    let received = reply.map(|reply| graph.times.at(reply.recv_at));
    let is_running = reply.is_none() && query.end_reason.is_none() && server.closed_at.is_none();
    let end = received.unwrap_or_else(|| {
        graph.times.at(query.end_at).or(server.closed_at).or(graph.times.end.filter(|_| is_running))
    });
    let question = message.questions.first();
    let kind = question.map_or("?", |question| type_name(&question.r#type, question.type_code, "?"));
    let mut row = Row::part(kind, Style::Dns, sent, end);
    let name = question.map_or("", |question| question.name.trim_end_matches('.'));
    if !name.eq_ignore_ascii_case(host.trim_end_matches('.')) {
        row.notes.push(Style::Plain, name);
    }
    row.notes.item(Style::Plain, &server.name);
    match reply {
        Some(reply) => {
            if !matches!(reply.r_code, None | Some(DnsRCode::NoError)) {
                row.style = Style::Bad;
            }
            reply_text(&mut row.notes, reply, kind);
        }
        None if is_running => row.notes.item(Style::Warn, "still waiting"),
        None => {
            let ending = Ending {
                reason: query.end_reason.as_ref(),
                failure: query.failure.as_ref().or(server.failure),
                text: &readable::shortened(server.error),
            };
            row.style = Style::Warn;
            row.notes.item(Style::Warn, "no reply");
            row.append_ending(&ending);
        }
    }
    row
}

/// Appends the content of a reply.
fn reply_text(notes: &mut Line, reply: &DnsReplyMsg, kind: &str) {
    /// The number of answers that are shown. The others are counted.
    const MAX_SHOWN_ANSWERS: usize = 8;
    match &reply.r_code {
        None | Some(DnsRCode::NoError) => {}
        Some(code) => notes.word(Style::Bad, format!("✗ {}", mnemonic(code))),
    }
    let (aliases, values): (Vec<_>, Vec<_>) = reply
        .answers
        .iter()
        .partition(|answer| matches!(answer.r#type, DnsResType::Cname) && kind != "CNAME");
    for alias in aliases.iter().take(MAX_SHOWN_ANSWERS) {
        notes.word(Style::Dim, format!("→ {}", alias.resolved_val.trim_end_matches('.')));
    }
    let texts = values.iter().take(MAX_SHOWN_ANSWERS).map(|answer| value_text(answer));
    let values_text = texts.collect::<Vec<_>>().join(", ");
    if !values.is_empty() {
        notes.word(Style::Dim, "→ ");
        notes.push(Style::Plain, values_text);
        if values.len() > MAX_SHOWN_ANSWERS {
            notes.word(Style::Dim, format!("and {} more", values.len() - MAX_SHOWN_ANSWERS));
        }
    } else if matches!(reply.r_code, Some(DnsRCode::NoError)) && !reply.truncated {
        notes.word(Style::Dim, "→ none");
    }
    if let Some(count) = reply.truncated_fields.get("answers") {
        notes.word(Style::Dim, format!("of {count} answers"));
    }
    if reply.truncated {
        notes.item(Style::Warn, "truncated");
    }
}

/// Returns the usual name of a type: `otherwise` if the trace has neither a name nor a known number.
fn type_name<'a>(r#type: &'a DnsResType, code: u16, otherwise: &'a str) -> &'a str {
    match (r#type, code) {
        (DnsResType::Unrecognized, 64) => "SVCB",
        (DnsResType::Unrecognized, 65) => "HTTPS",
        (DnsResType::Unrecognized, _) => otherwise,
        (other, _) => other.as_str(),
    }
}

/// Returns the value of an answer, or the type of one that has none.
fn value_text(answer: &DnsAnswer) -> Cow<'_, str> {
    match (answer.resolved_val.as_str(), &answer.svcb) {
        ("", Some(svcb)) => svcb_text(svcb).into(),
        ("", None) => type_name(&answer.r#type, answer.type_code, answer.r#type.as_str()).into(),
        (value, _) => value.trim_end_matches('.').into(),
    }
}

/// Returns the data of an SVCB or HTTPS record in presentation format (RFC 9460 section 2.1).
fn svcb_text(svcb: &DnsSvcb) -> String {
    let mut text = format!("{} {}", svcb.priority, svcb.target);
    let lists = [("alpn", &svcb.alpn), ("ipv4hint", &svcb.ipv4_hints), ("ipv6hint", &svcb.ipv6_hints)];
    for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        text.push_str(&format!(" {key}={}", list.join(",")));
    }
    if let Some(port) = svcb.port {
        text.push_str(&format!(" port={port}"));
    }
    if svcb.ech {
        text.push_str(" ech");
    }
    text
}

/// Returns the usual name of a response code, such as `NXDOMAIN`.
fn mnemonic(code: &DnsRCode) -> &str {
    match code {
        DnsRCode::FormatErr => "FORMERR",
        DnsRCode::ServFail => "SERVFAIL",
        DnsRCode::NxDomain => "NXDOMAIN",
        DnsRCode::NotImp => "NOTIMP",
        DnsRCode::Refused => "REFUSED",
        other => other.as_str(),
    }
}

/// Returns the row of a nameserver that could not be reached.
fn failed_nameserver(graph: &TraceGraph<'_>, attempt: &ResolverDialTrace) -> Option<Row> {
    let ending = Ending { reason: None, failure: attempt.failure.as_ref(), text: &attempt.dial_err };
    if !ending.is_failure() {
        return None;
    }
    let times = graph.times;
    let mut row = Row::part("✗", Style::Bad, times.at(attempt.dial_begin_at), times.at(attempt.dial_end_at));
    row.notes.push(Style::Plain, &attempt.nameserver);
    row.append_ending(&ending);
    Some(row)
}

/// Returns the rows of dials to nameservers that the lookup waited for, each once. Lookups share their connections, and
/// the dials are drawn in blocks of their own.
fn awaited_dials<'i>(graph: &'i TraceGraph<'_>, dial: &'i DialTrace) -> impl Iterator<Item = Row> + 'i {
    let mut seen = HashSet::new();
    let attempts = dial
        .resolver_dials
        .iter()
        .filter(|attempt| !attempt.shared_dial.is_undefined() && !attempt.established_conn.is_undefined());
    let attempts = attempts.filter(move |attempt| seen.insert(attempt.shared_dial.as_str()));
    attempts.map(|attempt| {
        let times = graph.times;
        let (begin, end) = (times.at(attempt.dial_begin_at), times.at(attempt.dial_end_at));
        let mut row = Row::part("dial", Style::Dns, begin, end);
        row.notes.push(Style::Plain, &attempt.nameserver);
        row.notes.item(Style::Dim, attempt.shared_dial.as_str());
        row
    })
}

/// Returns the rows of connections to nameservers whose messages were not recorded.
fn unrecorded_exchanges<'i>(graph: &'i TraceGraph<'_>, dial: &DialTrace) -> impl Iterator<Item = Row> + 'i {
    let times = graph.times;
    let udp = graph.udp_of(dial).iter().filter(|conn| conn.from_resolver).map(|conn| {
        let span = (conn.socket_create_at, conn.conn_close_at);
        (&conn.trace_id, "udp", &conn.addr_tuple, span, conn.total_sent_bytes, conn.total_recv_bytes)
    });
    let tcp = graph.tcp_of(dial).iter().filter(|conn| conn.from_resolver && conn.connected).map(|conn| {
        let span = (conn.handshake_begin_at, conn.conn_close_at);
        (&conn.trace_id, "tcp", &conn.addr_tuple, span, conn.total_sent_bytes, conn.total_recv_bytes)
    });
    let unseen = udp.chain(tcp).filter(|(id, ..)| !graph.has_messages(id.as_str()));
    unseen.map(move |(_, kind, addrs, (begin, end), sent, received)| {
        let mut row = Row::part(kind, Style::Dns, times.at(begin), times.at(end));
        row.notes.push(Style::Plain, address(&addrs.dst_ip, addrs.dst_port));
        let sizes = format!("{} sent, {} received", readable::bytes(sent), readable::bytes(received));
        row.notes.item(Style::Dim, sizes);
        row
    })
}

/// Returns the rows of nameservers that were skipped.
fn skipped_nameservers(dial: &DialTrace) -> impl Iterator<Item = Row> + '_ {
    dial.skipped_nameservers.iter().enumerate().map(|(at, nameserver)| {
        let mut row = Row::part("", Style::Dim, None, None);
        row.notes.push(Style::Dim, format!("{nameserver} skipped"));
        if let Some(reason) = dial.skip_reasons.get(at).filter(|reason| !reason.is_empty()) {
            row.notes.push(Style::Dim, format!(": {reason}"));
        }
        row
    })
}

/// Formats an address and a port.
pub(super) fn address(ip: &str, port: u16) -> String {
    match (ip, port) {
        ("", 0) => "?".into(),
        (ip, port) if ip.contains(':') => format!("[{}]:{port}", readable::shortened(ip)),
        (ip, port) => format!("{}:{port}", readable::shortened(ip)),
    }
}

/// Returns the host of `host:port`.
fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}
