use super::{
    TraceRequest, TraceRequestFuture,
    body::TraceBody,
    future::TracedRequest,
    mapper::{Boxed, MapBody, Typed},
};
use crate::sink::{RequestHandle, RequestHead, RequestRecorder, TraceSink};
use http::{Request, Uri, uri};
use http_body::Body;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use std::{borrow::Cow, sync::Arc};
use tower_layer::Layer;

/// A layer that records the requests of any `Service<http::Request<B>>`. See the [module](super).
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
    /// Returns a layer that records into `sink`, around a service that takes [`TraceBody<B>`](super::TraceBody).
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
    /// Returns a layer for an inner service that takes a boxed body, which `box_body` makes of the traced one.
    ///
    /// ```
    /// use http_body_util::combinators::UnsyncBoxBody;
    /// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    /// use nettrace::{TraceSink, request::TraceRequestLayer};
    /// use tower_layer::Layer;
    ///
    /// type Body = UnsyncBoxBody<bytes::Bytes, std::io::Error>;
    ///
    /// let sink = TraceSink::new();
    /// let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
    /// let client = TraceRequestLayer::new(&sink).boxed(Body::new).layer(client);
    /// # fn is_service<S: tower_service::Service<http::Request<Body>>>(_: S) {}
    /// # is_service(client);
    /// ```
    pub fn boxed<F>(self, box_body: F) -> TraceRequestLayer<Boxed<F>> {
        self.mapped(Boxed(box_body))
    }

    pub(crate) fn mapped<N>(self, mapper: N) -> TraceRequestLayer<N> {
        let TraceRequestLayer { sink, capture, informational, holds_redirects, origin, .. } = self;
        TraceRequestLayer { sink, capture, informational, holds_redirects, origin, mapper }
    }

    /// Sets whether hyper-util's client reports the connection as soon as it has chosen one; off by default.
    ///
    /// With it, a request that is dropped or times out keeps its link to the connection, and the times of the choice and
    /// of the first byte are known. It takes as long as the rest of the recording of a kept-alive request: 3,100
    /// instructions and nine allocations (`benches/check_instructions.sh layers`), mostly hyper-util's.
    ///
    /// hyper-util reports the connection to one listener per request, of a private type. This layer's replaces a
    /// [`capture_connection`] that the request carries already, so leave it off if your requests carry one.
    pub fn capture_connection(mut self, on: bool) -> Self {
        self.capture = on;
        self
    }

    /// Sets whether interim responses (1xx) over HTTP/1 are recorded; off by default.
    ///
    /// This replaces an `on_informational` callback that the request carries already.
    pub fn informational(mut self, on: bool) -> Self {
        self.informational = on;
        self
    }

    /// Sets whether the record of a redirected request stays open until it is released or failed through its
    /// [`RequestHandle`], or the body of its response is dropped. Whether the redirect can be followed is decided above
    /// this layer.
    #[cfg(feature = "client")]
    pub(crate) fn hold_redirects(mut self, on: bool) -> Self {
        self.holds_redirects = on;
        self
    }

    /// Sets the scheme and authority that requests are recorded with if their URI has none. The inner service still gets
    /// the URI as it is.
    pub fn origin(mut self, origin: Uri) -> Self {
        self.origin = Some(Arc::new(origin));
        self
    }

    /// Returns the URI to record.
    fn full_uri<'a>(&self, uri: &'a Uri) -> Cow<'a, Uri> {
        let Some(origin) = self.origin.as_deref().filter(|_| uri.authority().is_none()) else {
            return Cow::Borrowed(uri);
        };
        let mut parts = uri::Parts::default();
        (parts.scheme, parts.authority) = (origin.scheme().cloned(), origin.authority().cloned());
        parts.path_and_query = uri.path_and_query().cloned();
        Uri::from_parts(parts).map_or(Cow::Borrowed(uri), Cow::Owned)
    }

    /// Records the request that `send` makes.
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
        // The request is large. A reference to it would have the compiler copy it once more.
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
            wire: None,
        });
        let handle = request.extensions().get::<RequestHandle>().cloned();
        let capture = self.observe_client(&mut request, &recorder);
        let body_recorder = has_body.then(|| Box::new(recorder.body_recorder()));
        let request = request.map(|body| self.mapper.map(TraceBody::new(body, body_recorder)));
        let scope = recorder.scope();
        let inner = send(request);
        drop(scope);
        TraceRequestFuture::new(
            inner,
            Some(TracedRequest { recorder, handle, capture, holds_redirects: self.holds_redirects }),
        )
    }

    /// Has the client report what only it knows: the connection and interim responses.
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
