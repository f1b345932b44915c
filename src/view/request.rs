//! Blocks for requests: their own dials, and the exchange over the connection.

use super::block::{Block, Ending, Row, Section, total};
use super::conn;
use super::style::{Line, Style};
use crate::graph::{ConnSource, TraceGraph};
use crate::readable;
use crate::record::{
    Attempt, Failure, HttpReqTrace, PoolWait, TcpConnTrace, WaitBreakdown, grpc_status_name,
};

/// Returns the block of the request with this graph. `hop` is the number of redirects that led to it.
pub(super) fn block(graph: &TraceGraph<'_>, at: usize, hop: usize, headers: bool) -> Block {
    let request = &graph.trace.http_requests[at];
    let conn = graph.trace.tcp_conns.get(&request.tcp_conn);
    let mut rows = connect_rows(graph, at);
    let span = TimeSpan::new(graph, request, &rows);
    if let Some(row) = blocked_row(graph, request, &rows, &span) {
        rows.insert(0, row);
    }
    rows.extend(exchange_rows(graph, at, &rows, &span));
    let ending = ending(request);
    let mut block = Block {
        title: title(request, &ending, &span, hop),
        total: Line::default(),
        facts: facts(graph, at, conn),
        begin: span.begin.unwrap_or_default(),
        end: span.end.or(span.begin).unwrap_or_default(),
        rows,
        sections: graph
            .earlier_sources(at)
            .iter()
            .map(|source| earlier_section(graph, request, *source))
            .collect(),
        remarks: remarks(graph, request, &ending),
    };
    block.total.push(Style::Strong, total(span.begin, span.end, graph.times));
    if headers {
        let sources = graph.own_sources(at).iter().chain(graph.earlier_sources(at));
        let connects = sources.flat_map(|source| conn::connects(graph, *source));
        block.remarks.splice(0..0, connects.chain([request]).flat_map(header_fields));
    }
    block.append_errors(&request.req_error)
}

/// The begin and end of a request, and whether it is still running.
struct TimeSpan {
    begin: Option<i64>,
    end: Option<i64>,
    is_running: bool,
}

impl TimeSpan {
    fn new(graph: &TraceGraph<'_>, request: &HttpReqTrace, connecting: &[Row]) -> TimeSpan {
        let times = graph.times;
        let begin = times.at(request.req_sent_at);
        let known = times.at(request.end_at);
        // The Go package writes neither end nor end reason of a request, and never `connAcquiredAt`.
        let has_ended = known.is_some()
            || request.end_reason.is_some()
            || ending(request).is_failure()
            || (request.conn_acquired_at.is_undefined() && !request.resp_recv_at.is_undefined());
        let end = match known {
            None if !has_ended => times.end,
            None => {
                let seen = [request.resp_body_end_at, request.resp_recv_at, request.req_body_end_at];
                let seen = seen.into_iter().filter_map(|time| times.at(time));
                let last = seen.chain(connecting.iter().filter_map(Row::end)).max().or(begin);
                body_end(graph, request).max(last)
            }
            known => known,
        };
        TimeSpan { begin, end, is_running: !has_ended }
    }
}

/// Returns when the last byte of the response was read from the socket, if no other request shared the connection.
fn body_end(graph: &TraceGraph<'_>, request: &HttpReqTrace) -> Option<i64> {
    if !graph.is_only_on(&request.tcp_conn) {
        return None;
    }
    let conn = graph.trace.tcp_conns.get(&request.tcp_conn)?;
    let ops = conn.socket_trace.as_ref()?.socket_ops.iter();
    ops.filter(|op| op.data_len > 0).filter_map(|op| graph.times.at(op.return_at)).max()
}

pub(super) fn ending(request: &HttpReqTrace) -> Ending<'_> {
    Ending {
        reason: request.end_reason.as_ref(),
        failure: request.failure.as_ref(),
        text: &request.req_error,
    }
}

/// Returns the rows of what the request did to get a connection: its dials, and tunnels over connections that are not
/// in the trace.
fn connect_rows(graph: &TraceGraph<'_>, at: usize) -> Vec<Row> {
    let used = used_conn(&graph.trace.http_requests[at]);
    let mut rows: Vec<Row> =
        graph.own_sources(at).iter().flat_map(|source| conn::source_rows(graph, *source, used)).collect();
    rows.extend(graph.tunnels_without_conn(at).iter().map(|tunnel| conn::tls_row(graph, tunnel)));
    rows
}

fn used_conn(request: &HttpReqTrace) -> Option<&str> {
    Some(request.tcp_conn.as_str()).filter(|id| !id.is_empty())
}

/// Returns the section for the dial of a connection that the request is the first to use but did not cause.
fn earlier_section(graph: &TraceGraph<'_>, request: &HttpReqTrace, source: ConnSource<'_>) -> Section {
    let rows = conn::source_rows(graph, source, used_conn(request));
    let mut title = Line::default();
    let (verb, id, begin) = match source {
        ConnSource::Dial(dial) => ("dialled", &dial.trace_id, dial.dial_begin_at),
        ConnSource::Conn(conn) => ("connected", &conn.trace_id, conn.handshake_begin_at),
    };
    let begin = graph.times.at(begin).or_else(|| rows.iter().filter_map(Row::begin).min());
    let sent = graph.times.at(request.req_sent_at);
    let ahead = sent.zip(begin).map(|(sent, begin)| sent.saturating_sub(begin));
    match ahead {
        Some(ahead @ 0..) => {
            let ahead = readable::duration(ahead, graph.times.coarse);
            title.push(Style::Plain, format!("{verb} {ahead} before this request"));
        }
        _ => title.push(Style::Plain, format!("{verb} not by this request")),
    }
    if let ConnSource::Dial(dial) = source {
        title.word(Style::Plain, format!("to {}", dial.dst_address));
        if !dial.triggered_by.is_undefined() {
            title.word(Style::Plain, format!("for {}", dial.triggered_by));
        }
    }
    title.item(Style::Dim, id.as_str());
    let end = match source {
        ConnSource::Dial(dial) => graph.times.at(dial.dial_end_at),
        ConnSource::Conn(conn) => graph.times.at(conn.handshake_end_at),
    };
    title.item(Style::Plain, total(begin, end, graph.times));
    Section { title, rows }
}

/// Returns the row of the time in which the request waited for a connection and none of its own dials was active.
fn blocked_row(graph: &TraceGraph<'_>, request: &HttpReqTrace, own: &[Row], span: &TimeSpan) -> Option<Row> {
    let begin = span.begin.filter(|_| !request.accepted)?;
    let acquired = graph.times.at(request.conn_acquired_at);
    // Some clients, and the Go package, do not record when a request got a connection. An answered one had one.
    let is_unanswered = request.resp_recv_at.is_undefined();
    let is_known = acquired.is_some() || is_unanswered && (request.end_reason.is_some() || span.is_running);
    // The time after the last failure is no waiting.
    let until = acquired.or_else(|| own.iter().filter_map(Row::end).max()).or(span.end);
    let until = until.filter(|_| is_known)?.max(begin);
    let mut busy: Vec<(i64, i64)> =
        own.iter().filter(|row| !row.is_part).flat_map(|row| row.parts.iter().copied()).collect();
    busy.sort_unstable();
    let (mut idle, mut at) = (Vec::new(), begin);
    for (from, to) in busy {
        let from = from.min(until);
        if from > at {
            idle.push((at, from));
        }
        at = at.max(to);
    }
    if at < until {
        idle.push((at, until));
    }
    let sum = idle.iter().map(|(from, to)| to - from).fold(0, i64::saturating_add);
    let whole = span.end.unwrap_or(until).saturating_sub(begin);
    // The short time between one step and the next is left out.
    let share = if own.is_empty() { 100 } else { 20 };
    if sum < 10_000_000 && sum.saturating_mul(share) < whole {
        return None;
    }
    let mut row = Row::new("blocked", Style::Blocked, None, None);
    row.duration = Some(sum);
    row.parts = idle;
    if acquired.is_none() && own.is_empty() {
        row.notes.push(Style::Plain, "no connection yet");
    } else if own.is_empty() {
        row.notes.push(Style::Plain, "waiting for a connection");
    }
    if request.pool.as_ref().is_some_and(|checkout| checkout.waited_for == Some(PoolWait::Limit)) {
        row.notes.item(Style::Warn, "as many as the limit allows are in use");
    }
    Some(row)
}

/// The names of the phases, on the client's or the server's side.
struct Labels {
    send: &'static str,
    wait: &'static str,
    receive: &'static str,
}

impl Labels {
    fn new(request: &HttpReqTrace) -> Self {
        if request.accepted {
            Labels { send: "read", wait: "serve", receive: "reply" }
        } else {
            Labels { send: "send", wait: "wait", receive: "receive" }
        }
    }
}

/// Returns the rows of sending, waiting and receiving.
fn exchange_rows(graph: &TraceGraph<'_>, request: usize, own: &[Row], span: &TimeSpan) -> Vec<Row> {
    let at = |time| graph.times.at(time);
    let made_rows = made_rows(graph, request);
    let request = &graph.trace.http_requests[request];
    let mut rows = Vec::new();
    let labels = Labels::new(request);
    let head = at(request.resp_recv_at);
    let connected = own.iter().filter(|row| row.style != Style::Bad).filter_map(Row::end).max();
    let ready = match at(request.conn_acquired_at) {
        None if request.resp_status_code != 0 => connected.max(span.begin),
        acquired => acquired,
    };
    let Some(ready) = ready else { return rows };

    let sent = at(request.req_body_end_at);
    let is_stuck = sent.is_none() && head.is_none();
    if request.req_content_len > 0
        || is_stuck
        || sent.is_some_and(|sent| sent.saturating_sub(ready) >= 1_000_000)
    {
        let until = if is_stuck { span.end } else { sent };
        let mut row = Row::new(labels.send, Style::Send, Some(ready), until);
        row.notes.push(Style::Plain, readable::bytes(request.req_content_len));
        if let Some(waited) = request.window_wait_us {
            let waited = readable::duration(i64::from(waited.get()) * 1_000, false);
            row.notes.item(Style::Warn, format!("{waited} blocked by flow control"));
        }
        rows.push(row);
    }
    if head.is_some() || sent.is_some() {
        let begin = sent.unwrap_or(ready).min(head.unwrap_or(i64::MAX));
        let mut row = Row::new(labels.wait, Style::Wait, Some(begin), head.or(span.end));
        for interim in &request.informational {
            let after = at(interim.recv_at)
                .map(|at| readable::duration(at.saturating_sub(begin), graph.times.coarse));
            row.notes.item(Style::Plain, readable::status(interim.status));
            row.notes.word(Style::Dim, after.map(|after| format!("after {after}")).unwrap_or_default());
        }
        if let Some(first) = at(request.first_byte_at) {
            let after = readable::duration(first.saturating_sub(begin), graph.times.coarse);
            row.notes.item(Style::Dim, format!("first byte after {after}"));
        }
        rows.push(row);
    }
    let after_wait = rows.len();
    if let Some(head) = head.filter(|_| !request.is_response_body_unobserved()) {
        let end = at(request.resp_body_end_at).or(span.end);
        let mut row = Row::new(labels.receive, Style::Receive, Some(head), end);
        received(&mut row.notes, request);
        rows.push(row);
    }
    let ending = ending(request);
    if let Some(last) = rows.last_mut() {
        last.append_ending(&ending);
        if span.is_running {
            last.notes.item(Style::Warn, "still running");
        }
    }
    rows.splice(after_wait..after_wait, kernel_row(graph, request).into_iter().chain(made_rows));
    rows
}

/// Returns the row of how the wait divides, according to the kernel's time stamps.
fn kernel_row(graph: &TraceGraph<'_>, request: &HttpReqTrace) -> Option<Row> {
    let WaitBreakdown { own_stack, network, server, read_delay, .. } = request.wait_breakdown(graph.trace)?;
    let mut row = Row::part("kernel", Style::Dim, None, None);
    let parts =
        [("own stack", own_stack), ("network", network), ("server", server), ("read late", read_delay)];
    for (name, time) in parts {
        let nanos = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        row.notes.item(Style::Plain, format!("{name} {}", readable::duration(nanos, graph.times.coarse)));
    }
    Some(row)
}

/// Returns a row for each request that was made while this one was answered.
fn made_rows(graph: &TraceGraph<'_>, request: usize) -> Vec<Row> {
    /// The maximum number of rows.
    const MAX_ROWS: usize = 32;
    let made = graph.made_for(request);
    let row = |at: &usize| {
        let made = &graph.trace.http_requests[*at];
        let span = TimeSpan::new(graph, made, &[]);
        let mut row = Row::part("call", Style::Wait, span.begin, span.end);
        row.notes = title(made, &ending(made), &span, 0);
        row.notes.word(Style::Dim, made.trace_id.as_str());
        row.style = ending(made).style(row.style);
        row
    };
    let mut rows: Vec<Row> = made.iter().take(MAX_ROWS).map(row).collect();
    if made.len() > MAX_ROWS {
        let mut row = Row::part("", Style::Dim, None, None);
        row.notes.push(Style::Dim, format!("and {}", readable::count(made.len() - MAX_ROWS, "more request")));
        rows.push(row);
    }
    rows
}

fn received(notes: &mut Line, request: &HttpReqTrace) {
    let decoded = request.resp_content_len;
    match request.resp_encoded_len {
        Some(encoded) if encoded != decoded => {
            notes.push(
                Style::Plain,
                format!("{}, decoded {}", readable::bytes(encoded), readable::bytes(decoded)),
            );
        }
        _ => notes.push(Style::Plain, readable::bytes(decoded)),
    }
    if !request.trailers.is_empty() {
        notes.item(Style::Dim, readable::count(request.trailers.len(), "trailer"));
    }
}

/// Returns the title, such as `GET https://example.com/ · 200 OK`.
fn title(request: &HttpReqTrace, ending: &Ending<'_>, span: &TimeSpan, hop: usize) -> Line {
    let mut title = Line::default();
    if hop > 0 {
        title.push(Style::Dim, "↳ ");
    }
    if request.accepted {
        title.push(Style::Dim, "served ");
    }
    title.push(Style::Strong, &request.req_method);
    title.word(Style::Strong, &request.req_url);
    if request.resp_status_code != 0 {
        let code = request.resp_status_code;
        title.item(status_style(code), readable::status(code));
    }
    if let Some(code) = request.grpc_status {
        let style = if code == 0 { Style::Good } else { Style::Bad };
        let name = grpc_status_name(code).map_or_else(|| format!("status {code}"), str::to_owned);
        title.item(style, format!("gRPC {name}"));
    }
    ending.describe(&mut title);
    if span.is_running {
        title.item(Style::Warn, "still running");
    }
    title
}

pub(super) fn status_style(code: u16) -> Style {
    match code {
        200..=299 => Style::Good,
        400.. => Style::Bad,
        _ => Style::Warn,
    }
}

fn facts(graph: &TraceGraph<'_>, at: usize, conn: Option<&TcpConnTrace>) -> Line {
    let request = &graph.trace.http_requests[at];
    let mut facts = Line::default();
    facts.item(Style::Dim, request.trace_id.as_str());
    if let Some(served) = graph.served_by(at) {
        facts.word(Style::Dim, format!("for {}", graph.trace.http_requests[served].trace_id));
    }
    if request.resp_status_code != 0 && request.proto_major > 0 {
        facts.item(Style::Plain, version(request));
        if let Some(stream) = request.stream_id {
            facts.word(Style::Dim, format!("stream {stream}"));
        }
    }
    // The Go package links only the first request on a connection to its tunnel.
    let below = || graph.last_tunnel_of(&request.tcp_conn);
    if let Some(tunnel) = graph.trace.tls_tunnels.get(&request.tls_tunnel).or_else(below) {
        facts.item(Style::Plain, readable::shortened(conn::tls_version(tunnel)));
    }
    match conn {
        Some(conn) => {
            facts.item(Style::Plain, conn_description(graph, at, conn));
            facts.word(Style::Dim, conn.trace_id.as_str());
            if let Some(age) = age(graph, request, conn) {
                facts.word(Style::Dim, format!("({age} old)"));
            }
            facts.word(Style::Plain, conn::endpoints(conn));
            conn::kernel_facts(&mut facts, conn);
            conn::wire_facts(&mut facts, conn);
        }
        None if graph.own_sources(at).iter().any(ConnSource::is_established) => {}
        // An answered request had a connection, though it is unknown which.
        None if request.tcp_conn.is_undefined() && request.resp_status_code == 0 => {
            facts.item(Style::Plain, "no connection");
        }
        None if request.tcp_conn.is_undefined() => facts.item(Style::Dim, "connection not known"),
        None => facts.item(Style::Dim, format!("connection {}", request.tcp_conn)),
    }
    if !request.network_proxy.is_empty() {
        facts.item(Style::Plain, format!("through {}", request.network_proxy));
    }
    facts
}

/// Returns the version of HTTP, such as `HTTP/1.1`.
pub(super) fn version(request: &HttpReqTrace) -> String {
    match (request.proto_major, request.proto_minor) {
        (major @ 2.., 0) => format!("HTTP/{major}"),
        (major, minor) => format!("HTTP/{major}.{minor}"),
    }
}

/// Describes the connection: whether it was made for this request or used before.
fn conn_description(graph: &TraceGraph<'_>, at: usize, conn: &TcpConnTrace) -> &'static str {
    let request = &graph.trace.http_requests[at];
    if graph.own_sources(at).iter().any(|source| source.has_made(conn)) {
        return "new connection";
    }
    if !conn.reused && graph.earlier_sources(at).iter().any(ConnSource::is_unattributed) {
        return "connection";
    }
    match graph.trace.dials.get(&conn.from_dial) {
        _ if request.accepted => "accepted connection",
        _ if conn.reused || age(graph, request, conn).is_some() => "reused connection",
        // It was dialled for a request that then used another connection.
        Some(_) => "connection dialled for another request",
        None => "connection",
    }
}

/// Returns for how long the connection had been open when the request was sent.
fn age(graph: &TraceGraph<'_>, request: &HttpReqTrace, conn: &TcpConnTrace) -> Option<String> {
    let (opened, sent) = (graph.times.at(conn.handshake_end_at)?, graph.times.at(request.req_sent_at)?);
    (sent > opened).then(|| readable::duration(sent.saturating_sub(opened), graph.times.coarse))
}

/// Returns the lines of the header fields, as curl shows them: `>` sent, `<` received.
fn header_fields(request: &HttpReqTrace) -> impl Iterator<Item = Line> + '_ {
    let sections = [(">", &request.req_header), ("<", &request.resp_header), ("<", &request.trailers)];
    sections.into_iter().flat_map(|(sign, fields)| {
        fields.iter().map(move |field| {
            let mut line = Line::default();
            line.push(Style::Dim, format!("{sign} {}", field.field_name));
            if !field.field_val.is_empty() {
                line.push(Style::Dim, ": ");
                line.push(Style::Plain, &field.field_val);
            } else if field.field_val_len > 0 {
                line.push(Style::Dim, format!(": ({})", readable::bytes(field.field_val_len.into())));
            }
            line
        })
    })
}

fn remarks(graph: &TraceGraph<'_>, request: &HttpReqTrace, ending: &Ending<'_>) -> Vec<Line> {
    let mut remarks = Vec::new();
    if !request.tags.is_empty() {
        let mut line = Line::default();
        for (key, value) in &*request.tags {
            line.item(Style::Dim, key.as_str());
            line.word(Style::Plain, value.as_str());
        }
        remarks.push(line);
    }
    remarks.extend(resent(graph, request));
    if !request.grpc_message.is_empty() {
        let mut line = Line::default();
        line.push(Style::Bad, "the server said:");
        line.word(Style::Plain, &request.grpc_message);
        remarks.push(line);
    }
    if ending.is_failure() {
        remarks.push(ending.remark());
    }
    remarks
}

/// Returns a line for each connection on which the request was tried before it was sent again.
pub(super) fn resent<'i>(
    graph: &'i TraceGraph<'_>,
    request: &'i HttpReqTrace,
) -> impl Iterator<Item = Line> + 'i {
    let is_refused =
        |attempt: &Attempt| matches!(attempt.failure, Some(Failure::Http2StreamReset | Failure::Http2Goaway));
    let before = request.attempts.split_last().map_or(&[][..], |(_, before)| before);
    let resent = before.iter().filter(move |it| it.tcp_conn != request.tcp_conn || is_refused(it));
    resent.map(move |attempt| {
        let mut line = Line::default();
        line.push(Style::Warn, "sent again: ");
        let is_refused = is_refused(attempt);
        line.push(Style::Plain, if is_refused { "not processed on" } else { "the kept connection" });
        line.word(Style::Dim, attempt.tcp_conn.as_str());
        if let Some(conn) = graph.trace.tcp_conns.get(&attempt.tcp_conn) {
            line.word(Style::Plain, conn::endpoints(conn));
        }
        if !is_refused {
            line.word(Style::Plain, "was closed by then");
        }
        if let Some(failure) = &attempt.failure {
            line.item(Style::Bad, format!("✗ {failure}"));
        }
        line
    })
}
