//! [`Verdict`]: what all requests together say about a server and the way to it.

use super::{
    examination::{Examination, Exchange, Hindrance, MAX_BODY_BYTES, Series},
    sentence::{State, failure_sentence},
};
use crate::output::Problem;
use http::StatusCode;
use nettrace::{
    NetTrace,
    explain::{self, Explanation, Finding, Severity},
    record::{EndReason, HttpReqTrace},
};

/// The conclusion about all requests of an [`Examination`].
pub(super) struct Verdict {
    /// Remarks on what was not tried, or worked less well than it could without being an error: each on a line.
    pub(super) remarks: Vec<String>,
    /// The conclusion on the first line, then what proves it and what else was found.
    pub(super) text: String,
    made: usize,
    failed: usize,
}

impl Verdict {
    pub(super) fn new(examination: &Examination<'_>, trace: &NetTrace, is_interrupted: bool) -> Self {
        let explanation = explain::explain(trace);
        let case = Case { examination, trace, explanation: &explanation, is_interrupted };
        let exchanges = || examination.series.iter().flat_map(|series| &series.exchanges);
        Verdict {
            remarks: case.remarks(),
            text: case.conclusion(),
            made: exchanges().count(),
            failed: exchanges().filter(|exchange| exchange.error().is_some()).count(),
        }
    }

    /// Returns the error of the command if a request failed.
    pub(super) fn problem(&self) -> Option<Problem> {
        let text = match self.made {
            1 => "the request failed".into(),
            made => format!("{} of {made} requests failed", self.failed),
        };
        (self.failed > 0).then(|| Problem::failed(text))
    }
}

/// Everything that a verdict rests on.
struct Case<'a> {
    examination: &'a Examination<'a>,
    trace: &'a NetTrace,
    explanation: &'a Explanation,
    is_interrupted: bool,
}

impl<'a> Case<'a> {
    fn conclusion(&self) -> String {
        let mut causes = self.causes();
        let series = self.examination.series.iter();
        let ended: Vec<_> = series.filter_map(|series| Some((label(series), self.state(series)?))).collect();
        let root = ended.iter().find_map(|(_, state)| state.root()).or(causes.first()).cloned();
        let sentence = match &root {
            Some(_) if ended.iter().any(|(_, state)| state.root().is_some()) => failure_sentence(&ended),
            Some(cause) if self.is_interrupted => cause.sentence.clone(),
            Some(cause) if self.is_server_error() => {
                format!("The connection works, but the server answers with an error: {}", cause.sentence)
            }
            Some(cause) => format!("It works, but not well: {}", cause.sentence),
            None if ended.is_empty() => "No request has ended.".into(),
            None => self.success_sentence(),
        };
        let sentence =
            if self.is_interrupted { format!("Interrupted. So far: {sentence}") } else { sentence };
        let Some(mut headline) = root else { return format!("{sentence}\n") };
        causes.retain(|cause| (&cause.code, &cause.about) != (&headline.code, &headline.about));
        headline.sentence = sentence;
        let others: Vec<_> = causes.iter().map(|cause| format!("\n{cause}")).collect();
        format!("{headline}{}", others.concat())
    }

    /// Returns how a series went; `None` if none of its requests has ended.
    fn state(&self, series: &Series) -> Option<State> {
        let mut ended = series.exchanges.iter().filter(|exchange| exchange.has_ended());
        let (first, second) = (ended.next()?, ended.next());
        Some(match (first.error(), second.and_then(|second| Some((second, second.error()?)))) {
            (Some(error), _) => State::Fails(self.root(first, error)),
            (None, Some((second, error))) => State::FailsAgain(self.root(second, error)),
            (None, None) => State::Works,
        })
    }

    /// Returns the root of each verdict, each once, the worst first, with the evidence of the first.
    fn causes(&self) -> Vec<Finding> {
        let roots = || self.explanation.verdicts.iter().filter_map(|verdict| verdict.root());
        let causes = self.explanation.findings.iter().filter_map(|repeated| {
            roots().find(|root| root.code == repeated.code && root.about == repeated.about).cloned()
        });
        // That the doctor itself was interrupted is no cause.
        causes.filter(|cause| !(self.is_interrupted && cause.code == "caller_gave_up")).collect()
    }

    /// Returns why an exchange failed, or else its error.
    fn root(&self, exchange: &Exchange, error: &str) -> Finding {
        let id = exchange.id();
        let verdict = self.explanation.verdicts.iter().find(|verdict| verdict.subject == id);
        verdict.and_then(|verdict| verdict.root().cloned()).unwrap_or_else(|| {
            let (code, text) = error.split_once(": ").unwrap_or(("unknown_failure", error));
            let mut finding = Finding::default();
            finding.code = code.into();
            finding.severity = Severity::Failure;
            finding.sentence = format!("{text}.");
            finding.suggestion =
                "Look at the waterfall: write the trace with --json FILE, and `nettrace show FILE`.".into();
            finding
        })
    }

    fn success_sentence(&self) -> String {
        let series = || self.examination.series.iter();
        let url = self.examination.url();
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
        let begin = match self.is_server_error() {
            true => "The connection works, but the server reports an error",
            false => "Healthy",
        };
        let way = match &self.examination.proxy {
            Some(proxy) => format!("through the proxy {proxy}"),
            None => {
                let answered = series().filter(|series| series.exchanges.iter().any(Exchange::is_success));
                format!("over {}", answered.map(label).collect::<Vec<_>>().join(" and "))
            }
        };
        let is_reused = series().any(|series| self.has_reused(series) == Some(true));
        let connections = if is_reused { "new and reused connections" } else { "new connections" };
        format!("{begin}: {host} answers {} {way}, on {connections}.", self.statuses().join(" and "))
    }

    /// Returns the statuses of the responses, each once.
    fn statuses(&self) -> Vec<String> {
        let mut statuses = Vec::new();
        for code in self.status_codes() {
            let reason = StatusCode::from_u16(code).ok().and_then(|status| status.canonical_reason());
            let status = reason.map_or(code.to_string(), |reason| format!("{code} {reason}"));
            if !statuses.contains(&status) {
                statuses.push(status);
            }
        }
        statuses
    }

    fn is_server_error(&self) -> bool {
        self.status_codes().any(|code| code >= 500)
    }

    fn status_codes(&self) -> impl Iterator<Item = u16> {
        let exchanges = self.examination.series.iter().flat_map(|series| &series.exchanges);
        let codes = exchanges.filter_map(|exchange| Some(self.record(exchange)?.resp_status_code));
        codes.filter(|code| *code != 0)
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.examination.proxy.is_some() {
            remarks.push("The proxy chooses the address family: there is one series of requests.".into());
        }
        remarks.extend(self.examination.not_tried.iter().cloned());
        remarks.extend(self.examination.series.iter().filter_map(|series| self.why_not_reused(series)));
        if self.examination.series.iter().flat_map(|series| &series.exchanges).any(|exchange| exchange.is_cut)
        {
            remarks.push(format!("Only the first {} MiB of each body was read.", MAX_BODY_BYTES >> 20));
        }
        remarks
    }

    /// Returns why the second request of a series needed another connection.
    fn why_not_reused(&self, series: &Series) -> Option<String> {
        if self.has_reused(series)? {
            return None;
        }
        let first = series.exchanges.first()?;
        let conn = self.record(first).and_then(|first| self.trace.tcp_conns.get(&first.tcp_conn));
        let why = match (first.hindrance, conn.and_then(|conn| conn.end_reason.as_ref())) {
            (Some(Hindrance::Close), _) => "the server asks to close it (Connection: close)".into(),
            (Some(Hindrance::Http10), _) => {
                "the server speaks HTTP/1.0, and does not offer to keep it".into()
            }
            (Some(Hindrance::LongBody), _) => "the rest of a long body was still to come".into(),
            (None, Some(EndReason::PeerClosed)) => "the server closed it after the response".into(),
            (None, Some(EndReason::Failed)) => match conn.and_then(|conn| conn.failure.as_ref()) {
                Some(failure) => format!("it broke ({failure})"),
                None => "it broke".into(),
            },
            (None, _) => "it was no longer open".into(),
        };
        Some(format!("{}: the connection was not used again, because {why}.", label(series)))
    }

    /// Returns whether the second request of a series used the connection of the first; `None` if there was none or it
    /// failed.
    fn has_reused(&self, series: &Series) -> Option<bool> {
        let [first, second] = &series.exchanges[..] else { return None };
        let (first, second) = (self.record(first)?, self.record(second).filter(|_| second.is_success())?);
        Some(!first.tcp_conn.is_undefined() && first.tcp_conn == second.tcp_conn)
    }

    /// Returns the record of an exchange, of the last hop if it was redirected.
    fn record(&self, exchange: &Exchange) -> Option<&'a HttpReqTrace> {
        self.trace.http_requests.get(exchange.id())
    }
}

fn label(series: &Series) -> String {
    series.family.map_or("the request".into(), |family| family.to_string())
}
