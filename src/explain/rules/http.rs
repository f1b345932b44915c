//! Causes in requests, and how the end of a request shows.

use crate::{
    explain::{
        case::Case,
        finding::Outcome,
        found::{Found, Stage},
    },
    readable::duration,
    record::{EndReason, Timestamp},
};

pub(super) fn caller_gave_up(case: &Case<'_>) -> Option<Found> {
    let request = case.request.filter(|_| case.outcome == Outcome::GivenUp)?;
    let sentence = format!(
        "The program gave the request up after {}, while it {}.",
        duration(case.duration(), false),
        phase(case)?
    );
    let found = Found::failure(Stage::Http, case.host(), sentence).symptom().check(
        "Look at what dropped the request: a time limit around it, a lost race, or a caller that left.",
    );
    Some(found.shows_at(request, "endReason", EndReason::Cancelled.as_str(), request.end_at))
}

pub(super) fn timed_out(case: &Case<'_>) -> Option<Found> {
    let request = case.request.filter(|_| case.outcome == Outcome::TimedOut)?;
    let sentence = format!(
        "A time limit of the client ran out after {}, while the request {}.",
        duration(case.duration(), false),
        phase(case)?
    );
    let found = Found::failure(Stage::Http, case.host(), sentence)
        .symptom()
        .check("Compare the limit with how long this host usually takes.");
    Some(found.shows_at(request, "endReason", EndReason::Timeout.as_str(), request.end_at))
}

/// Returns what the request was doing when it ended.
fn phase(case: &Case<'_>) -> Option<&'static str> {
    let request = case.request?;
    let is_known = |time: Timestamp| !time.is_undefined();
    Some(if is_known(request.resp_recv_at) {
        "received the response"
    } else if is_known(request.req_body_end_at) {
        "waited for the response"
    } else if is_known(request.conn_acquired_at) {
        "was being sent"
    } else {
        "waited for a connection"
    })
}
