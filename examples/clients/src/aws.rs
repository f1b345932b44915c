//! The SDKs of AWS, and other clients made by smithy-rs: they take an [`HttpClient`].
//!
//! The trace has everything that it has of `nettrace::Client`: each attempt of an operation is a request.

use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use nettrace::{
    Failure, TraceSink,
    client::{Body, Client, ClientBuilder, ClientError},
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// An HTTP client for the configuration of an SDK (`http_client`), whose requests are traced.
///
/// It has one traced client, with connections of its own, for each combination of time limits that the SDK asks for.
/// Usually that is one.
pub struct TracedHttpClient {
    builder: Box<dyn Fn() -> ClientBuilder + Send + Sync>,
    connectors: Mutex<HashMap<TimeLimits, SharedHttpConnector>>,
}

/// The time limits that an SDK sets; `None` for no limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct TimeLimits {
    connect: Option<Duration>,
    read: Option<Duration>,
}

impl TracedHttpClient {
    /// Returns a client that records into `sink`.
    pub fn new(sink: &TraceSink) -> Self {
        let sink = sink.clone();
        Self::with_builder(move || Client::builder(&sink))
    }

    /// Returns a client whose TLS, proxy or other settings are those of a builder. Time limits, redirects and
    /// compression are set here.
    pub fn with_builder(builder: impl Fn() -> ClientBuilder + Send + Sync + 'static) -> Self {
        TracedHttpClient { builder: Box::new(builder), connectors: Mutex::default() }
    }

    fn build(&self, limits: TimeLimits) -> SharedHttpConnector {
        let client = (self.builder)()
            .tcp_handshake_timeout(limits.connect)
            .proxy_handshake_timeout(limits.connect)
            .tls_handshake_timeout(limits.connect)
            .response_header_timeout(limits.read)
            .max_redirects(0) // a redirected request needs another signature
            .compression(false) // checksums are those of the bytes on the wire
            .build();
        match client {
            Ok(client) => SharedHttpConnector::new(TracedHttpConnector(client)),
            Err(error) => SharedHttpConnector::new(Unusable(error.to_string())),
        }
    }
}

impl fmt::Debug for TracedHttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracedHttpClient").finish_non_exhaustive()
    }
}

impl HttpClient for TracedHttpClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let limits = TimeLimits { connect: settings.connect_timeout(), read: settings.read_timeout() };
        let mut connectors = self.connectors.lock().unwrap_or_else(PoisonError::into_inner);
        connectors.entry(limits).or_insert_with(|| self.build(limits)).clone()
    }
}

#[derive(Debug)]
struct TracedHttpConnector(Client);

impl HttpConnector for TracedHttpConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = match request.try_into_http1x() {
            Ok(request) => request.map(Body::new),
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let response = self.0.request(request);
        HttpConnectorFuture::new(async {
            let response = response.await.map_err(connector_error)?.map(SdkBody::from_body_1_x);
            HttpResponse::try_from(response).map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// Says what the SDK may do about the error. It tries again after a timeout and an error of I/O.
fn connector_error(error: ClientError) -> ConnectorError {
    if error.is_timeout() {
        ConnectorError::timeout(error.into())
    } else if error.failure() == Failure::InvalidArgument {
        ConnectorError::user(error.into())
    } else {
        ConnectorError::io(error.into())
    }
}

/// Stands for a client that could not be built, and says why.
#[derive(Debug)]
struct Unusable(String);

impl HttpConnector for Unusable {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(Err(ConnectorError::user(self.0.clone().into())))
    }
}
