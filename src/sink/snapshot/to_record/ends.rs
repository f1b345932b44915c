//! Converts the end of a record, whatever its kind.

use crate::{
    error::FailureDetail,
    record::{BoxedOrEmpty, EndReason, Failure, Text, Timestamp},
    sink::{clock::Tick, registry::end::End, snapshot::timeline::Timeline},
};
use std::num::NonZeroU32;

type EndFields = (Timestamp, Option<EndReason>, Option<Failure>, BoxedOrEmpty<Text>, Option<NonZeroU32>);

/// When and how a record ended, and what went wrong: the failure, its text, and the length of the text if it was cut.
pub(super) fn end_fields(end: Option<End>, times: &Timeline) -> EndFields {
    let Some(End { at, reason, fault }) = end else { return Default::default() };
    let (failure, text, original_bytes) = split_fault(fault);
    let at = if reason == EndReason::Unobserved { Timestamp::UNDEFINED } else { times.at(at) };
    (at, Some(reason), failure, text, original_bytes)
}

/// Returns `None` for a time after the end: where two threads met, something may have been written just after the
/// record had ended.
pub(super) fn unless_after_end(seen: Option<Tick>, end: Option<&End>) -> Option<Tick> {
    seen.filter(|seen| end.is_none_or(|end| *seen <= end.at))
}

pub(super) fn split_fault(
    fault: Option<FailureDetail>,
) -> (Option<Failure>, BoxedOrEmpty<Text>, Option<NonZeroU32>) {
    let parts = fault.map(FailureDetail::into_parts);
    parts.map_or_else(Default::default, |(failure, text, bytes)| (Some(failure), text.into(), bytes))
}
