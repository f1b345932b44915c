//! Draws traces as text for people.
//!
//! [`waterfall`] draws the phases of every request to scale:
//!
//! ```
//! # let trace = nettrace::NetTrace::default();
//! print!("{}", nettrace::view::waterfall(&trace).color(true).width(120));
//! ```
//!
//! [`summary`] prints for each host how many requests were made and failed, and percentiles of each phase: what fits a
//! screen of a trace with thousands of requests. [`table`] lists requests to compare them, one row each.
//!
//! Any trace can be drawn, including those of the Go package. Text from the network (names, URLs, error texts) cannot
//! control the terminal: control characters are printed as escapes.

// A `TraceGraph` decides with which request each record is drawn. `request`, `conn`, `dns` and `unattributed` turn
// records into `Block`s of rows, and the `Renderer` prints those.
mod bar;
mod block;
mod conn;
mod dns;
mod renderer;
mod request;
mod style;
mod suites;
mod summary;
mod table;
mod unattributed;

use std::{collections::HashMap, fmt, iter};

use self::block::Block;
use self::renderer::Renderer;
use self::style::{Line, Palette, Style};
pub use self::summary::{Summary, summary};
pub use self::table::{Table, table};
use crate::graph::TraceGraph;
use crate::readable;
use crate::record::{Dropped, NetTrace};

/// Draws a trace: what happened in each request, to scale within the request.
///
/// Requests are in the order in which they were sent, and redirects follow the request that redirected to them. A dial
/// that no request caused is drawn below the first request that used its connection, with a scale of its own.
/// Connections and lookups that belong to no request have blocks of their own.
pub fn waterfall(trace: &NetTrace) -> Waterfall<'_> {
    Waterfall { trace, color: false, ascii: false, heading: true, headers: false, width: 100 }
}

/// A drawing of a trace, created by [`waterfall`]. Its [`Display`](fmt::Display) prints the drawing, with a line feed
/// after each line.
#[derive(Clone, Copy, Debug)]
#[must_use = "it is drawn when it is displayed"]
pub struct Waterfall<'a> {
    trace: &'a NetTrace,
    color: bool,
    ascii: bool,
    heading: bool,
    headers: bool,
    width: usize,
}

impl Waterfall<'_> {
    /// Sets whether to use colors (ANSI escape sequences). Off by default.
    pub fn color(self, color: bool) -> Self {
        Waterfall { color, ..self }
    }

    /// Sets whether to print ASCII characters only. Off by default.
    pub fn ascii(self, ascii: bool) -> Self {
        Waterfall { ascii, ..self }
    }

    /// Sets whether to begin with the trace's description and time. On by default.
    pub fn heading(self, heading: bool) -> Self {
        Waterfall { heading, ..self }
    }

    /// Sets whether to show the header fields that the trace holds. Off by default.
    pub fn headers(self, headers: bool) -> Self {
        Waterfall { headers, ..self }
    }

    /// Sets the number of columns: 100 by default, at least 60. Lines with a long URL may be longer.
    pub fn width(self, columns: usize) -> Self {
        Waterfall { width: columns, ..self }
    }
}

impl fmt::Display for Waterfall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let graph = TraceGraph::new(self.trace);
        let palette = Palette { color: self.color, ascii: self.ascii };
        let renderer = Renderer::new(palette, self.width, graph.times.coarse);
        let mut is_first = true;
        if self.heading {
            renderer.title(f, &heading(&graph), &Line::default())?;
            is_first = false;
        }
        let groups = groups(&graph, self.headers);
        if groups.is_empty() {
            if !is_first {
                writeln!(f)?;
            }
            writeln!(f, "Nothing was traced.")?;
        }
        for group in groups {
            for block in &group.blocks {
                if !std::mem::take(&mut is_first) {
                    writeln!(f)?;
                }
                renderer.block(f, block)?;
            }
            if !group.sum.is_empty() {
                renderer.remark(f, &group.sum)?;
            }
        }
        match self.trace.dropped.as_ref().map(dropped) {
            Some(line) if !line.is_empty() => {
                writeln!(f)?;
                renderer.remark(f, &line)
            }
            _ => Ok(()),
        }
    }
}

/// Blocks that belong together: the hops of a request, or a single block.
#[derive(Default)]
struct Group {
    /// The indexes of the requests.
    requests: Vec<usize>,
    begin: i64,
    blocks: Vec<Block>,
    sum: Line,
}

/// Returns everything to be drawn, ordered by begin. Requests that were made while another one was answered follow that
/// one.
fn groups(graph: &TraceGraph<'_>, headers: bool) -> Vec<Group> {
    let chains = graph.chains().into_iter().map(|chain| {
        let hops = chain.iter().enumerate();
        let blocks: Vec<Block> = hops.map(|(hop, at)| request::block(graph, *at, hop, headers)).collect();
        let mut sum = Line::default();
        if let [first, .., last] = blocks.as_slice() {
            let total = block::total(Some(first.begin), Some(last.end), graph.times);
            let redirects = readable::count(blocks.len() - 1, "redirect");
            sum.push(Style::Plain, format!("{redirects} followed, {total} in all"));
        }
        Group { begin: blocks.first().map_or(0, |block| block.begin), requests: chain, blocks, sum }
    });
    let unattributed = unattributed::blocks(graph).into_iter();
    let unattributed =
        unattributed.map(|block| Group { begin: block.begin, blocks: vec![block], ..Group::default() });
    let mut groups: Vec<Group> = chains.chain(unattributed).collect();
    groups.sort_by_key(|group| group.begin);
    after_what_they_were_made_for(graph, groups)
}

fn after_what_they_were_made_for(graph: &TraceGraph<'_>, groups: Vec<Group>) -> Vec<Group> {
    let requests = groups.iter().enumerate();
    let requests = requests.flat_map(|(place, group)| group.requests.iter().map(move |at| (*at, place)));
    let place_of: HashMap<usize, usize> = requests.collect();
    let is_served = |group: &Group| {
        group.requests.first().is_some_and(|first| graph.trace.http_requests[*first].accepted)
    };
    let can_have_others: Vec<bool> = groups.iter().map(is_served).collect();
    let served_in = |group: &Group| place_of.get(&graph.served_by(*group.requests.first()?)?).copied();
    let (mut first, mut after) = (Vec::new(), HashMap::<usize, Vec<Group>>::new());
    for (place, group) in groups.into_iter().enumerate() {
        match served_in(&group).filter(|served_in| can_have_others[*served_in]) {
            Some(served_in) => after.entry(served_in).or_default().push(group),
            None => first.push((place, group)),
        }
    }
    let with_those_after = |(place, group)| iter::once(group).chain(after.remove(&place).unwrap_or_default());
    first.into_iter().flat_map(with_those_after).collect()
}

fn heading(graph: &TraceGraph<'_>) -> Line {
    let trace = graph.trace;
    let mut line = Line::default();
    line.push(Style::Strong, &trace.description);
    if !trace.trace_begin_at.is_undefined() {
        line.item(Style::Dim, trace.trace_begin_at.to_string());
    }
    let counts = [
        (trace.http_requests.iter().filter(|request| !graph.is_connect(request)).count(), "request"),
        (trace.tcp_conns.iter().filter(|conn| conn.connected && !conn.from_resolver).count(), "connection"),
    ];
    for (count, thing) in counts {
        line.item(Style::Dim, readable::count(count, thing));
    }
    line
}

fn dropped(dropped: &Dropped) -> Line {
    let counts = [
        (dropped.http_requests, "request"),
        (dropped.dials, "dial"),
        (dropped.tcp_conns, "TCP connection"),
        (dropped.udp_conns, "UDP connection"),
        (dropped.socket_ops, "socket operation"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let counts: Vec<_> =
        counts.map(|(n, thing)| readable::count(usize::try_from(n).unwrap_or(usize::MAX), thing)).collect();
    let mut line = Line::default();
    if !counts.is_empty() {
        line.push(
            Style::Warn,
            format!("No longer in this trace, which keeps only so much: {}.", counts.join(", ")),
        );
    }
    line
}
