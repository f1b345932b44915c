//! Filters: which requests of a trace are looked at.

use super::{HttpReqTrace, NetTrace, TraceId};
use crate::url_authority::url_authority;
use std::{cmp::Reverse, time::Duration};

/// Chooses requests of a trace. A request is chosen if it meets all conditions that are set.
///
/// ```
/// use nettrace::record::RequestFilter;
/// use std::time::Duration;
///
/// # let trace = nettrace::NetTrace::default();
/// let filter = RequestFilter::new().host("shop.test").slower_than(Duration::from_millis(500)).slowest_first(true);
/// for request in trace.requests(&filter.limit(10)) {
///     println!("{} {}", request.req_method, request.req_url);
/// }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RequestFilter {
    ids: Option<Vec<TraceId>>,
    failed: bool,
    slower_than: Option<Duration>,
    host: Option<String>,
    status: Option<(u16, u16)>,
    failure: Option<String>,
    sent_within: Option<Duration>,
    slowest_first: bool,
    limit: Option<usize>,
}

impl RequestFilter {
    /// Creates a filter that chooses all requests.
    pub fn new() -> Self {
        RequestFilter::default()
    }

    /// Chooses requests with one of these identifiers.
    pub fn ids(self, ids: impl IntoIterator<Item = impl Into<TraceId>>) -> Self {
        RequestFilter { ids: Some(ids.into_iter().map(Into::into).collect()), ..self }
    }

    /// Sets whether only requests are chosen that failed, timed out, or got a status of 5xx.
    pub fn failed(self, failed: bool) -> Self {
        RequestFilter { failed, ..self }
    }

    /// Chooses requests that took at least this long. Those that have not ended took the time until the trace was
    /// taken.
    pub fn slower_than(self, time: Duration) -> Self {
        RequestFilter { slower_than: Some(time), ..self }
    }

    /// Chooses requests to this host, with any port unless one is given.
    pub fn host(self, host: impl Into<String>) -> Self {
        RequestFilter { host: Some(host.into().to_ascii_lowercase()), ..self }
    }

    /// Chooses requests whose response had a status from `first` to `last`: `(500, 599)` for 5xx.
    pub fn status(self, first: u16, last: u16) -> Self {
        RequestFilter { status: Some((first, last)), ..self }
    }

    /// Chooses requests that failed with this code, such as `connection_refused`.
    pub fn failure(self, code: impl Into<String>) -> Self {
        RequestFilter { failure: Some(code.into()), ..self }
    }

    /// Chooses requests that were sent in the last part of the trace: at most this long before it was taken.
    pub fn sent_within(self, time: Duration) -> Self {
        RequestFilter { sent_within: Some(time), ..self }
    }

    /// Sets whether the slowest requests come first. By default they come in the order in which they were sent.
    pub fn slowest_first(self, slowest_first: bool) -> Self {
        RequestFilter { slowest_first, ..self }
    }

    /// Sets how many requests are chosen at most: the first ones.
    pub fn limit(self, limit: usize) -> Self {
        RequestFilter { limit: Some(limit), ..self }
    }

    fn matches(&self, request: &HttpReqTrace, trace: &NetTrace) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&request.trace_id))
            && (!self.failed || request.has_failed())
            && self.host.as_deref().is_none_or(|host| is_to_host(&request.req_url, host))
            && self.status.is_none_or(|(first, last)| (first..=last).contains(&request.resp_status_code))
            && self
                .failure
                .as_deref()
                .is_none_or(|code| request.failure.as_ref().is_some_and(|failure| failure.as_str() == code))
            && self.sent_within.is_none_or(|time| {
                trace.trace_end_at.since(request.req_sent_at).is_some_and(|ago| ago <= time)
            })
            && self.slower_than.is_none_or(|time| duration(request, trace) >= time)
    }
}

/// Returns how long a request took, or has taken.
fn duration(request: &HttpReqTrace, trace: &NetTrace) -> Duration {
    let end = if request.end_at.is_undefined() { trace.trace_end_at } else { request.end_at };
    end.since(request.req_sent_at).unwrap_or_default()
}

/// Returns `true` if the URL has this host, which may have a port.
fn is_to_host(url: &str, host: &str) -> bool {
    let authority = url_authority(url).to_ascii_lowercase();
    let without_port = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => &authority,
    };
    authority == host || without_port == host || without_port.trim_matches(['[', ']']) == host
}

impl NetTrace {
    /// Returns the requests that a filter chooses.
    pub fn requests(&self, filter: &RequestFilter) -> Vec<&HttpReqTrace> {
        let mut chosen: Vec<_> =
            self.http_requests.iter().filter(|request| filter.matches(request, self)).collect();
        if filter.slowest_first {
            chosen.sort_by_key(|request| Reverse(duration(request, self)));
        }
        chosen.truncate(filter.limit.unwrap_or(usize::MAX));
        chosen
    }

    /// Returns the part of the trace that belongs to the requests which a filter chooses: their
    /// [slices](NetTrace::slice) in one trace, in the usual order of records.
    pub fn select(&self, filter: &RequestFilter) -> NetTrace {
        self.slice_of(self.requests(filter).into_iter().map(|request| request.trace_id.as_str()))
    }

    /// Returns the [slices](NetTrace::slice) of the requests that a filter chooses, one by one.
    ///
    /// Each takes time linear in the size of the trace. Where there are many, [`select`](NetTrace::select) first.
    pub fn slices(&self, filter: &RequestFilter) -> impl Iterator<Item = NetTrace> {
        self.requests(filter).into_iter().map(|request| self.slice(&request.trace_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> NetTrace {
        serde_json::from_value(serde_json::json!({
            "traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+10000ms",
            "httpRequests": [
                {"traceID": "a", "reqURL": "https://Shop.test:8443/x", "reqSentAt": "+1000ms", "endAt": "+2000ms",
                 "respStatusCode": 200, "endReason": "closed", "tcpConn": "c1"},
                {"traceID": "b", "reqURL": "http://u@pay.test/", "reqSentAt": "+2000ms", "endAt": "+5000ms",
                 "respStatusCode": 503, "endReason": "closed", "tcpConn": "c2"},
                {"traceID": "c", "reqURL": "http://[::1]:81/", "reqSentAt": "+3000ms", "endAt": "+3100ms",
                 "failure": "connection_refused", "endReason": "failed", "tcpConn": "c3"},
                {"traceID": "d", "reqURL": "http://pay.test:80", "reqSentAt": "+9000ms", "tcpConn": "c2"},
            ],
            "tcpConns": [{"traceID": "c1"}, {"traceID": "c2"}, {"traceID": "c3"}, {"traceID": "c4"}],
        }))
        .unwrap()
    }

    #[track_caller]
    fn assert_chosen(filter: RequestFilter, ids: &[&str]) {
        let trace = trace();
        let chosen: Vec<_> =
            trace.requests(&filter).iter().map(|request| request.trace_id.to_string()).collect();
        assert_eq!(chosen, ids);
    }

    #[test]
    fn each_condition_chooses() {
        let filter = RequestFilter::new;
        assert_chosen(filter(), &["a", "b", "c", "d"]);
        assert_chosen(filter().ids(["c", "a", "nothing"]), &["a", "c"]);
        assert_chosen(filter().failed(true), &["b", "c"]);
        assert_chosen(filter().slower_than(Duration::from_secs(1)), &["a", "b", "d"]);
        assert_chosen(filter().host("shop.test"), &["a"]);
        assert_chosen(filter().host("SHOP.test:8443"), &["a"]);
        assert_chosen(filter().host("shop.test:443"), &[]);
        assert_chosen(filter().host("pay.test"), &["b", "d"]);
        assert_chosen(filter().host("::1"), &["c"]);
        assert_chosen(filter().status(500, 599), &["b"]);
        assert_chosen(filter().failure("connection_refused"), &["c"]);
        assert_chosen(filter().sent_within(Duration::from_secs(7)), &["c", "d"]);
    }

    #[test]
    fn conditions_add_up_and_the_slowest_come_first() {
        let filter = RequestFilter::new().host("pay.test").slower_than(Duration::from_secs(2));
        assert_chosen(filter, &["b"]);
        let slowest = RequestFilter::new().slowest_first(true);
        assert_chosen(slowest.clone(), &["b", "a", "d", "c"]);
        assert_chosen(slowest.limit(2), &["b", "a"]);
    }

    #[test]
    fn what_is_chosen_is_a_part_of_the_trace() {
        let trace = trace();
        let part = trace.select(&RequestFilter::new().failed(true));
        let conns: Vec<_> = part.tcp_conns.iter().map(|conn| conn.trace_id.as_str()).collect();
        assert_eq!((part.http_requests.len(), conns), (2, vec!["c2", "c3"]));
        let slices: Vec<_> = trace.slices(&RequestFilter::new().failed(true)).collect();
        assert_eq!(slices, [trace.slice("b"), trace.slice("c")]);
    }
}
