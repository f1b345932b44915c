//! A table of requests: a row for each, below the address that it went to.

use super::block::Ending;
use super::conn;
use super::request;
use super::style::{Line, Palette, Style};
use crate::graph::{ConnSource, TraceGraph};
use crate::readable;
use crate::record::{HttpReqTrace, NetTrace, TcpConnTrace, Timings};
use std::{fmt, net::IpAddr, time::Duration};

/// Lists the requests of a trace, to compare them: a row for each, with its connection, its outcome and the durations of
/// its phases.
///
/// Requests with the same method and URL in a row have a common title. Below it, those to the same address with the same
/// protocol have a common heading. A request that was redirected is one row, with the sums over its hops. Phases that
/// hardly took any time, such as sending a short request, are left out.
///
/// ```
/// # let trace = nettrace::NetTrace::default();
/// print!("{}", nettrace::view::table(&trace));
/// ```
pub fn table(trace: &NetTrace) -> Table {
    let graph = TraceGraph::new(trace);
    let rows: Vec<_> = graph.chains().iter().map(|chain| Row::new(&graph, chain)).collect();
    Table { color: false, ascii: false, coarse: graph.times.coarse, rows }
}

/// A table of requests, created by [`table`]. Its [`Display`](fmt::Display) prints it for a terminal, in 80 columns
/// if the URLs and addresses fit into them.
#[derive(Clone, Debug)]
#[must_use = "it is printed when it is displayed"]
pub struct Table {
    color: bool,
    ascii: bool,
    /// Whether all times of the trace are whole milliseconds.
    coarse: bool,
    rows: Vec<Row>,
}

impl Table {
    /// Sets whether to use colors (ANSI escape sequences). Off by default.
    pub fn color(self, color: bool) -> Self {
        Table { color, ..self }
    }

    /// Sets whether to print ASCII characters only. Off by default.
    pub fn ascii(self, ascii: bool) -> Self {
        Table { ascii, ..self }
    }
}

/// A request with the redirects that it led to.
#[derive(Clone, Debug)]
struct Row {
    /// The method and the URL of the first hop.
    title: Line,
    /// Where the last hop went: the family and address of the server or the proxy.
    peer: Line,
    /// The versions of HTTP and TLS, as far as they are known.
    protocol: Line,
    /// Whether a connection was made for the request: `new`, `reused`, `none`.
    connection: &'static str,
    outcome: Line,
    /// The sums over the hops.
    phases: Phases,
    remarks: Vec<Line>,
}

/// The durations of the phases, in the order of [`Timings::PHASES`].
type Phases = [Option<Duration>; Timings::PHASES.len()];

/// The phases that always have a column.
const COMMON_PHASES: [&str; 5] = ["dns", "connect", "tls", "wait", "total"];

impl Row {
    fn new(graph: &TraceGraph<'_>, chain: &[usize]) -> Self {
        let hops: Vec<_> = chain.iter().map(|at| &graph.trace.http_requests[*at]).collect();
        let mut row = Row {
            title: Line::default(),
            peer: Line::default(),
            protocol: Line::default(),
            connection: connection(graph, chain),
            outcome: Line::default(),
            phases: sum(hops.iter().map(|hop| hop.timings(graph.trace).phases())),
            remarks: Vec::new(),
        };
        if let ([first, ..], [.., last], Some(at)) = (&hops[..], &hops[..], chain.last()) {
            row.title.push(Style::Strong, &first.req_method);
            row.title.word(Style::Strong, &first.req_url);
            let conn = conn_of(graph, *at);
            row.peer = peer(graph, *at, conn);
            row.protocol = protocol(graph, last, conn);
            row.outcome = outcome(last);
            if hops.len() > 1 {
                let mut line = Line::default();
                let redirects = readable::count(hops.len() - 1, "redirect");
                line.push(Style::Dim, format!("{redirects}, the last one to {}", last.req_url));
                row.remarks.push(line);
            }
        }
        row.remarks.extend(hops.iter().flat_map(|hop| request::resent(graph, hop)));
        row
    }

    /// Returns `true` if the phase with this index took at least a millisecond and a tenth of the request.
    fn is_worth_a_column(&self, phase: usize) -> bool {
        const MIN_TIME: Duration = Duration::from_millis(1);
        let [.., total] = self.phases;
        self.phases[phase].is_some_and(|time| time >= MIN_TIME && time >= total.unwrap_or_default() / 10)
    }
}

fn sum(hops: impl Iterator<Item = Phases>) -> Phases {
    hops.fold(Phases::default(), |mut sums, hop| {
        for (sum, time) in sums.iter_mut().zip(hop) {
            *sum = sum.iter().copied().chain(time).reduce(Duration::saturating_add);
        }
        sums
    })
}

/// Returns whether one of the hops made a connection.
fn connection(graph: &TraceGraph<'_>, chain: &[usize]) -> &'static str {
    let hops = || chain.iter().map(|at| (*at, &graph.trace.http_requests[*at]));
    if hops().any(|(_, hop)| hop.accepted) {
        "served"
    } else if hops().any(|(at, _)| graph.own_sources(at).iter().any(ConnSource::is_established)) {
        "new"
    } else if hops().any(|(_, hop)| !hop.tcp_conn.is_undefined()) {
        "reused"
    } else {
        "none"
    }
}

/// Returns the connection of a request, or the last one that was made for it.
fn conn_of<'a>(graph: &TraceGraph<'a>, at: usize) -> Option<&'a TcpConnTrace> {
    let linked = graph.trace.tcp_conns.get(&graph.trace.http_requests[at].tcp_conn);
    linked.or_else(|| attempts(graph, at).filter(|conn| conn.connected).last())
}

/// Returns the attempts to connect that a request caused.
fn attempts<'a>(graph: &TraceGraph<'a>, at: usize) -> impl Iterator<Item = &'a TcpConnTrace> {
    let conns = graph.own_sources(at).iter().flat_map(|source| match source {
        ConnSource::Dial(dial) => graph.tcp_of(dial).to_vec(),
        ConnSource::Conn(conn) => vec![*conn],
    });
    conns.filter(|conn| !conn.from_resolver)
}

/// Returns the address that a request went to, or those that were tried.
fn peer(graph: &TraceGraph<'_>, at: usize, conn: Option<&TcpConnTrace>) -> Line {
    /// The maximum number of addresses that are listed.
    const MAX_ADDRESSES: usize = 4;
    let mut line = Line::default();
    let with_family = |conn: &TcpConnTrace| format!("{} {}", family(conn), conn::remote(conn));
    match conn {
        Some(conn) => line.push(Style::Plain, with_family(conn)),
        None => {
            let tried: Vec<_> = attempts(graph, at).map(with_family).collect();
            line.push(Style::Plain, tried[..tried.len().min(MAX_ADDRESSES)].join(", "));
            if tried.len() > MAX_ADDRESSES {
                line.push(Style::Dim, format!(" and {} more", tried.len() - MAX_ADDRESSES));
            }
        }
    }
    if line.is_empty() {
        line.push(Style::Dim, "no connection");
    }
    let proxy = &graph.trace.http_requests[at].network_proxy;
    if !proxy.is_empty() {
        line.item(Style::Plain, format!("through {proxy}"));
    }
    line
}

fn family(conn: &TcpConnTrace) -> &'static str {
    match conn.addr_tuple.dst_ip.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        _ if !conn.unix_path.is_empty() => "unix",
        Ok(IpAddr::V4(_)) => "IPv4",
        Ok(IpAddr::V6(_)) => "IPv6",
        Err(_) => "at",
    }
}

fn protocol(graph: &TraceGraph<'_>, request: &HttpReqTrace, conn: Option<&TcpConnTrace>) -> Line {
    let mut line = Line::default();
    if request.resp_status_code != 0 && request.proto_major > 0 {
        line.item(Style::Plain, request::version(request));
    }
    let below = || conn.and_then(|conn| graph.last_tunnel_of(&conn.trace_id));
    if let Some(tunnel) = graph.trace.tls_tunnels.get(&request.tls_tunnel).or_else(below) {
        line.item(Style::Plain, readable::shortened(conn::tls_version(tunnel)));
    }
    line
}

/// Returns the status, or how the request failed.
fn outcome(request: &HttpReqTrace) -> Line {
    let mut line = Line::default();
    let ending: Ending<'_> = request::ending(request);
    let (code, has_failed) = (request.resp_status_code, ending.is_failure());
    match code {
        0 => {}
        _ if has_failed => line.push(Style::Plain, code.to_string()),
        _ => line.push(request::status_style(code), readable::status(code)),
    }
    if has_failed {
        line.word(Style::Bad, format!("✗ {}", ending.code()));
    } else if code == 0 {
        ending.describe(&mut line);
    }
    if line.is_empty() {
        line.push(Style::Warn, "still running");
    }
    line
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let palette = Palette { color: self.color, ascii: self.ascii };
        if self.rows.is_empty() {
            return writeln!(f, "No request was traced.");
        }
        for (at, rows) in self.rows.chunk_by(|a, b| a.title == b.title).enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            palette.line(f, &rows[0].title)?;
            writeln!(f)?;
            Section::new(palette, self.coarse, rows).print(f, rows)?;
        }
        Ok(())
    }
}

/// The layout of the rows with a common title.
struct Section {
    palette: Palette,
    coarse: bool,
    outcome_width: usize,
    /// The indexes of the phases that have a column.
    columns: Vec<usize>,
    column_width: usize,
}

impl Section {
    fn new(palette: Palette, coarse: bool, rows: &[Row]) -> Self {
        let has_column = |at: &usize| {
            COMMON_PHASES.contains(&Timings::PHASES[*at]) || rows.iter().any(|row| row.is_worth_a_column(*at))
        };
        let outcome_width = rows.iter().map(|row| row.outcome.width()).max().unwrap_or_default();
        let columns: Vec<_> = (0..Timings::PHASES.len()).filter(has_column).collect();
        let before = INDENT_COLUMNS + CONNECTION_COLUMNS + outcome_width;
        let is_wide = before + columns.len() * WIDE_COLUMN <= MAX_COLUMNS;
        let column_width = if is_wide { WIDE_COLUMN } else { NARROW_COLUMN };
        Section { palette, coarse, outcome_width, columns, column_width }
    }

    fn print(&self, f: &mut fmt::Formatter<'_>, rows: &[Row]) -> fmt::Result {
        let mut rest = rows;
        while let [first, ..] = rest {
            let (count, protocol) = group(rest, first);
            let mut heading = first.peer.clone();
            heading.append_item(protocol);
            self.heading(f, &heading, rest.len() == rows.len())?;
            rest[..count].iter().try_for_each(|row| self.row(f, row))?;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Prints the heading of a group, that of the first one below the names of the columns.
    fn heading(&self, f: &mut fmt::Formatter<'_>, heading: &Line, is_first: bool) -> fmt::Result {
        if is_first {
            let begin = INDENT_COLUMNS + CONNECTION_COLUMNS + self.outcome_width;
            let names = self
                .columns
                .iter()
                .map(|at| format!("{:>width$}", Timings::PHASES[*at], width = self.column_width));
            self.palette.write(f, Style::Dim, &format!("{:begin$}{}", "", names.collect::<String>()))?;
            writeln!(f)?;
        }
        self.palette.line(f, heading)?;
        writeln!(f)
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
        write!(f, "{:INDENT_COLUMNS$}", "")?;
        self.palette.write(f, Style::Plain, &format!("{:<CONNECTION_COLUMNS$}", row.connection))?;
        self.palette.line(f, &row.outcome)?;
        write!(f, "{:width$}", "", width = self.outcome_width - row.outcome.width())?;
        let shown = self.columns.iter().map(|at| row.phases[*at]);
        let shown: Vec<_> =
            shown.map(|time| time.map(|time| self.duration(time)).unwrap_or_default()).collect();
        let until_last = shown.iter().rposition(|text| !text.is_empty()).map_or(0, |last| last + 1);
        for text in &shown[..until_last] {
            write!(f, "{:width$}", "", width = self.column_width.saturating_sub(text.chars().count()))?;
            self.palette.write(f, Style::Plain, text)?;
        }
        writeln!(f)?;
        for remark in &row.remarks {
            write!(f, "{:width$}", "", width = INDENT_COLUMNS + CONNECTION_COLUMNS)?;
            self.palette.line(f, remark)?;
            writeln!(f)?;
        }
        Ok(())
    }

    fn duration(&self, time: Duration) -> String {
        readable::duration(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX), self.coarse)
    }
}

/// Returns how many of the rows have the heading of the first one, and their protocol as far as it is known of any.
fn group<'r>(rows: &'r [Row], first: &'r Row) -> (usize, &'r Line) {
    let mut protocol = &first.protocol;
    for (at, row) in rows.iter().enumerate() {
        let is_known = !protocol.is_empty() && !row.protocol.is_empty();
        if row.peer != first.peer || (is_known && row.protocol != *protocol) {
            return (at, protocol);
        }
        if protocol.is_empty() {
            protocol = &row.protocol;
        }
    }
    (rows.len(), protocol)
}

const INDENT_COLUMNS: usize = 2;
const CONNECTION_COLUMNS: usize = 8;
/// The width of the column of a phase, and that where there would be too many columns otherwise.
const WIDE_COLUMN: usize = 9;
const NARROW_COLUMN: usize = 8;
const MAX_COLUMNS: usize = 80;
