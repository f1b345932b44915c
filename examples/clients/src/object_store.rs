//! object_store: its stores take an [`HttpConnector`], which makes their HTTP client.
//!
//! The trace has everything that it has of `nettrace::Client`.

use ::object_store::{
    ClientConfigKey, ClientOptions, Result,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
        HttpService,
    },
};
use async_trait::async_trait;
use http::{HeaderMap, uri::Scheme};
use http_body_util::BodyExt;
use nettrace::{
    client::{Body, Client, ClientError},
    connect::ConnectError,
};
use std::{error::Error, io};

/// A connector for the builder of a store (`with_http_connector`), whose requests are made by a traced client.
///
/// It heeds `allow_http` and the default header fields of the store's [`ClientOptions`]. The rest has no effect: set
/// time limits, proxies and TLS on the client. Switch its [`compression`](nettrace::client::ClientBuilder::compression)
/// off, as sizes and checksums are those of the stored object.
#[derive(Clone, Debug)]
pub struct TracedHttpConnector {
    client: Client,
}

impl TracedHttpConnector {
    /// Wraps a client.
    pub fn new(client: Client) -> Self {
        TracedHttpConnector { client }
    }
}

impl HttpConnector for TracedHttpConnector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        Ok(HttpClient::new(TracedHttpService {
            client: self.client.clone(),
            allows_http: options
                .get_config_value(&ClientConfigKey::AllowHttp)
                .is_some_and(|value| value == "true"),
            headers: options.get_default_headers().cloned().unwrap_or_default(),
        }))
    }
}

/// The HTTP client of one store.
#[derive(Debug)]
struct TracedHttpService {
    client: Client,
    allows_http: bool,
    headers: HeaderMap,
}

#[async_trait]
impl HttpService for TracedHttpService {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if !self.allows_http && request.uri().scheme() != Some(&Scheme::HTTPS) {
            let text = "the URL is not https, and the client's options do not have allow_http";
            return Err(HttpError::new(HttpErrorKind::Unknown, io::Error::other(text)));
        }
        for (name, value) in &self.headers {
            request.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
        let response = self.client.request(request.map(Body::new)).await.map_err(http_error)?;
        Ok(response.map(|body| HttpResponseBody::new(body.map_err(http_error))))
    }
}

/// Says what a store may do about the error. It retries according to the kind.
fn http_error(error: ClientError) -> HttpError {
    HttpError::new(kind_of(&error), error)
}

fn kind_of(error: &ClientError) -> HttpErrorKind {
    if error.is_timeout() {
        return HttpErrorKind::Timeout;
    }
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return HttpErrorKind::Connect;
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_incomplete_message()) {
            return HttpErrorKind::Request;
        }
        if error.is::<io::Error>() {
            return HttpErrorKind::Interrupted;
        }
        source = error.source();
    }
    HttpErrorKind::Unknown
}
