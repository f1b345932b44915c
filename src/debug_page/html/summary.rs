//! The summary.

use super::{
    layout::{Frame, Update},
    links::request_href,
    text::{shown, shown_lines},
};
use crate::{
    explain::{Explanation, RepeatedFinding, Severity},
    record::NetTrace,
    view::Summary,
};
use maud::{Markup, html};

/// Returns the page with what happened with each host and what went wrong.
pub(in super::super) fn summary(
    frame: &Frame<'_>,
    trace: &NetTrace,
    summary: &Summary,
    explanation: &Explanation,
) -> String {
    let content = html! {
        pre tabindex="0" { (shown_lines(&summary.to_string())) }
        h2 { "What went wrong" }
        @if explanation.findings.is_empty() { p { "Nothing was found that went wrong." } }
        @for finding in &explanation.findings { (self::finding(frame, trace, finding)) }
    };
    frame.page("Summary", Update::Live, &html! {}, &content)
}

fn finding(frame: &Frame<'_>, trace: &NetTrace, finding: &RepeatedFinding) -> Markup {
    let is_more = finding.count > finding.subjects.len() as u64;
    html! {
        section.finding {
            p {
                strong.bad[finding.severity == Severity::Failure] { (shown(&finding.code)) }
                @if finding.count > 1 { " " (finding.count) " times:" }
                " " (shown(&finding.sentence))
            }
            p { (shown(&finding.suggestion)) }
            ul.subjects {
                @for subject in &finding.subjects {
                    li {
                        @if trace.http_requests.get(subject).is_some() {
                            a href=(request_href(frame.base, subject.as_str())) { (shown(subject.as_str())) }
                        } @else { (shown(subject.as_str())) }
                    }
                }
                @if is_more { li { "…" } }
            }
        }
    }
}
