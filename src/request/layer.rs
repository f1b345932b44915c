use super::{
    TraceRequest, TraceRequestFuture,
    body::TraceBody,
    future::TracedRequest,
    mapper::{Boxed, MapBody, Typed},
};
use crate::sink::{RequestHandle, RequestHead, RequestRecorder, TraceSink};
use http::{Request, Uri};
use http_body::Body;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use std::{borrow::Cow, sync::Arc};
use tower_layer::Layer;

/// Records the requests of any `Service<http::Request<B>>`. See the [module](super).
#[derive(Clone, Debug)]
pub struct TraceRequestLayer<M = Typed> {
    sink: TraceSink,
    capture: bool,
    informational: bool,
    holds_redirects: bool,
    origin: Option<Arc<Uri>>,
    mapper: M,
}

impl TraceRequestLayer {
    /// Records into `sink`. The inner service must take [`TraceBody<B>`](super::TraceBody).
    pub fn new(sink: &TraceSink) -> Self {
        let sink = sink.clone();
        TraceRequestLayer {
            sink,
            capture: false,
            informational: false,
            holds_redirects: false,
            origin: None,
            mapper: Typed,
        }
    }
}

impl<M> TraceRequestLayer<M> {
    /// For an inner service that takes a boxed body: `box_body` makes it, such as `|body| BoxBody::new(body)`.
    ///
    /// # Examples
    ///
    /// A client whose body type is part of its own type, and cannot become [`TraceBody<B>`](super::TraceBody):
    ///
    /// ```
    /// use http_body_util::{Empty, combinators::BoxBody};
    /// use hyper::{Request, body::Bytes};
    /// use hyper_util::{client::legacy::{Client, connect::HttpConnector}, rt::TokioExecutor};
    /// use nettrace::{TraceSink, connect::{TraceConnect, TraceConnectLayer}, request::TraceRequestLayer};
    /// use std::convert::Infallible;
    /// use tower::{Layer, Service};
    ///
    /// type Body = BoxBody<Bytes, Infallible>;
    /// type HttpClient = Client<TraceConnect<HttpConnector>, Body>;
    ///
    /// let sink = TraceSink::new();
    /// let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
    /// let client: HttpClient = Client::builder(TokioExecutor::new()).build(connector);
    /// let client = TraceRequestLayer::new(&sink).boxed(|body| Body::new(body)).layer(client);
    /// # fn is_service<S: Service<Request<Empty<Bytes>>>>(_: &S) {}
    /// # is_service(&client);
    /// ```
    pub fn boxed<F>(self, box_body: F) -> TraceRequestLayer<Boxed<F>> {
        self.mapped(Boxed(box_body))
    }

    pub(crate) fn mapped<N>(self, mapper: N) -> TraceRequestLayer<N> {
        let TraceRequestLayer { sink, capture, informational, holds_redirects, origin, .. } = self;
        TraceRequestLayer { sink, capture, informational, holds_redirects, origin, mapper }
    }

    /// Has hyper-util's client report the connection as soon as it has chosen one: a request that is dropped
    /// or times out keeps its link, and the time of the choice and of the first byte are known.
    ///
    /// hyper-util reports it to one listener for each request, and its type is private: this one takes the place of a
    /// [`capture_connection`] that the request carries already. So it is off by default; leave it off where the
    /// requests carry one of their own.
    pub fn capture_connection(mut self, on: bool) -> Self {
        self.capture = on;
        self
    }

    /// Records interim responses (1xx) over HTTP/1. It takes the place of an `on_informational` callback that
    /// the request carries already, so it is off by default.
    pub fn informational(mut self, on: bool) -> Self {
        self.informational = on;
        self
    }

    /// Keeps the request of a redirect open until it is released or failed through its [`RequestHandle`], or the body
    /// of its response is dropped: whether the redirect can be followed is decided above this layer.
    #[cfg(feature = "client")]
    pub(crate) fn hold_redirects(mut self, on: bool) -> Self {
        self.holds_redirects = on;
        self
    }

    /// Where requests go whose URI does not say that: they are recorded with the scheme and authority of `origin`.
    /// What the inner service is given stays as it is.
    pub fn origin(mut self, origin: Uri) -> Self {
        self.origin = Some(Arc::new(origin));
        self
    }

    /// The URI to be recorded.
    fn full_uri<'a>(&self, uri: &'a Uri) -> Cow<'a, Uri> {
        let Some(origin) = self.origin.as_deref().filter(|_| uri.authority().is_none()) else {
            return Cow::Borrowed(uri);
        };
        let (mut parts, from) = (uri.clone().into_parts(), origin.clone().into_parts());
        (parts.scheme, parts.authority) = (from.scheme, from.authority);
        Uri::from_parts(parts).map_or(Cow::Borrowed(uri), Cow::Owned)
    }

    /// Makes a request by `send`, and records it.
    #[inline]
    pub(crate) fn trace<B, F>(
        &self,
        request: Request<B>,
        send: impl FnOnce(Request<M::Body>) -> F,
    ) -> TraceRequestFuture<F>
    where
        M: MapBody<B>,
        B: Body,
    {
        if self.sink.records_requests() {
            return self.traced(request, send);
        }
        // What is large is moved from here to there, and nothing else refers to it on its way.
        let request = request.map(|body| self.mapper.map(TraceBody::new(body, None)));
        TraceRequestFuture::new(send(request), None)
    }

    #[inline(never)]
    fn traced<B, F>(
        &self,
        mut request: Request<B>,
        send: impl FnOnce(Request<M::Body>) -> F,
    ) -> TraceRequestFuture<F>
    where
        M: MapBody<B>,
        B: Body,
    {
        let has_body = !request.body().is_end_stream();
        let mut recorder = self.sink.request(&RequestHead {
            method: request.method(),
            uri: &self.full_uri(request.uri()),
            version: request.version(),
            headers: request.headers(),
            handle: request.extensions().get::<RequestHandle>(),
            has_body,
            accepted: false,
        });
        let handle = request.extensions().get::<RequestHandle>().cloned();
        let capture = self.observe_client(&mut request, &recorder);
        let watch = has_body.then(|| Box::new(recorder.watch()));
        let request = request.map(|body| self.mapper.map(TraceBody::new(body, watch)));
        let scope = recorder.scope();
        let inner = send(request);
        drop(scope);
        TraceRequestFuture::new(
            inner,
            Some(TracedRequest { recorder, handle, capture, holds_redirects: self.holds_redirects }),
        )
    }

    /// Has the request report what only the client knows.
    fn observe_client<B>(
        &self,
        request: &mut Request<B>,
        recorder: &RequestRecorder,
    ) -> Option<CaptureConnection> {
        if let (true, Some(record)) = (self.informational, recorder.request().cloned()) {
            hyper::ext::on_informational(request, move |response| record.informational(response.status()));
        }
        self.capture.then(|| capture_connection(request))
    }
}

impl<S, M: Clone> Layer<S> for TraceRequestLayer<M> {
    type Service = TraceRequest<S, M>;

    fn layer(&self, inner: S) -> TraceRequest<S, M> {
        TraceRequest::new(inner, self.clone())
    }
}
