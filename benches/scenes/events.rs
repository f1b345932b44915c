//! One traced HTTP request, with its record as an event of `tracing`, and the same with tower-http.

use super::{Again, Scene, Work, http};
use nettrace::{TraceSink, TracingEvents, bench_support};
use std::io;
use tower::{Layer, service_fn};
use tower_http::trace::{DefaultMakeSpan, DefaultOnResponse, TraceLayer};
use tracing::{Level, subscriber::DefaultGuard};

pub(super) fn scenes() -> Vec<Scene> {
    vec![
        Scene::new("events/off", || logged(Level::ERROR, requests(TracingEvents::new()))),
        Scene::new("events/info", || logged(Level::INFO, requests(TracingEvents::new()))),
        Scene::new("events/info, brief", || logged(Level::INFO, requests(TracingEvents::new().brief(true)))),
        Scene::new("events/tower-http", || logged(Level::INFO, tower_http(Level::DEBUG))).unguarded(),
        // With the method, the URL and the version in the line, as the other line has.
        Scene::new("events/tower-http, span", || logged(Level::INFO, tower_http(Level::INFO))).unguarded(),
    ]
}

/// Work whose events of at least a level are formatted, and written nowhere.
struct Logged<F> {
    work: Again<F>,
    _guard: DefaultGuard,
}

fn logged<F: FnMut()>(level: Level, work: F) -> Logged<F> {
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(io::sink);
    let subscriber = subscriber.finish();
    Logged { work: Again(work), _guard: tracing::subscriber::set_default(subscriber) }
}

impl<F: FnMut()> Work for Logged<F> {
    fn run(&mut self, times: u64) {
        self.work.run(times);
    }
}

fn requests(events: TracingEvents) -> impl FnMut() {
    let sink = TraceSink::builder().subscriber(events).build();
    http::requests(&sink, Some(bench_support::dial(&sink)), 5)
}

/// Returns a function that sends a request through tower-http's layer, which logs the response. Its span, which has the
/// level `span`, is part of the line if it is enabled.
fn tower_http(span: Level) -> impl FnMut() {
    let layer = TraceLayer::new_for_http()
        .make_span_with(DefaultMakeSpan::new().level(span))
        .on_response(DefaultOnResponse::new().level(Level::INFO));
    let mut service = layer.layer(service_fn(http::answer(None)));
    http::reusing_fields(5, move |request| http::exchange(&mut service, request))
}
