//! Finds the root among the findings about a case.

use super::{
    case::Case,
    finding::{Finding, Outcome, Severity, Verdict},
    found::Found,
    rules::RULES,
};
use std::cmp::Reverse;

/// Applies all rules to a case. Returns `None` if nothing was found.
pub(super) fn verdict(case: &Case<'_>) -> Option<Verdict> {
    let found = RULES.iter().filter_map(|rule| {
        let mut found = (rule.check)(case)?;
        found.finding.code = rule.cause.code.into();
        Some(found)
    });
    let findings = ranked(found.collect(), case);
    if findings.is_empty() {
        return None;
    }
    let (subject, what) = case.subject();
    Some(Verdict { subject, what, outcome: case.outcome, findings })
}

/// What cost a smaller part of a request that succeeded is not worth a word: one of so many.
const MIN_SHARE: i64 = 10;

/// Returns the findings, the root first. A failure has one root; what followed from it is left out.
fn ranked(mut found: Vec<Found>, case: &Case<'_>) -> Vec<Finding> {
    if matches!(case.outcome, Outcome::Succeeded | Outcome::Running) {
        found.retain(|found| !found.is_symptom && found.cost.saturating_mul(MIN_SHARE) >= case.duration());
        found.sort_by_key(|found| Reverse(found.cost));
        return found
            .into_iter()
            .map(|found| Finding { severity: Severity::Degraded, ..found.finding })
            .collect();
    }
    let Some(root) = root(&found, case).map(|at| found.remove(at)) else { return vec![] };
    let root = Finding { severity: Severity::Failure, ..root.finding };
    found.retain(|found| found.is_symptom || found.finding.severity == Severity::Degraded);
    found.sort_by_key(|found| Reverse(found.cost));
    let others = found.into_iter().map(|found| Finding { severity: Severity::Degraded, ..found.finding });
    std::iter::once(root).chain(others).collect()
}

/// Returns the index of the root of a failure: the failure of the earliest stage; if time ran out, what cost at least
/// half of it; else a symptom.
fn root(found: &[Found], case: &Case<'_>) -> Option<usize> {
    let indexes = || found.iter().enumerate();
    let failure = indexes()
        .filter(|(_, found)| found.finding.severity == Severity::Failure && !found.is_symptom)
        .min_by_key(|(_, found)| found.stage);
    let ran_out = matches!(case.outcome, Outcome::TimedOut | Outcome::GivenUp);
    let costly = indexes()
        .filter(|(_, found)| ran_out && !found.is_symptom && found.cost >= case.duration().max(1) / 2)
        .max_by_key(|(_, found)| found.cost);
    let symptom = indexes().find(|(_, found)| found.is_symptom);
    failure.or(costly).or(symptom).map(|(at, _)| at)
}
