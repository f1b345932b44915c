//! The status of a span and its `error.type`, which follow from the end of a record.

use crate::record::{EndReason, Failure};

/// The `error.type` of a failure without a code.
const OTHER: &str = "_OTHER";

/// Returns the `error.type` of a record that failed, or that was given up before it came to anything. Returns `None` if
/// nothing went wrong.
pub(super) fn error_type<'a>(
    end_reason: Option<&EndReason>,
    failure: Option<&'a Failure>,
    error: &str,
) -> Option<&'a str> {
    let is_failure = match end_reason {
        Some(EndReason::Failed | EndReason::Timeout) => true,
        // The Go package does not record how something ended.
        Some(EndReason::Cancelled | EndReason::Other(_)) | None => failure.is_some() || !error.is_empty(),
        Some(
            EndReason::Closed
            | EndReason::PeerClosed
            | EndReason::LostRace
            | EndReason::IdleLimit
            | EndReason::Unobserved
            | EndReason::SinkClosed,
        ) => false,
    };
    is_failure.then(|| failure.map_or(OTHER, code))
}

/// Returns the code without the text that follows `unknown_failure`: an `error.type` must have few values.
fn code(failure: &Failure) -> &str {
    let code = failure.as_str();
    code.split_once(':').map_or(code, |(code, _)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_have_an_error_type() {
        let refused = Failure::ConnectionRefused;
        for (end_reason, failure, error, expected) in [
            (Some(EndReason::Failed), Some(&refused), "refused", Some("connection_refused")),
            (Some(EndReason::Failed), Some(&Failure::unknown("a text")), "", Some("unknown_failure")),
            (Some(EndReason::Timeout), None, "", Some("_OTHER")),
            (Some(EndReason::Cancelled), Some(&Failure::Interrupted), "", Some("interrupted")),
            (Some(EndReason::Cancelled), None, "", None),
            (Some(EndReason::LostRace), Some(&Failure::Interrupted), "another was faster", None),
            (Some(EndReason::Closed), None, "", None),
            (None, None, "refused", Some("_OTHER")),
            (None, None, "", None),
        ] {
            assert_eq!(error_type(end_reason.as_ref(), failure, error), expected, "{end_reason:?}");
        }
    }
}
