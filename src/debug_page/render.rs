//! Puts pages together from a snapshot of the sink.

use super::{
    Metrics,
    body::DebugPageBody,
    choice,
    html::{self, Frame},
    metrics,
    query::Query,
    response::{self, respond},
    route::Route,
    switches::Switch,
};
use crate::{
    explain::{self, Explanation},
    record::NetTrace,
    sink::TraceSink,
    view,
};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use std::{io, sync::Arc};

/// The sink and the settings from which a page is put together.
pub(super) struct Renderer {
    pub(super) sink: TraceSink,
    pub(super) metrics: Option<Metrics>,
    pub(super) title: Arc<str>,
    pub(super) read_only: bool,
    /// The path from the page to the place where the pages are mounted.
    pub(super) base: String,
    pub(super) wants_html: bool,
    pub(super) query: Query,
}

impl Renderer {
    /// Returns a page that is built as a whole.
    pub(super) fn page(&self, route: &Route) -> Response<DebugPageBody> {
        match route {
            Route::Requests => self.html(StatusCode::OK, html::requests(&self.frame(), &self.snapshot())),
            Route::Request(id) => self.request(id),
            Route::Summary => self.summary(),
            Route::Explanation => json(&explain::explain(&self.chosen())),
            Route::Metrics => {
                let text = metrics::exposition(&self.sink, self.metrics.as_ref());
                respond(StatusCode::OK, response::METRICS, DebugPageBody::whole(text))
            }
            // These are no pages that are built as a whole.
            Route::Trace | Route::Recording | Route::Capture => self.not_found(),
        }
    }

    /// Returns a list of the pages.
    pub(super) fn not_found(&self) -> Response<DebugPageBody> {
        if self.wants_html {
            self.html(StatusCode::NOT_FOUND, html::not_found(&self.frame()))
        } else {
            response::text(
                StatusCode::NOT_FOUND,
                "there is no such page; there are /, /request/ID, /summary, /trace.json, /explain.json and /metrics",
            )
        }
    }

    /// Writes the trace as JSON, or the part of it that belongs to the chosen requests.
    pub(super) fn write_trace(&self, writer: &mut impl io::Write) -> io::Result<()> {
        if !self.query.options.is_all() {
            let part = self.chosen();
            return match self.query.precise {
                true => serde_json::to_writer(writer, &part.precise()),
                false => serde_json::to_writer(writer, &part),
            }
            .map_err(io::Error::from);
        }
        match self.query.precise {
            true => self.sink.write_precise_json(&self.title, writer),
            false => self.sink.write_json(&self.title, writer),
        }
    }

    fn request(&self, id: &str) -> Response<DebugPageBody> {
        let trace = self.snapshot();
        let Some(request) = trace.http_requests.get(id) else {
            let gone = "it is not in the trace, or not any more: the oldest requests go first";
            return match self.wants_html {
                true => self.html(StatusCode::NOT_FOUND, html::problem(&self.frame(), id, gone)),
                false => response::text(StatusCode::NOT_FOUND, gone),
            };
        };
        let slice = trace.slice(id);
        let explanation = explain::explain(&slice);
        let verdict = explanation.verdicts.iter().find(|verdict| verdict.subject == request.trace_id);
        if self.wants_html {
            let page = html::request(&self.frame(), &trace, &slice, request, verdict);
            return varying(self.html(StatusCode::OK, page));
        }
        let waterfall = view::waterfall(&slice).heading(false).headers(true);
        let verdict = verdict.map(|verdict| format!("\n{verdict}")).unwrap_or_default();
        plain(format!("{waterfall}{verdict}"))
    }

    fn summary(&self) -> Response<DebugPageBody> {
        let trace = if self.query.options.is_all() { self.snapshot() } else { self.chosen() };
        let (summary, explanation) = (view::summary(&trace), explain::explain(&trace));
        if self.wants_html {
            let page = html::summary(&self.frame(), &trace, &summary, &explanation);
            return varying(self.html(StatusCode::OK, page));
        }
        let causes = |explanation: &Explanation| {
            if explanation.is_empty() { String::new() } else { format!("\n{explanation}") }
        };
        plain(format!("{summary}{}", causes(&explanation)))
    }

    fn snapshot(&self) -> NetTrace {
        self.sink.snapshot(&self.title)
    }

    /// Returns the part of the trace that belongs to the chosen requests; all of it if the query has no condition.
    fn chosen(&self) -> NetTrace {
        let trace = self.snapshot();
        if self.query.options.is_all() { trace } else { choice::selected(&trace, &self.query.options) }
    }

    fn frame(&self) -> Frame<'_> {
        Frame {
            title: &self.title,
            base: &self.base,
            query: &self.query,
            switches: Switch::ALL.map(|switch| (switch, switch.state(&self.sink))),
            read_only: self.read_only,
        }
    }

    fn html(&self, status: StatusCode, page: String) -> Response<DebugPageBody> {
        respond(status, response::HTML, DebugPageBody::whole(page))
    }
}

fn json(value: &impl Serialize) -> Response<DebugPageBody> {
    match serde_json::to_vec(value) {
        Ok(json) => respond(StatusCode::OK, response::JSON, DebugPageBody::whole(json)),
        Err(error) => {
            response::text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write JSON: {error}"))
        }
    }
}

fn plain(text: String) -> Response<DebugPageBody> {
    varying(respond(StatusCode::OK, response::TEXT, DebugPageBody::whole(text)))
}

/// Says that the response depends on what the client accepts.
fn varying(mut response: Response<DebugPageBody>) -> Response<DebugPageBody> {
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}
