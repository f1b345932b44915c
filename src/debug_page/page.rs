//! [`DebugPage`]: its settings, and what answers a request.

use super::{
    DebugPageFuture, Metrics,
    body::DebugPageBody,
    chunks::{self, ChunkWriter},
    guard,
    query::Query,
    render::Renderer,
    response,
    route::{self, Route},
    switches::Switch,
    workers::Workers,
};
use crate::sink::TraceSink;
use http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A page that shows the requests of a sink; see the [module](super).
///
/// It implements [`tower_service::Service`] and [`hyper::service::Service`] for requests with any body, which is not
/// read. Clones are cheap and show the same sink.
///
/// ```
/// use http::{Request, StatusCode};
/// use nettrace::{TraceSink, debug_page::DebugPage};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let page = DebugPage::new(&TraceSink::new()).prefix("/debug/nettrace").title("shop");
/// let response = page.oneshot(Request::get("/debug/nettrace/summary").body(())?).await?;
/// assert_eq!(response.status(), StatusCode::OK);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct DebugPage {
    sink: TraceSink,
    metrics: Option<Metrics>,
    prefix: Arc<str>,
    title: Arc<str>,
    read_only: bool,
    /// The hosts that requests may be sent to; `None` for all.
    hosts: Option<Arc<[String]>>,
    workers: Workers,
}

impl DebugPage {
    /// Creates a page that shows the requests of `sink`.
    pub fn new(sink: &TraceSink) -> Self {
        DebugPage {
            sink: sink.clone(),
            metrics: None,
            prefix: "".into(),
            title: "nettrace".into(),
            read_only: false,
            hosts: None,
            workers: Workers::default(),
        }
    }

    /// Sets the counts that `/metrics` has of requests. Without them it has the state of the sink alone.
    pub fn metrics(mut self, metrics: &Metrics) -> Self {
        self.metrics = Some(metrics.clone());
        self
    }

    /// Sets the beginning of paths that does not count, for a router that does not remove it. None by default.
    ///
    /// axum's `nest_service` removes it and needs no prefix; its `route_service` does not, and neither does a program
    /// that hands on a request of hyper. A path that does not begin so is taken as it is.
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.prefix = prefix.as_ref().trim_end_matches('/').into();
        self
    }

    /// Sets the title of the pages and the description of the trace, such as the name of the program. `nettrace` by
    /// default.
    pub fn title(mut self, title: impl AsRef<str>) -> Self {
        self.title = title.as_ref().into();
        self
    }

    /// Sets whether nothing can be switched on or off from the page. Off by default.
    pub fn read_only(mut self, on: bool) -> Self {
        self.read_only = on;
        self
    }

    /// Sets the hosts that requests may be sent to: names and addresses, without port. All by default.
    ///
    /// Where the page is guarded by its address alone, such as on loopback, this keeps out websites whose name is made to
    /// resolve to that address (DNS rebinding).
    pub fn hosts(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.hosts = Some(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// Answers a request.
    pub(super) fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> DebugPageFuture {
        if self.hosts.as_ref().is_some_and(|hosts| !guard::is_to_one_of(hosts, uri, headers)) {
            let text = "the page is not served for this host: use one that it was given, such as localhost";
            return DebugPageFuture::ready(response::text(StatusCode::FORBIDDEN, text));
        }
        let (prefix, path) = self.divided(uri.path());
        let query = match Query::parse(uri.query().unwrap_or_default()) {
            Ok(query) => query,
            Err(error) => return DebugPageFuture::ready(response::text(StatusCode::BAD_REQUEST, error)),
        };
        let renderer = self.renderer(route::base(prefix, path), query, headers);
        let Some(route) = Route::of(path, &renderer.query) else {
            return DebugPageFuture::ready(renderer.not_found());
        };
        if !route.methods().contains(method) {
            return DebugPageFuture::ready(response::method_not_allowed(route.methods()));
        }
        let is_head = *method == Method::HEAD;
        let switched = |switch| DebugPageFuture::ready(self.switch(switch, renderer.query.on, uri, headers));
        match route {
            Route::Recording => switched(Switch::Recording),
            Route::Capture => switched(Switch::Capture),
            Route::Trace if is_head => {
                let body = DebugPageBody::whole("");
                DebugPageFuture::ready(response::respond(StatusCode::OK, response::JSON, body))
            }
            Route::Trace => self.stream(renderer),
            route => self.render(renderer, route, is_head),
        }
    }

    /// Divides a path into the prefix, if it begins with it, and what is below the place where the page is mounted.
    fn divided<'a>(&self, path: &'a str) -> (&'a str, &'a str) {
        let below =
            path.strip_prefix(&*self.prefix).filter(|below| below.is_empty() || below.starts_with('/'));
        path.split_at(below.map_or(0, |below| path.len() - below.len()))
    }

    fn renderer(&self, base: String, query: Query, headers: &HeaderMap) -> Renderer {
        Renderer {
            sink: self.sink.clone(),
            metrics: self.metrics.clone(),
            title: self.title.clone(),
            read_only: self.read_only,
            base,
            wants_html: accepts_html(headers),
            query,
        }
    }

    /// Puts a page together on another thread.
    fn render(&self, renderer: Renderer, route: Route, is_head: bool) -> DebugPageFuture {
        let (sender, receiver) = oneshot::channel();
        let job = move || {
            let page = renderer.page(&route);
            let page = if is_head { response::without_body(page) } else { page };
            // The client may be gone.
            let _ = sender.send(page);
        };
        match self.workers.run(job) {
            Ok(()) => DebugPageFuture::waiting(receiver),
            Err(_) => DebugPageFuture::ready(response::busy()),
        }
    }

    /// Writes a trace on another thread.
    fn stream(&self, renderer: Renderer) -> DebugPageFuture {
        let (writer, reader) = chunks::pipe();
        let job = move || {
            if let Err(error) = write(&renderer, writer) {
                tracing::debug!(target: "nettrace", "the debug page could not write a trace: {error}");
            }
        };
        DebugPageFuture::ready(match self.workers.run(job) {
            Ok(()) => response::respond(StatusCode::OK, response::JSON, DebugPageBody::chunks(reader)),
            Err(_) => response::busy(),
        })
    }

    fn switch(
        &self,
        switch: Switch,
        on: Option<bool>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Response<DebugPageBody> {
        if self.read_only {
            return response::text(StatusCode::FORBIDDEN, "the page is read-only: nothing can be switched");
        }
        if let Err(why) = guard::check(uri, headers) {
            return response::text(StatusCode::FORBIDDEN, why);
        }
        let Some(on) = on else {
            return response::text(StatusCode::BAD_REQUEST, "say on=true or on=false in the query");
        };
        match switch.set(&self.sink, on) {
            Ok(()) => {
                let (name, state) = (switch.name(), if on { "on" } else { "off" });
                response::text(StatusCode::OK, format!("{name} is {state}"))
            }
            Err(why) => response::text(StatusCode::CONFLICT, why),
        }
    }
}

fn write(renderer: &Renderer, mut writer: ChunkWriter) -> std::io::Result<()> {
    renderer.write_trace(&mut writer)?;
    writer.finish()
}

/// Returns `true` if the client names HTML among what it accepts, as browsers do.
fn accepts_html(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.contains("text/html"))
}
