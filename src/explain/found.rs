//! [`Found`]: a finding while it is put together, with what ranks it.

use super::{
    finding::{Evidence, Finding, Severity},
    usual::Usual,
};
use crate::{
    readable::duration,
    record::{Record, Text, Timestamp},
};

/// A finding, with what ranks it among the others of a verdict.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) stage: Stage,
    /// Whether this is only how the end of the request shows, such as a time limit that ran out.
    pub(super) is_symptom: bool,
    /// The time in nanoseconds that it cost.
    pub(super) cost: i64,
    pub(super) finding: Finding,
}

/// The stages of a request, in the order in which one waits for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Process,
    Dns,
    Proxy,
    Tcp,
    Tls,
    Http,
}

impl Found {
    /// Begins a finding that explains a failure.
    pub(super) fn failure(stage: Stage, about: impl Into<Text>, sentence: impl Into<String>) -> Self {
        Self::new(stage, Severity::Failure, about.into(), sentence.into())
    }

    /// Begins a finding about something that went wrong and did not make the request fail by itself.
    pub(super) fn degraded(stage: Stage, about: impl Into<Text>, sentence: impl Into<String>) -> Self {
        Self::new(stage, Severity::Degraded, about.into(), sentence.into())
    }

    fn new(stage: Stage, severity: Severity, about: Text, sentence: String) -> Self {
        let finding = Finding { severity, about, sentence, ..Finding::default() };
        Found { stage, is_symptom: false, cost: 0, finding }
    }

    /// Marks it as how the end shows: it is the root only if nothing else was found.
    pub(super) fn symptom(mut self) -> Self {
        self.is_symptom = true;
        self
    }

    /// Sets what to do about it.
    pub(super) fn check(mut self, suggestion: impl Into<String>) -> Self {
        self.finding.suggestion = suggestion.into();
        self
    }

    /// Adds a field of a record as evidence. `field` is its name in JSON.
    pub(super) fn shows(mut self, record: &impl Record, field: &'static str, value: impl ToString) -> Self {
        self.finding.evidence.push(Evidence {
            record: record.trace_id().clone(),
            field: Text::from_static(field),
            value: value.to_string().into(),
            at: Timestamp::default(),
        });
        self
    }

    /// Adds a field of a record that was so at a certain time.
    pub(super) fn shows_at(
        self,
        record: &impl Record,
        field: &'static str,
        value: impl ToString,
        at: Timestamp,
    ) -> Self {
        let mut found = self.shows(record, field, value);
        if let Some(last) = found.finding.evidence.last_mut() {
            last.at = at;
        }
        found
    }

    /// Adds what the same phase took elsewhere in the trace. `field` is the name in JSON of the time at which it ended.
    pub(super) fn compares(mut self, usual: &Usual<'_>, field: &'static str) -> Self {
        self.finding.evidence.push(Evidence {
            record: usual.example.clone(),
            field: Text::from_static(field),
            value: format!("after {}, the median of {}", duration(usual.median, false), usual.count).into(),
            at: Timestamp::default(),
        });
        self
    }

    /// Says what could not be seen, and which probe or option would have shown it.
    pub(super) fn not_seen(mut self, what: impl Into<String>) -> Self {
        self.finding.not_seen.push(what.into());
        self
    }

    /// Sets the time in nanoseconds that it cost.
    pub(super) fn costs(mut self, nanos: i64) -> Self {
        self.cost = nanos;
        self
    }
}
