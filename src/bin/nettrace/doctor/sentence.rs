//! The first sentence of a verdict where requests failed: which of them, and why.

use nettrace::explain::Finding;

/// How the requests of a series ended.
#[derive(Clone, Debug)]
pub(super) enum State {
    Works,
    Fails(Finding),
    /// The first request did not fail, and the second one did.
    FailsAgain(Finding),
}

impl State {
    /// Returns why a request failed.
    pub(super) fn root(&self) -> Option<&Finding> {
        match self {
            State::Works => None,
            State::Fails(root) | State::FailsAgain(root) => Some(root),
        }
    }
}

/// Returns which series work and which fail, and why. Each has a name, such as `IPv6`. Empty if none fails.
pub(super) fn failure_sentence(series: &[(String, State)]) -> String {
    let works = series.iter().filter(|(_, state)| state.root().is_none());
    let works: Vec<_> = works.map(|(name, _)| format!("{name} works, ")).collect();
    let failing: Vec<_> =
        series.iter().filter_map(|(name, state)| Some((name, state, state.root()?))).collect();
    let is_again = |(_, state, _): &(_, &State, _)| matches!(state, State::FailsAgain(_));
    match &failing[..] {
        [(_, State::Fails(_), root)] if series.len() == 1 => return root.sentence.clone(),
        [(_, _, root), ..] if works.is_empty() && failing.iter().all(is_again) => {
            return format!("A new connection works, and a second request fails: {}", root.sentence);
        }
        _ => {}
    }
    let groups = failing.chunk_by(|(_, _, a), (_, _, b)| a.code == b.code);
    let groups = groups.map(|group| match group {
        [(a, State::Fails(root), _), (b, State::Fails(_), _)] => {
            format!("{a} and {b} fail: {}", root.sentence)
        }
        group => {
            let fails = group.iter().map(|(name, state, _)| match state {
                State::FailsAgain(_) => format!("{name} fails with the second request"),
                State::Works | State::Fails(_) => format!("{name} fails"),
            });
            let sentence = group.first().map_or("", |(_, _, root)| &root.sentence);
            format!("{}: {sentence}", fails.collect::<Vec<_>>().join(", "))
        }
    });
    format!("{}{}", works.concat(), groups.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Fails, FailsAgain, Works};

    fn root(code: &str) -> Finding {
        let mut finding = Finding::default();
        finding.code = code.into();
        finding.sentence = format!("Because of {code}.");
        finding
    }

    fn sentence(states: &[State]) -> String {
        let names = ["IPv6", "IPv4"].map(str::to_owned);
        failure_sentence(&names.into_iter().zip(states.iter().cloned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_fails_is_named_if_something_else_works() {
        assert_eq!(sentence(&[Works, Fails(root("a"))]), "IPv6 works, IPv4 fails: Because of a.");
        let again = "IPv4 works, IPv6 fails with the second request: Because of a.";
        assert_eq!(sentence(&[FailsAgain(root("a")), Works]), again);
        assert_eq!(sentence(&[Fails(root("a"))]), "Because of a.");
    }

    #[test]
    fn only_reused_connections_can_fail() {
        let expected = "A new connection works, and a second request fails: Because of a.";
        assert_eq!(sentence(&[FailsAgain(root("a"))]), expected);
        assert_eq!(sentence(&[FailsAgain(root("a")), FailsAgain(root("a"))]), expected);
    }

    #[test]
    fn what_fails_for_the_same_reason_is_said_together() {
        assert_eq!(sentence(&[Fails(root("a")), Fails(root("a"))]), "IPv6 and IPv4 fail: Because of a.");
        assert_eq!(
            sentence(&[Fails(root("a")), FailsAgain(root("a"))]),
            "IPv6 fails, IPv4 fails with the second request: Because of a."
        );
        assert_eq!(
            sentence(&[Fails(root("a")), Fails(root("b"))]),
            "IPv6 fails: Because of a. IPv4 fails: Because of b."
        );
    }
}
