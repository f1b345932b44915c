//! The page of a request.

use super::{
    layout::{Frame, Update},
    links::{href, request_href},
    outcome::outcome,
    text::{shown, shown_lines},
};
use crate::{
    explain::{Evidence, Finding, Severity, Verdict},
    record::{HttpReqTrace, NetTrace},
    view,
};
use maud::{Markup, html};

/// The maximum length in bytes of JSON that is part of the page.
const MAX_JSON_BYTES: usize = 64 << 10;

/// Returns the page of a request of `trace`, whose own records are in `slice`.
pub(in super::super) fn request(
    frame: &Frame<'_>,
    trace: &NetTrace,
    slice: &NetTrace,
    request: &HttpReqTrace,
    verdict: Option<&Verdict>,
) -> String {
    let id = request.trace_id.as_str();
    let update = if request.end_reason.is_none() { Update::Live } else { Update::Never };
    let content = html! {
        (facts(frame, trace, slice, request))
        @if let Some(verdict) = verdict { (findings(verdict)) }
        h2 { "Waterfall" }
        pre tabindex="0" { (shown_lines(&view::waterfall(slice).heading(false).headers(true).to_string())) }
        h2 { "Records" }
        (records(frame, slice, id))
    };
    let name = format!("{} {}", request.req_method, request.req_url);
    frame.page(&name, update, &html! {}, &content)
}

fn facts(frame: &Frame<'_>, trace: &NetTrace, slice: &NetTrace, request: &HttpReqTrace) -> Markup {
    let id = request.trace_id.as_str();
    let began = trace.trace_begin_at.add(request.req_sent_at);
    let made_for = Some(&*request.triggered_by).filter(|cause| trace.http_requests.get(cause).is_some());
    let made: Vec<_> =
        slice.http_requests.iter().filter(|made| *made.triggered_by == request.trace_id).collect();
    html! {
        dl {
            dt { "Identifier" } dd { (shown(id)) }
            dt { "Result" } dd { (outcome(request)) }
            @if !began.is_undefined() { dt { "Began" } dd { (began.to_string()) } }
            dt { "Time" } dd { (request.timings(slice).to_string()) }
            @for (name, value) in request.tags.iter() { dt { (shown(name)) } dd { (shown(value)) } }
            @if !request.traceparent.is_empty() { dt { "traceparent" } dd { (shown(&request.traceparent)) } }
            @if !request.req_error.is_empty() { dt { "Error" } dd { (shown(&request.req_error)) } }
            @if let Some(cause) = made_for {
                dt { "Made for" } dd { a href=(request_href(frame.base, cause.as_str())) { (shown(cause.as_str())) } }
            }
            @if !made.is_empty() {
                dt { "Made meanwhile" }
                @for made in made {
                    dd {
                        a href=(request_href(frame.base, made.trace_id.as_str())) {
                            (shown(&made.req_method)) " " (shown(&made.req_url))
                        }
                        " " (outcome(made))
                    }
                }
            }
        }
    }
}

fn findings(verdict: &Verdict) -> Markup {
    html! {
        h2 { "What went wrong" }
        @for finding in &verdict.findings { (self::finding(finding)) }
    }
}

fn finding(finding: &Finding) -> Markup {
    html! {
        section.finding {
            p {
                strong.bad[finding.severity == Severity::Failure] { (shown(&finding.code)) }
                " " (shown(&finding.sentence))
            }
            p { (shown(&finding.suggestion)) }
            @if !finding.evidence.is_empty() {
                details {
                    summary { "What proves it" }
                    ul { @for evidence in &finding.evidence { li { (self::evidence(evidence)) } } }
                }
            }
            @for what in &finding.not_seen { p.dim { "Not seen: " (shown(what)) } }
        }
    }
}

fn evidence(evidence: &Evidence) -> Markup {
    let Evidence { record, field, value, at } = evidence;
    html! {
        (shown(record.as_str())) " " (shown(field)) ": " (shown(value))
        @if !at.is_undefined() { " at " (at.to_string()) }
    }
}

fn records(frame: &Frame<'_>, slice: &NetTrace, id: &str) -> Markup {
    let link = href(frame.base, "trace.json", request_href("", id).trim_start_matches('?'));
    let json = serde_json::to_string_pretty(slice).ok().filter(|json| json.len() <= MAX_JSON_BYTES);
    html! {
        p { a href=(link) { "As JSON" } ", which " code { "nettrace show" } " reads." }
        @if let Some(json) = json {
            details { summary { "Show here" } pre tabindex="0" { (shown_lines(&json)) } }
        }
    }
}
