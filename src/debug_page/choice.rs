//! Which requests are listed, and in which order.

use super::query::FilterOptions;
use crate::record::{HttpReqTrace, NetTrace};
use std::collections::HashMap;

/// A request in the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed<'a> {
    pub(super) request: &'a HttpReqTrace,
    /// How many requests it is nested in: those that were being answered when it was made.
    pub(super) depth: usize,
}

/// Returns the chosen requests. A request that was made for another chosen one follows that one. Those of which any has
/// failed come first, then the newest, or with the option `slow` the slowest.
pub(super) fn listed<'a>(trace: &'a NetTrace, options: &FilterOptions) -> Vec<Listed<'a>> {
    let mut chosen = trace.requests(&options.filter(trace));
    let by_slowness = options.slow.is_some();
    if !by_slowness {
        chosen.reverse();
    }
    let places: HashMap<&str, usize> =
        chosen.iter().enumerate().map(|(place, request)| (request.trace_id.as_str(), place)).collect();
    let mut made_for: Vec<Vec<usize>> = vec![Vec::new(); chosen.len()];
    let mut first: Vec<usize> = Vec::new();
    for (place, request) in chosen.iter().enumerate() {
        match places.get(request.triggered_by.as_str()).filter(|cause| **cause != place) {
            Some(cause) => made_for[*cause].push(place),
            None => first.push(place),
        }
    }
    // Those that were made for a request are in the order in which they were made.
    made_for.iter_mut().for_each(|places| places.sort_by_key(|place| std::cmp::Reverse(*place)));
    let mut groups: Vec<Vec<Listed<'a>>> =
        first.into_iter().map(|place| group(place, &chosen, &made_for)).collect();
    if !by_slowness {
        groups.sort_by_key(|group| !group.iter().any(|listed| listed.request.has_failed()));
    }
    groups.concat()
}

/// Returns the first requests of the list.
pub(super) fn selected(trace: &NetTrace, options: &FilterOptions) -> NetTrace {
    let listed = listed(trace, options);
    let ids = listed.iter().take(options.limit.unwrap_or(usize::MAX)).map(|listed| &listed.request.trace_id);
    trace.select(&crate::record::RequestFilter::new().ids(ids.cloned()))
}

/// Returns a request and all that were made for it, directly or not.
fn group<'a>(place: usize, chosen: &[&'a HttpReqTrace], made_for: &[Vec<usize>]) -> Vec<Listed<'a>> {
    let (mut group, mut waiting) = (Vec::new(), vec![(place, 0)]);
    while let Some((place, depth)) = waiting.pop() {
        group.push(Listed { request: chosen[place], depth });
        waiting.extend(made_for[place].iter().rev().map(|made| (*made, depth + 1)));
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debug_page::query::Query;

    fn trace() -> NetTrace {
        serde_json::from_value(serde_json::json!({
            "traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+10000ms",
            "httpRequests": [
                {"traceID": "a", "reqSentAt": "+1000ms", "endAt": "+1001ms", "endReason": "closed"},
                {"traceID": "s", "accepted": true, "reqSentAt": "+2000ms", "endAt": "+5000ms", "endReason": "closed"},
                {"traceID": "m1", "triggeredBy": "s", "reqSentAt": "+2001ms", "endAt": "+2002ms", "endReason": "closed"},
                {"traceID": "m2", "triggeredBy": "s", "reqSentAt": "+2003ms", "endAt": "+4000ms", "endReason": "failed"},
                {"traceID": "c", "triggeredBy": "m2", "reqSentAt": "+2004ms", "endAt": "+2005ms", "endReason": "closed"},
                {"traceID": "b", "reqSentAt": "+6000ms", "endAt": "+6001ms", "endReason": "closed"},
                {"traceID": "f", "reqSentAt": "+7000ms", "endAt": "+7001ms", "respStatusCode": 503},
                {"traceID": "l", "triggeredBy": "gone", "reqSentAt": "+8000ms"},
            ],
        }))
        .unwrap()
    }

    #[track_caller]
    fn assert_listed(query: &str, expected: &str) {
        let trace = trace();
        let options = Query::parse(query).unwrap().options;
        let listed = listed(&trace, &options);
        let text: Vec<_> =
            listed.iter().map(|row| format!("{}{}", ">".repeat(row.depth), row.request.trace_id)).collect();
        assert_eq!(text.join(" "), expected, "{query}");
    }

    #[test]
    fn failed_and_new_requests_come_first_with_those_made_for_them() {
        assert_listed("", "f s >m1 >m2 >>c l b a");
        assert_listed("failed", "f m2");
        assert_listed("slow=1s", "s >m2 l");
        assert_listed("request=a&request=c", "c a");
    }

    #[test]
    fn a_part_of_the_trace_has_the_first_of_the_list() {
        let selected = selected(&trace(), &Query::parse("limit=1").unwrap().options);
        assert_eq!(selected.http_requests.iter().map(|r| r.trace_id.as_str()).collect::<Vec<_>>(), ["f"]);
    }
}
