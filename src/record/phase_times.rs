//! [`RequestTimes`]: when the parts of a request happened, and the durations of its phases that follow from that.
//!
//! The times come from the records of a trace, or from what a sink keeps. All of them are nanoseconds on one clock.

use super::Timings;
use smallvec::SmallVec;
use std::time::Duration;

/// When the parts of a request happened. `None` is a time that is not known, or has not come.
#[derive(Debug)]
pub(crate) struct RequestTimes {
    pub(crate) begin: i128,
    /// When the request got a connection.
    pub(crate) acquired: Option<i128>,
    /// When the request had been sent with its body.
    pub(crate) body_end: Option<i128>,
    /// When the head of the response arrived.
    pub(crate) response: Option<i128>,
    pub(crate) response_end: Option<i128>,
    pub(crate) end: Option<i128>,
    /// Whether it was not observed how the body of the response was received.
    pub(crate) is_response_body_unobserved: bool,
    /// The dial that the request caused and that made its connection, or failed to.
    pub(crate) dial: Option<DialTimes>,
}

/// When the parts of a request's own dial happened.
#[derive(Debug)]
pub(crate) struct DialTimes {
    pub(crate) begin: Option<i128>,
    pub(crate) end: Option<i128>,
    pub(crate) resolve_begin: Option<i128>,
    pub(crate) resolve_end: Option<i128>,
    /// The attempt that succeeded, otherwise the first one.
    pub(crate) attempt: Option<AttemptTimes>,
    /// Whether the connector looked the name up without reporting it.
    pub(crate) is_lookup_unobserved: bool,
    /// CONNECT, or the handshake with a SOCKS proxy.
    pub(crate) proxy: Option<Phase>,
    pub(crate) handshakes: SmallVec<[Phase; 2]>,
}

/// When an attempt to connect happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttemptTimes {
    pub(crate) begin: Option<i128>,
    /// When the dial had its connection from this attempt.
    pub(crate) established: Option<i128>,
}

/// The begin of a phase and, if known, its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub(crate) begin: i128,
    pub(crate) end: Option<i128>,
}

impl RequestTimes {
    /// Returns the durations of the phases.
    pub(crate) fn timings(&self) -> Timings {
        let RequestTimes { begin, acquired, body_end, response, response_end, end, .. } = *self;
        // A request that was sent or answered had a connection, even if it is not known since when.
        let had_one = until(body_end, response);
        let connected_by = acquired.or(had_one).or(end);
        let duration = |phase: Phase| {
            let is_in_time = connected_by.is_none_or(|limit| phase.begin <= limit);
            span(Some(phase.begin).filter(|_| is_in_time), until(phase.end, connected_by))
        };
        let own = self.dial.as_ref();
        let dns = own.and_then(DialTimes::dns).and_then(duration);
        let connect = own.and_then(DialTimes::connect).and_then(duration);
        let handshakes = own.into_iter().flat_map(|dial| &dial.handshakes).copied();
        let tls = handshakes.filter_map(duration).reduce(Duration::saturating_add);
        let proxy = own.and_then(|dial| dial.proxy).and_then(duration);
        let own_time = [dns, connect, proxy, tls].into_iter().flatten().sum();
        let blocked_until = if acquired.is_none() && had_one.is_some() { None } else { connected_by };
        Timings {
            blocked: span(Some(begin), blocked_until).map(|time| time.saturating_sub(own_time)),
            dns,
            connect,
            connect_includes_dns: connect.is_some() && own.is_some_and(|dial| dial.is_lookup_unobserved),
            proxy,
            tls,
            send: span(acquired, had_one.or(end)),
            wait: span(body_end, response.or(end)),
            receive: span(response, response_end.or(end)).filter(|_| !self.is_response_body_unobserved),
            total: span(Some(begin), end),
        }
    }
}

impl DialTimes {
    fn dns(&self) -> Option<Phase> {
        Some(Phase { begin: self.resolve_begin?, end: self.resolve_end.or(self.end) })
    }

    fn connect(&self) -> Option<Phase> {
        let begin = match (self.resolve_begin, self.resolve_end) {
            (Some(_), _) if self.attempt.is_none() => return None, // the dial ended in the lookup
            (_, Some(resolved)) => resolved,
            (Some(_), None) => self.attempt?.begin?,
            (None, None) => self.begin?,
        };
        let established = self.attempt.and_then(|attempt| attempt.established);
        Some(Phase { begin, end: established.or(self.end) })
    }
}

/// Returns the earlier of two ends, or the one that is known.
fn until(a: Option<i128>, b: Option<i128>) -> Option<i128> {
    a.into_iter().chain(b).min()
}

fn span(from: Option<i128>, to: Option<i128>) -> Option<Duration> {
    let nanos = (to? - from?).max(0);
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}
