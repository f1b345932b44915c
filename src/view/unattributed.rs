//! Draws the records that belong to no request, each in a [`Block`] of its own.
//!
//! These are dials and connections of other protocols, accepted connections, DNS lookups outside a dial, UDP sockets
//! without DNS messages, and TLS handshakes (the trace calls them tunnels) whose connection is not drawn.

use super::block::{Block, Ending, Row, total};
use super::conn;
use super::dns;
use super::style::{Line, Style};
use crate::graph::{ConnSource, TraceGraph};
use crate::readable;
use crate::record::{DialTrace, DnsQueryTrace, EndReason, TcpConnTrace, UdpConnTrace};

/// Returns the blocks of all records that belong to no request, ordered by kind.
pub(super) fn blocks(graph: &TraceGraph<'_>) -> Vec<Block> {
    let trace = graph.trace;
    let dials_and_conns = graph.unattributed.iter().map(|source| match source {
        ConnSource::Dial(dial) => dial_block(graph, dial),
        ConnSource::Conn(conn) => conn_block(graph, conn),
    });
    let mut blocks: Vec<Block> = dials_and_conns.collect();
    blocks.extend(lookup_blocks(graph));
    // A socket to a nameserver is drawn with the lookup of its dial, and a socket with DNS messages with those.
    let is_of_lookup = |conn: &UdpConnTrace| conn.from_resolver && trace.dials.get(&conn.from_dial).is_some();
    let udp = trace.udp_conns.iter().filter(|conn| !is_of_lookup(conn));
    let udp = udp.filter(|conn| !graph.has_messages(conn.trace_id.as_str()));
    blocks.extend(udp.map(|conn| udp_block(graph, conn)));
    blocks.extend(graph.unattributed_tunnels.iter().map(|tunnel| {
        let mut title = Line::default();
        title.push(Style::Strong, format!("tls {}", tunnel.server_name));
        let mut facts = Line::default();
        facts.push(Style::Dim, tunnel.trace_id.as_str());
        spanning_block(graph, title, facts, vec![conn::tls_row(graph, tunnel)]).append_errors(NO_BLOCK_ERROR)
    }));
    blocks
}

/// The error of a block that shows none, so that [`Block::append_errors`] shows those of its rows.
const NO_BLOCK_ERROR: &str = "";

fn dial_block(graph: &TraceGraph<'_>, dial: &DialTrace) -> Block {
    let rows = conn::dial_rows(graph, dial, None);
    let ending =
        Ending { reason: dial.end_reason.as_ref(), failure: dial.failure.as_ref(), text: &dial.dial_err };
    let (begin, end) = (graph.times.at(dial.dial_begin_at), graph.times.at(dial.dial_end_at));
    let is_running = end.is_none() && dial.end_reason.is_none() && !ending.is_failure();
    let mut title = Line::default();
    title.push(Style::Strong, format!("dial {}", dial.dst_address));
    let established = graph.trace.tcp_conns.get(&dial.established_conn);
    match established {
        Some(_) if !ending.is_failure() => title.item(Style::Good, "connected"),
        None if is_running => title.item(Style::Warn, "still running"),
        _ => ending.describe(&mut title),
    }
    let mut facts = Line::default();
    facts.push(Style::Dim, dial.trace_id.as_str());
    if begin.is_some_and(|begin| begin < 0) {
        facts.item(Style::Plain, "before this trace");
    }
    if let Some(conn) = established {
        append_conn_facts(graph, &mut facts, conn);
    }
    let mut block = spanning_block(graph, title, facts, rows);
    if let Some(begin) = begin {
        block.begin = begin;
    }
    let running_end = graph.times.end.filter(|_| is_running);
    block.end = block.end.max(end.or(running_end).unwrap_or(block.begin));
    block.total = Line::default();
    block.total.push(Style::Strong, total(Some(block.begin), Some(block.end), graph.times));
    if ending.is_failure() {
        block.remarks.push(ending.remark());
    }
    // A trace may attribute the connection to another dial, whose block then shows how it was closed.
    let is_own = |conn: &&TcpConnTrace| graph.tcp_of(dial).iter().any(|own| std::ptr::eq(*own, *conn));
    if let Some(conn) = established.filter(is_own) {
        append_close_error(&mut block, conn);
    }
    block.append_errors(&dial.dial_err)
}

fn conn_block(graph: &TraceGraph<'_>, conn: &TcpConnTrace) -> Block {
    let handshake = (!conn.accepted).then(|| conn::attempt_row(graph, conn, None));
    let mut rows: Vec<Row> = handshake.into_iter().collect();
    rows.extend(conn::tunnel_rows(graph, conn));
    let mut title = Line::default();
    let what = if conn.accepted { "accepted" } else { "connection" };
    title.push(Style::Strong, format!("{what} {}", conn::remote(conn)));
    let mut facts = Line::default();
    append_conn_facts(graph, &mut facts, conn);
    let mut block = spanning_block(graph, title, facts, rows);
    if block.rows.is_empty() {
        let begin = graph.times.at(conn.handshake_begin_at).unwrap_or_default();
        (block.begin, block.end) = (begin, begin);
    }
    append_close_error(&mut block, conn);
    block.append_errors(NO_BLOCK_ERROR)
}

fn udp_block(graph: &TraceGraph<'_>, conn: &UdpConnTrace) -> Block {
    let times = graph.times;
    let addrs = &conn.addr_tuple;
    let mut title = Line::default();
    title.push(Style::Strong, format!("udp {}", dns::address(&addrs.dst_ip, addrs.dst_port)));
    let mut facts = Line::default();
    facts.push(Style::Dim, conn.trace_id.as_str());
    let end = times.at(conn.conn_close_at);
    let is_open = end.is_none() && conn.end_reason.is_none();
    let end = end.or(times.end.filter(|_| is_open));
    let mut row = Row::new("udp", Style::Receive, times.at(conn.socket_create_at), end);
    let ending =
        Ending { reason: conn.end_reason.as_ref(), failure: conn.failure.as_ref(), text: &conn.conn_err };
    row.notes.push(Style::Plain, sizes(conn.total_sent_bytes, conn.total_recv_bytes));
    row.append_ending(&ending);
    spanning_block(graph, title, facts, vec![row]).append_errors(NO_BLOCK_ERROR)
}

/// Returns blocks for lookups outside a dial. Queries for the same name share a block if each begins before the
/// previous one has ended or right after that: they are the A and AAAA queries of one lookup, and its retries.
fn lookup_blocks(graph: &TraceGraph<'_>) -> Vec<Block> {
    /// The longest pause between two queries of a lookup. A resolver retries immediately.
    const MAX_RETRY_GAP_NANOS: i64 = 10_000_000;
    /// How many of the latest blocks are searched for the lookup of a query, so that the work stays linear.
    const MAX_SEARCHED_BLOCKS: usize = 8;
    let mut blocks: Vec<(String, Block)> = Vec::new();
    let is_outside_dial = |query: &&DnsQueryTrace| graph.trace.dials.get(&query.from_dial).is_none();
    for query in graph.trace.dns_queries.iter().filter(is_outside_dial) {
        let question = query.dns_query_msgs.iter().flat_map(|message| &message.questions).next();
        let name = question.map_or("", |question| question.name.trim_end_matches('.'));
        let rows = dns::exchange_rows(graph, query, name);
        let begin = rows.iter().filter_map(Row::begin).min();
        let same_lookup = blocks.iter_mut().rev().take(MAX_SEARCHED_BLOCKS).find(|(other, block)| {
            other == name && begin.is_some_and(|begin| begin <= block.end.saturating_add(MAX_RETRY_GAP_NANOS))
        });
        if let Some((_, block)) = same_lookup {
            block.end = rows.iter().filter_map(Row::end).fold(block.end, i64::max);
            block.rows.extend(rows);
            continue;
        }
        let mut title = Line::default();
        title.push(Style::Strong, format!("look up {name}"));
        let mut facts = Line::default();
        facts.push(Style::Dim, query.trace_id.as_str());
        blocks.push((name.to_owned(), spanning_block(graph, title, facts, rows)));
    }
    let finish = |(_, mut block): (String, Block)| {
        block.total = Line::default();
        block.total.push(Style::Strong, total(Some(block.begin), Some(block.end), graph.times));
        block.append_errors(NO_BLOCK_ERROR)
    };
    blocks.into_iter().map(finish).collect()
}

/// Creates a block that begins with the first of its rows and ends with the last.
fn spanning_block(graph: &TraceGraph<'_>, title: Line, facts: Line, rows: Vec<Row>) -> Block {
    let begin = rows.iter().filter_map(Row::begin).min();
    let end = rows.iter().filter_map(Row::end).max();
    let mut sum = Line::default();
    sum.push(Style::Strong, total(begin, end, graph.times));
    Block {
        title,
        total: sum,
        facts,
        begin: begin.unwrap_or_default(),
        end: end.unwrap_or_default(),
        rows,
        sections: Vec::new(),
        remarks: Vec::new(),
    }
}

/// Appends facts about an established connection: its addresses, the bytes sent and received, how long it was open.
fn append_conn_facts(graph: &TraceGraph<'_>, facts: &mut Line, conn: &TcpConnTrace) {
    facts.item(Style::Dim, conn.trace_id.as_str());
    facts.word(Style::Plain, conn::endpoints(conn));
    if !conn.connected {
        return;
    }
    if conn.is_traffic_unobserved() {
        facts.item(Style::Dim, "bytes not observed");
    } else {
        facts.item(Style::Plain, sizes(conn.total_sent_bytes, conn.total_recv_bytes));
    }
    if conn.layer == "application" {
        facts.word(Style::Dim, "above TLS");
    }
    conn::kernel_facts(facts, conn);
    conn::wire_facts(facts, conn);
    let begin = graph.times.at(conn.handshake_end_at);
    match graph.times.at(conn.conn_close_at) {
        Some(end) => facts.item(Style::Plain, format!("open for {}", total(begin, Some(end), graph.times))),
        None if conn.end_reason == Some(EndReason::Unobserved) => {
            facts.item(Style::Dim, "close not observed")
        }
        None => facts.item(Style::Plain, "still open"),
    }
}

fn append_close_error(block: &mut Block, conn: &TcpConnTrace) {
    let line = conn::close_outcome(conn).remark();
    if !line.is_empty() && conn.connected {
        block.remarks.push(line);
    }
}

fn sizes(sent: u64, received: u64) -> String {
    format!("{} sent, {} received", readable::bytes(sent), readable::bytes(received))
}
