//! The values of fields that several events have.

use crate::record::{EndReason, Failure, HttpReqTrace, Timestamp, TraceId};
use tracing::Level;

pub(super) fn level(reason: Option<&EndReason>, usual: Level) -> Level {
    if has_failed(reason) { Level::WARN } else { usual }
}

pub(super) fn has_failed(reason: Option<&EndReason>) -> bool {
    reason.is_some_and(EndReason::is_failure)
}

pub(super) fn is_success(record: &HttpReqTrace) -> bool {
    record.failure.is_none() && !has_failed(record.end_reason.as_ref())
}

pub(super) fn id(id: &TraceId) -> Option<&str> {
    Some(id.as_str()).filter(|id| !id.is_empty())
}

/// The field `nettrace.accepted`, which is present only on the server's side.
pub(super) fn accepted(is: bool) -> Option<bool> {
    is.then_some(true)
}

pub(super) fn text(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

pub(super) fn number(number: u16) -> Option<u16> {
    Some(number).filter(|number| *number != 0)
}

pub(super) fn code(failure: &Option<Failure>) -> Option<&str> {
    failure.as_ref().map(Failure::as_str)
}

pub(super) fn reason(reason: &Option<EndReason>) -> Option<&str> {
    reason.as_ref().map(EndReason::as_str)
}

/// Returns the outcome in a word, for the message.
pub(super) fn outcome<'a>(failure: &'a Option<Failure>, end: &'a Option<EndReason>) -> &'a str {
    code(failure).or(reason(end)).unwrap_or_default()
}

pub(super) fn milliseconds(begin: Timestamp, end: Timestamp) -> Option<f64> {
    if begin.is_undefined() || end.is_undefined() {
        return None;
    }
    end.since(begin).map(|time| time.as_secs_f64() * 1e3)
}

pub(super) fn host_and_port(address: &str) -> (Option<&str>, Option<u16>) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    (text(host), port.parse().ok())
}
