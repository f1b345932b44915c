//! Observes the redirects that reqwest follows.

use crate::sink::TraceSink;
use ::reqwest::redirect::{Action, Policy};
use http::Uri;

/// Returns the same policy, which reports the redirects that it follows to the sink.
pub(super) fn observed(policy: Policy, sink: &TraceSink) -> Policy {
    let sink = sink.clone();
    Policy::custom(move |attempt| {
        if !sink.records_requests() {
            return policy.redirect(attempt);
        }
        let (status, to) = (attempt.status(), attempt.url().as_str().parse::<Uri>());
        let action = policy.redirect(attempt);
        match to {
            Ok(to) if follows(&action) && matches!(to.scheme_str(), Some("http" | "https")) => {
                sink.record_foreign_redirect(status, &to);
            }
            _ => {}
        }
        action
    })
}

/// Returns `true` if the policy follows the redirect. Only the `Debug` output shows its decision.
fn follows(action: &Action) -> bool {
    format!("{action:?}") == "Action { inner: Follow }"
}
