//! A common axis for all times of a trace.

use crate::record::{NetTrace, Timestamp};

/// Converts relative and absolute times to nanoseconds since the trace began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeAxis {
    begin: Option<i128>,
    /// When the trace was taken.
    pub(crate) end: Option<i64>,
    /// Whether all times of the trace are whole milliseconds.
    pub(crate) coarse: bool,
}

/// The maximum distance from the begin of the trace (73 years). Times beyond it are clamped, so that differences never
/// overflow.
const MAX_NANOS: i64 = i64::MAX / 4;

impl TimeAxis {
    pub(crate) fn new(trace: &NetTrace) -> Self {
        let mut times =
            TimeAxis { begin: trace.trace_begin_at.unix_nanos(), end: None, coarse: is_coarse(trace) };
        times.end = times.at(trace.trace_end_at);
        times
    }

    /// Returns the nanoseconds since the trace began, negative before. Returns `None` for an undefined time.
    pub(crate) fn at(&self, time: Timestamp) -> Option<i64> {
        if let Some(nanos) = time.relative_nanos() {
            return Some(i64::try_from(nanos).map_or(MAX_NANOS, |nanos| nanos.min(MAX_NANOS)));
        }
        let nanos = time.unix_nanos()? - self.begin?;
        Some(nanos.clamp((-MAX_NANOS).into(), MAX_NANOS.into()) as i64)
    }
}

fn is_coarse(trace: &NetTrace) -> bool {
    let requests = trace.http_requests.iter().flat_map(|r| [r.req_sent_at, r.resp_recv_at, r.end_at]);
    let dials = trace.dials.iter().flat_map(|d| [d.dial_begin_at, d.dial_end_at]);
    let conns = trace.tcp_conns.iter().flat_map(|c| [c.handshake_begin_at, c.handshake_end_at]);
    let queries = trace.dns_queries.iter().flat_map(|q| &q.dns_query_msgs).map(|q| q.sent_at);
    let mut nanos = requests.chain(dials).chain(conns).chain(queries).filter_map(|t| t.relative_nanos());
    nanos.all(|nanos| nanos % 1_000_000 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_times_are_on_the_same_axis() {
        let trace = NetTrace {
            trace_begin_at: "2026-11-23T13:27:02Z".parse().unwrap(),
            trace_end_at: Timestamp::relative(7),
            ..NetTrace::default()
        };
        let times = TimeAxis::new(&trace);
        assert_eq!(times.at("2026-11-23T14:27:01+01:00".parse().unwrap()), Some(-1_000_000_000));
        assert_eq!(times.at(Timestamp::relative(u64::MAX)), Some(MAX_NANOS));
        assert_eq!(times.at(Timestamp::UNDEFINED), None);
        assert_eq!(times.at("0000-01-01T00:00:00Z".parse().unwrap()), Some(-MAX_NANOS));
        assert_eq!(times.end, Some(7));
        assert_eq!(TimeAxis::new(&NetTrace::default()).at(trace.trace_begin_at), None);
    }
}
