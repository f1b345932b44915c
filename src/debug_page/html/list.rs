//! The list of requests.

use super::{
    layout::{Frame, Update},
    links::{href, request_href},
    outcome::outcome,
    phase_bar::{legend, phase_bar},
    text::{duration, shown},
};
use crate::{
    debug_page::choice::{self, Listed},
    explain::{self, Explanation},
    readable,
    record::{NetTrace, RequestFilter, Timings},
};
use maud::{Markup, html};
use std::collections::HashMap;

const DEFAULT_ROWS: usize = 100;
const MAX_ROWS: usize = 1_000;

/// Returns the page that lists the chosen requests.
pub(in super::super) fn requests(frame: &Frame<'_>, trace: &NetTrace) -> String {
    let query = frame.query;
    let listed = choice::listed(trace, &query.options);
    let limit = query.options.limit.unwrap_or(DEFAULT_ROWS).min(MAX_ROWS);
    let begin = query.skip.min(listed.len());
    let rows = &listed[begin..listed.len().min(begin.saturating_add(limit))];
    let content = html! {
        (table(frame, trace, rows, &caption(rows.len(), begin, listed.len(), trace)))
        (turning(frame, begin, rows.len(), limit, listed.len()))
        p {
            "The same requests as "
            a href=(href(frame.base, "trace.json", &without_pages(frame, &[]))) { "a trace" }
            ", "
            a href=(href(frame.base, "summary", &without_pages(frame, &[]))) { "a summary" }
            ", "
            a href=(href(frame.base, "explain.json", &without_pages(frame, &[]))) { "what went wrong" }
            ". "
            (dropped(trace))
        }
    };
    frame.page("Requests", Update::Live, &form(frame), &content)
}

/// Returns the parameters that choose requests.
fn without_pages(frame: &Frame<'_>, changes: &[(&str, Option<&str>)]) -> String {
    let pages = ["skip", "refresh", "view", "precise", "on"].map(|name| (name, None));
    frame.query.with(&[&pages[..], changes].concat())
}

fn caption(shown: usize, begin: usize, chosen: usize, trace: &NetTrace) -> String {
    let all = readable::count(trace.http_requests.len(), "request");
    let chosen_of_all = if chosen == trace.http_requests.len() { all } else { format!("{chosen} of {all}") };
    match shown == chosen {
        true => chosen_of_all,
        false if shown == 0 => format!("None of {chosen_of_all}"),
        false => format!("{} to {} of {chosen_of_all}", begin + 1, begin + shown),
    }
}

fn table(frame: &Frame<'_>, trace: &NetTrace, rows: &[Listed<'_>], caption: &str) -> Markup {
    if rows.is_empty() {
        return html! { p { "No request meets these conditions, or none was made yet (" (caption) ")." } };
    }
    let explanation = explained(trace, rows);
    let causes: HashMap<&str, &str> = explanation
        .verdicts
        .iter()
        .filter_map(|verdict| Some((verdict.subject.as_str(), verdict.root()?.sentence.as_str())))
        .collect();
    let order = if frame.query.options.slow.is_some() { "the slowest" } else { "failed ones" };
    let timings: Vec<Timings> = rows.iter().map(|row| row.request.timings(trace)).collect();
    html! {
        table {
            caption { (caption) ", " (order) " first" }
            thead {
                tr {
                    th scope="col" { "Request" }
                    th scope="col" { "Result" }
                    th.number scope="col" { "Time" }
                    th.bar scope="col" { "Where the time went " (legend()) }
                    th.number scope="col" { "Ago" }
                }
            }
            tbody {
                @for (row, timings) in rows.iter().zip(&timings) {
                    (self::row(frame, trace, row, timings, causes.get(row.request.trace_id.as_str())))
                }
            }
        }
    }
}

fn row(
    frame: &Frame<'_>,
    trace: &NetTrace,
    row: &Listed<'_>,
    timings: &Timings,
    cause: Option<&&str>,
) -> Markup {
    let request = row.request;
    let id = request.trace_id.as_str();
    let ago = trace.trace_end_at.since(request.req_sent_at);
    let nesting = format!("depth-{}", row.depth.min(4));
    html! {
        tr.failed[request.has_failed()] {
            th.(nesting) scope="row" {
                @if row.depth > 0 { span aria-hidden="true" { "↳ " } }
                a id=(format!("row-{}", shown(id))) href=(request_href(frame.base, id)) {
                    (shown(&request.req_method)) " " (shown(&readable::shortened(&request.req_url)))
                }
                span.dim {
                    " " (shown(id))
                    @if request.accepted { " · served" }
                    @else if row.depth > 0 { " · made for the one above" }
                    @for (name, value) in request.tags.iter() { " · " (shown(name)) "=" (shown(value)) }
                }
                @if let Some(cause) = cause { p.cause { (shown(cause)) } }
            }
            td.result { (outcome(request)) }
            td.number {
                @match timings.total {
                    Some(total) => (duration(total)),
                    None => "–",
                }
            }
            td.bar { (phase_bar(timings)) }
            td.number { @if let Some(ago) = ago { (duration(ago)) } }
        }
    }
}

/// Explains the failed requests of the list from their own records, as explaining all of the trace would take longer than
/// listing them.
fn explained(trace: &NetTrace, rows: &[Listed<'_>]) -> Explanation {
    let failed = rows.iter().map(|row| row.request).filter(|request| request.has_failed());
    let ids = failed.map(|request| request.trace_id.clone());
    explain::explain(&trace.select(&RequestFilter::new().ids(ids)))
}

/// Returns the links to what comes before and after.
fn turning(frame: &Frame<'_>, begin: usize, rows: usize, limit: usize, chosen: usize) -> Markup {
    let link = |skip: usize| {
        let skip = skip.to_string();
        href(frame.base, "", &without_pages(frame, &[("skip", Some(&skip))]))
    };
    html! {
        @if begin > 0 || begin + rows < chosen {
            nav aria-label="More requests" {
                ul {
                    @if begin > 0 { li { a href=(link(begin.saturating_sub(limit))) rel="prev" { "Those before" } } }
                    @if begin + rows < chosen { li { a href=(link(begin + rows)) rel="next" { "Those after" } } }
                }
            }
        }
    }
}

fn dropped(trace: &NetTrace) -> Markup {
    let dropped = trace.dropped.as_ref().map_or(0, |dropped| dropped.http_requests);
    html! {
        @if dropped > 0 { (readable::count(usize::try_from(dropped).unwrap_or(usize::MAX), "request")) " went before these." }
    }
}

fn form(frame: &Frame<'_>) -> Markup {
    let value = |name| frame.query.text(name);
    html! {
        form method="get" action=(href(frame.base, "", "")) role="search" aria-label="Choose requests" {
            label { input type="checkbox" name="failed" value="1" checked[frame.query.options.failed]; " failed" }
            label { "host " input name="host" value=(shown(value("host"))) size="16" autocomplete="off"; }
            label { "status " input name="status" value=(shown(value("status"))) size="4" placeholder="5xx"; }
            label { "code " input name="code" value=(shown(value("code"))) size="16" placeholder="connection_refused"; }
            label { "slower than " input name="slow" value=(shown(value("slow"))) size="5" placeholder="500ms"; }
            label { "of the last " input name="since" value=(shown(value("since"))) size="5" placeholder="60s"; }
            label { "rows " input name="limit" value=(shown(value("limit"))) size="4" inputmode="numeric" placeholder="100"; }
            button { "Choose" }
            a href=(href(frame.base, "", "")) { "all" }
        }
    }
}
