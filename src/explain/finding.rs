//! The types that [`explain`](super::explain) returns.

use crate::{
    readable::escape_controls,
    record::{Text, Timestamp, TraceId},
};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, fmt};

/// What went wrong in a trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Explanation {
    /// What went wrong, each cause once: failures first, then by how often.
    pub findings: Vec<RepeatedFinding>,
    /// What went wrong with each request, dial or connection about which something was found, in the order of the
    /// trace.
    pub verdicts: Vec<Verdict>,
}

/// A finding that is the root of one verdict or of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct RepeatedFinding {
    /// The code of the cause.
    pub code: Text,
    /// What it is about, such as a host or the address of a nameserver.
    pub about: Text,
    /// The worst of the severities.
    pub severity: Severity,
    /// In how many verdicts it is the root.
    pub count: u64,
    /// The sentence of the first one.
    pub sentence: String,
    /// What to do about it.
    pub suggestion: String,
    /// The first of the requests, dials and connections, at most eight.
    pub subjects: Vec<TraceId>,
}

/// What went wrong with a request, or with a dial or connection that belongs to none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Verdict {
    /// The identifier of the request, dial or connection.
    pub subject: TraceId,
    /// What it is, for people: `GET https://shop.test/`, or the target of a dial.
    pub what: Text,
    /// How it ended.
    pub outcome: Outcome,
    /// The findings, the root first.
    pub findings: Vec<Finding>,
}

/// How the subject of a [`Verdict`] ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// It did what it was to do. A status such as 404 is an answer.
    #[default]
    Succeeded,
    /// It failed.
    Failed,
    /// A time limit of the client ended it.
    TimedOut,
    /// The program gave it up, or the client of a served request did.
    GivenUp,
    /// It has not ended.
    Running,
}

/// A cause, with the records that prove it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Finding {
    /// The code of the cause: one of [`CAUSES`](super::CAUSES).
    pub code: Text,
    /// Whether the cause made the request fail.
    pub severity: Severity,
    /// What it is about, such as a host or the address of a nameserver.
    pub about: Text,
    /// One sentence that names the host, address, server or certificate.
    pub sentence: String,
    /// What to do about it.
    pub suggestion: String,
    /// The fields of records that prove it.
    pub evidence: Vec<Evidence>,
    /// What could not be seen, with the probe or option that would have shown it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_seen: Vec<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Severity {
    /// It cost time, or a part of what was to be done.
    #[default]
    Degraded,
    /// It is why the request failed.
    Failure,
}

/// A field of a record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Evidence {
    /// The identifier of the record.
    pub record: TraceId,
    /// The name of the field in JSON.
    pub field: Text,
    /// Its value, as text.
    pub value: Text,
    /// When it was so, as far as the record says.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub at: Timestamp,
}

/// How many subjects a [`RepeatedFinding`] names.
const MAX_SUBJECTS: usize = 8;

impl Explanation {
    pub(super) fn new(verdicts: Vec<Verdict>) -> Self {
        let mut findings: Vec<RepeatedFinding> = Vec::new();
        let mut places: HashMap<(Text, Text), usize> = HashMap::new();
        for verdict in &verdicts {
            let Some(root) = verdict.root() else { continue };
            let place = *places.entry((root.code.clone(), root.about.clone())).or_insert_with(|| {
                findings.push(RepeatedFinding {
                    code: root.code.clone(),
                    about: root.about.clone(),
                    sentence: root.sentence.clone(),
                    suggestion: root.suggestion.clone(),
                    ..RepeatedFinding::default()
                });
                findings.len() - 1
            });
            let repeated = &mut findings[place];
            repeated.count += 1;
            repeated.severity = repeated.severity.max(root.severity);
            if repeated.subjects.len() < MAX_SUBJECTS {
                repeated.subjects.push(verdict.subject.clone());
            }
        }
        findings
            .sort_by_key(|finding| (std::cmp::Reverse(finding.severity), std::cmp::Reverse(finding.count)));
        Explanation { findings, verdicts }
    }

    /// Returns the requests, dials and connections about which something with this code was found, in the order of the
    /// trace.
    pub fn subjects_of<'a>(&'a self, code: &'a str) -> impl Iterator<Item = &'a TraceId> {
        let has_code = move |verdict: &&Verdict| verdict.findings.iter().any(|finding| finding.code == code);
        self.verdicts.iter().filter(has_code).map(|verdict| &verdict.subject)
    }

    /// Returns `true` if nothing was found.
    pub fn is_empty(&self) -> bool {
        self.verdicts.is_empty()
    }
}

impl Verdict {
    /// Returns the cause without which the other findings would not have come.
    pub fn root(&self) -> Option<&Finding> {
        self.findings.first()
    }
}

/// Displays each cause once, with how often it was found. Control characters are escaped, as in
/// [`Waterfall`](crate::view::Waterfall).
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.findings.is_empty() {
            return writeln!(f, "Nothing was found that went wrong.");
        }
        for finding in &self.findings {
            let times = if finding.count == 1 { String::new() } else { format!("{} times: ", finding.count) };
            let sentence = escape_controls(&finding.sentence);
            writeln!(f, "{} {}  {times}{sentence}", sign(finding.severity), finding.code)?;
            writeln!(f, "  {}", escape_controls(&finding.suggestion))?;
            let subjects: Vec<_> = finding.subjects.iter().map(TraceId::as_str).collect();
            let more = if finding.count > MAX_SUBJECTS as u64 { " …" } else { "" };
            writeln!(f, "  {}{more}", subjects.join(" "))?;
        }
        Ok(())
    }
}

/// Displays the findings with their evidence.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed out",
            Outcome::GivenUp => "was given up",
            Outcome::Running => "has not ended",
        };
        writeln!(f, "{} · {} · {outcome}", escape_controls(&self.what), self.subject)?;
        self.findings.iter().try_for_each(|finding| write!(f, "{finding}"))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}  {}", sign(self.severity), self.code, escape_controls(&self.sentence))?;
        writeln!(f, "  {}", escape_controls(&self.suggestion))?;
        for Evidence { record, field, value, at } in &self.evidence {
            write!(f, "    {record} {field}: {}", escape_controls(value))?;
            // A field that is a time says when by itself.
            let is_time = *value == at.to_string();
            if at.is_undefined() || is_time { writeln!(f)? } else { writeln!(f, " at {at}")? }
        }
        self.not_seen.iter().try_for_each(|what| writeln!(f, "    not seen: {what}"))
    }
}

fn sign(severity: Severity) -> char {
    match severity {
        Severity::Failure => '✗',
        Severity::Degraded => '!',
    }
}
