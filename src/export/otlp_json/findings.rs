//! [`Findings`]: what `explain` found about a request, dial or connection, as events of its span.

use std::collections::HashMap;

use super::span_builder::{SpanBuilder, UnixTimes};
use crate::{
    explain::{Explanation, Finding, Severity},
    record::TraceId,
};

/// The findings of a trace, by the record that they are about.
#[derive(Default)]
pub(super) struct Findings<'a>(HashMap<&'a str, &'a [Finding]>);

impl<'a> Findings<'a> {
    pub(super) fn new(explanation: &'a Explanation) -> Self {
        let verdicts = explanation.verdicts.iter();
        Findings(verdicts.map(|verdict| (verdict.subject.as_str(), &verdict.findings[..])).collect())
    }

    /// Adds an event for each finding about a record: when its evidence was recorded, or else at the end of the span.
    pub(super) fn add_to(&self, span: &mut SpanBuilder<'a>, record: &TraceId, times: UnixTimes) {
        for finding in self.0.get(record.as_str()).copied().unwrap_or_default() {
            let seen = times.first(finding.evidence.iter().map(|evidence| evidence.at));
            let time = seen.unwrap_or(span.end());
            let texts = [
                ("nettrace.finding.code", finding.code.as_str()),
                ("nettrace.finding.severity", severity(finding.severity)),
                ("nettrace.finding.about", finding.about.as_str()),
                ("nettrace.finding.sentence", finding.sentence.as_str()),
                ("nettrace.finding.suggestion", finding.suggestion.as_str()),
            ];
            span.event(time, "nettrace.finding", texts);
        }
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Degraded => "degraded",
        Severity::Failure => "failure",
    }
}
