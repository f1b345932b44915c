//! [`LateReads`]: finds bytes that the process read long after the kernel had received them.
//!
//! From outside, late reads look like a slow server. The rules for the process name them, and the rule for slow servers
//! spares the server then.

use super::usual::SCHEDULING;
use crate::{
    graph::TraceGraph,
    record::{ReadTimes, TcpConnTrace},
};
use std::cell::OnceCell;

/// The reads of a trace that have stamps. The index is built when a rule first asks for it, in time linear in their
/// number, except for sorting.
pub(super) struct LateReads<'a> {
    graph: &'a TraceGraph<'a>,
    index: OnceCell<Index<'a>>,
}

struct Index<'a> {
    /// The late reads, by when the kernel had the bytes.
    late: Vec<LateRead<'a>>,
    /// When each read returned, in nanoseconds since the trace began, ascending.
    returned: Vec<i64>,
    /// Whether a connection has no stamps.
    has_unsampled: bool,
}

/// Bytes that waited in the kernel until the process read them.
#[derive(Clone, Copy, Debug)]
pub(super) struct LateRead<'a> {
    pub(super) conn: &'a TcpConnTrace,
    pub(super) times: &'a ReadTimes,
    /// When the kernel had them, and when they were read or the connection closed, in nanoseconds since the trace
    /// began.
    pub(super) received: i64,
    pub(super) until: i64,
}

/// How many late reads are compared with one.
const MAX_COMPARED: usize = 64;

impl<'a> LateRead<'a> {
    /// Returns the read if it was later than the scheduling of a busy machine explains.
    pub(super) fn of(
        graph: &TraceGraph<'a>,
        conn: &'a TcpConnTrace,
        times: &'a ReadTimes,
    ) -> Option<LateRead<'a>> {
        let received = graph.times.at(times.received_at)?;
        let until = graph.times.at(times.read_or(conn.conn_close_at))?;
        let read = LateRead { conn, times, received, until };
        (read.nanos() >= SCHEDULING).then_some(read)
    }

    /// Returns for how long the bytes waited.
    pub(super) fn nanos(&self) -> i64 {
        self.until.saturating_sub(self.received)
    }
}

impl<'a> LateReads<'a> {
    pub(super) fn new(graph: &'a TraceGraph<'a>) -> Self {
        LateReads { graph, index: OnceCell::new() }
    }

    /// Returns `true` if some connections of the trace were not sampled.
    pub(super) fn has_unsampled(&self) -> bool {
        self.index().has_unsampled
    }

    fn index(&self) -> &Index<'a> {
        self.index.get_or_init(|| Index::new(self.graph))
    }

    /// Returns a late read of another connection that waited during at least half of the time of this one, if nothing
    /// was read from any sampled connection in the time that they have in common.
    pub(super) fn at_the_same_time(&self, read: &LateRead<'a>) -> Option<LateRead<'a>> {
        let index = self.index();
        let before = index.late.partition_point(|other| other.received < read.until);
        let others = index.late[..before].iter().rev().take(MAX_COMPARED);
        others.copied().filter(|other| !std::ptr::eq(other.conn, read.conn)).find(|other| {
            let (from, to) = (read.received.max(other.received), read.until.min(other.until));
            let common = to.saturating_sub(from);
            // A runtime that goes on reads one connection after the other, so the last tenth may have reads.
            common >= SCHEDULING / 2
                && common >= read.nanos() / 2
                && !index.has_read_between(from, from + common / 10 * 9)
        })
    }
}

impl<'a> Index<'a> {
    fn new(graph: &'a TraceGraph<'a>) -> Self {
        let stamped =
            graph.trace.tcp_conns.iter().filter_map(|conn| Some((conn, conn.kernel_times.as_deref()?)));
        let reads =
            || stamped.clone().flat_map(|(conn, times)| times.reads.iter().map(move |read| (conn, read)));
        let mut late: Vec<_> = reads().filter_map(|(conn, read)| LateRead::of(graph, conn, read)).collect();
        let mut returned: Vec<_> = reads().filter_map(|(_, read)| graph.times.at(read.read_at)).collect();
        late.sort_unstable_by_key(|read| read.received);
        returned.sort_unstable();
        let is_unsampled =
            |conn: &TcpConnTrace| conn.connected && !conn.from_resolver && conn.kernel_times.is_none();
        Index { late, returned, has_unsampled: graph.trace.tcp_conns.iter().any(is_unsampled) }
    }

    fn has_read_between(&self, from: i64, to: i64) -> bool {
        let next = self.returned.partition_point(|at| *at <= from);
        self.returned.get(next).is_some_and(|at| *at < to)
    }
}
