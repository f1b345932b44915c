//! Redirects that reqwest follows.

use crate::sink::TraceSink;
use ::reqwest::redirect::{Action, Policy};
use http::Uri;

/// The same policy, which says so when it has a redirect followed.
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

/// What was decided can be seen in no other way.
fn follows(action: &Action) -> bool {
    format!("{action:?}") == "Action { inner: Follow }"
}
