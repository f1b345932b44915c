//! A reqwest client whose requests are recorded.

use super::{
    connector::TraceConnectorLayer,
    future::{InFlight, TraceClientFuture},
    settings,
};
use crate::{
    request::TraceBody,
    sink::{RequestHandle, RequestHead, RequestRecorder, TraceSink},
};
use ::reqwest::{Body, Client, ClientBuilder, Error, Request, Response};
use http::Uri;
use http_body::Body as _;
use std::{
    ops::Deref,
    task::{Context, Poll},
};
use tower_service::Service;

/// A builder of a reqwest client that is set up to be observed. Created by [`trace`](super::trace).
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct TraceClientBuilder {
    pub(super) builder: ClientBuilder,
    pub(super) connector: TraceConnectorLayer,
}

impl TraceClientBuilder {
    /// Changes settings of reqwest's builder.
    ///
    /// All settings have an effect except those for TLS, which reqwest ignores with a preconfigured TLS. A redirect
    /// policy or resolver that is set here is not recorded.
    pub fn configure(mut self, change: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Self {
        self.builder = change(self.builder);
        self
    }

    /// Returns reqwest's builder, whose [`Client`] can be passed to [`TraceClient::new`]. Connections of that client to
    /// a Unix socket are recorded without its path.
    pub fn into_inner(self) -> ClientBuilder {
        self.builder
    }

    /// Builds the client.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`ClientBuilder::build`].
    pub fn build(self) -> Result<TraceClient, Error> {
        self.connector.set_unix_socket(settings::unix_socket(&self.builder));
        Ok(TraceClient { inner: self.builder.build()?, connector: self.connector })
    }
}

/// A reqwest client that records requests.
///
/// It records those made with [`execute`](Self::execute), with [`send_traced`](super::RequestBuilderExt::send_traced),
/// or with it as a service. It dereferences to [`Client`], whose own `execute` and `send` record dials but no requests.
///
/// Cheap to clone. Clones share their connections.
#[derive(Clone, Debug)]
pub struct TraceClient {
    inner: Client,
    connector: TraceConnectorLayer,
}

impl TraceClient {
    /// Wraps a client that was built with this layer installed. The connections of a client without it cannot be
    /// distinguished from others.
    pub fn new(client: Client, connector: &TraceConnectorLayer) -> Self {
        TraceClient { inner: client, connector: connector.clone() }
    }

    /// Returns the sink that it records into.
    pub fn sink(&self) -> &TraceSink {
        &self.connector.sink
    }

    /// Returns the reqwest client.
    pub fn get_ref(&self) -> &Client {
        &self.inner
    }

    /// Returns the reqwest client.
    pub fn into_inner(self) -> Client {
        self.inner
    }

    /// Makes a request and records it.
    pub fn execute(&self, mut request: Request) -> TraceClientFuture {
        let mut client = &self.inner;
        let sink = self.sink();
        if !sink.records_requests() {
            return TraceClientFuture::new(client.call(request), RequestHandle::unbound(), None);
        }
        let uri: Uri = request.url().as_str().parse().unwrap_or_default();
        let has_body = request.body().is_some_and(|body| !body.is_end_stream());
        let handle = RequestHandle::new();
        let mut recorder = sink.request(&RequestHead {
            method: request.method(),
            uri: &uri,
            version: request.version(),
            headers: request.headers(),
            handle: Some(&handle),
            has_body,
            accepted: false,
            wire: None,
        });
        record_body(request.body_mut(), &recorder);
        let scope = recorder.scope();
        let inner = client.call(request);
        drop(scope);
        let addrs = self.connector.addrs.clone();
        TraceClientFuture::new(inner, handle, Some(InFlight { recorder, addrs }))
    }
}

/// Wraps a streamed body to count its bytes. A body in one piece is not wrapped, so that reqwest can send it again.
fn record_body(body: &mut Option<Body>, recorder: &RequestRecorder) {
    *body = body.take().map(|body| match body.as_bytes() {
        Some(bytes) => {
            recorder.body_in_one_piece(bytes.len() as u64);
            body
        }
        None => Body::wrap(TraceBody::new(body, Some(Box::new(recorder.body_recorder())))),
    });
}

impl Deref for TraceClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.inner
    }
}

impl Service<Request> for TraceClient {
    type Response = Response;
    type Error = Error;
    type Future = TraceClientFuture;

    /// Always ready, since requests wait for their connection later.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> TraceClientFuture {
        self.execute(request)
    }
}
