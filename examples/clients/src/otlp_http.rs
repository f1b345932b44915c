//! OTLP over HTTP: the exporters of opentelemetry-otlp take an [`HttpClient`].
//!
//! The trace has everything that it has of `nettrace::Client`.

use async_trait::async_trait;
use http_body_util::{BodyExt, Limited};
use nettrace::client::{Body, Client};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

/// The most bytes that a response may have: as many as the clients of opentelemetry-http allow.
const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// An HTTP client for the exporters of opentelemetry-otlp (`with_http_client`), which makes its requests on a runtime
/// of tokio: the batch processors export on threads that have none.
///
/// Exporters leave time limits to their HTTP client, so give the client a
/// [`timeout`](nettrace::client::ClientBuilder::timeout).
#[derive(Clone, Debug)]
pub struct TracedHttpClient {
    client: Client,
    runtime: Handle,
}

impl TracedHttpClient {
    /// Wraps a client. Its requests are made on `runtime`.
    pub fn new(client: Client, runtime: Handle) -> Self {
        TracedHttpClient { client, runtime }
    }
}

#[async_trait]
impl HttpClient for TracedHttpClient {
    /// Makes a request. If the future is dropped, the request is cancelled.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.client.request(request.map(Body::from));
        let exchange = async {
            let (head, body) = response.await?.into_parts();
            let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        // The error of the task itself: the runtime was shut down.
        AbortOnDropHandle::new(self.runtime.spawn(exchange)).await?
    }
}
