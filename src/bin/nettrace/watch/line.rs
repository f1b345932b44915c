//! A request as it is printed: a line, and one more for the cause of a failure.

use crate::output::escaped;
use nettrace::{
    NetTrace, explain,
    record::{HttpReqTrace, RequestFilter, Timestamp},
};

/// Returns the text of each request of a trace that has ended and that the filter chooses, in the order in which they were
/// sent.
pub(super) fn of_trace(trace: &NetTrace, filter: &RequestFilter) -> Vec<String> {
    let ended = trace.requests(filter).into_iter().filter(|request| request.end_reason.is_some());
    ended.map(|request| of_request(request, trace)).collect()
}

/// Returns when a request was sent, what it was, how it ended, and where its time went.
fn of_request(request: &HttpReqTrace, trace: &NetTrace) -> String {
    let has_failed = request.failure.is_some() || request.resp_status_code >= 500;
    let (mark, sent_at) = (if has_failed { '✗' } else { '·' }, sent_at(request, trace));
    let served = if request.accepted { "served " } else { "" };
    let (method, url, timings) = (&request.req_method, &request.req_url, request.timings(trace));
    let line = format!("{sent_at} {mark} {served}{method} {url} · {} · {timings}", outcome(request));
    let cause = if has_failed { cause(request, trace) } else { None };
    let cause = cause.map_or(String::new(), |cause| format!("\n  {}", escaped(&cause)));
    format!("{}{cause}", escaped(&line))
}

/// Returns when the request was sent, to the millisecond.
fn sent_at(request: &HttpReqTrace, trace: &NetTrace) -> String {
    let begin = trace.trace_begin_at.unix_nanos();
    let relative = request.req_sent_at.relative_nanos().map(i128::from);
    let nanos = begin.zip(relative).map(|(begin, relative)| begin + relative);
    let nanos = nanos.or(request.req_sent_at.unix_nanos());
    nanos.map_or("-".into(), |nanos| {
        Timestamp::from_unix_nanos(nanos - nanos.rem_euclid(1_000_000)).to_string()
    })
}

/// Returns the status, and the code of the failure if there is one.
fn outcome(request: &HttpReqTrace) -> String {
    let failure = request.failure.as_ref().map(|failure| failure.as_str());
    match (request.resp_status_code, failure) {
        (0, Some(failure)) => failure.to_owned(),
        (0, None) => request.end_reason.as_ref().map_or("", |reason| reason.as_str()).to_owned(),
        (status, Some(failure)) => format!("{status} {failure}"),
        (status, None) => status.to_string(),
    }
}

/// Returns the code and the sentence of what a request failed for.
fn cause(request: &HttpReqTrace, trace: &NetTrace) -> Option<String> {
    let explanation = explain::explain(&trace.slice(&request.trace_id));
    let verdict = explanation.verdicts.into_iter().find(|verdict| verdict.subject == request.trace_id);
    let root = verdict?.findings.into_iter().next()?;
    Some(format!("{}  {}", root.code, root.sentence))
}
