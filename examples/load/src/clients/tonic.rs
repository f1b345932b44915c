//! Unary calls of the health service over one channel of tonic.

use super::{Get, request, tls};
use crate::{BoxError, args::Args};
use http::{HeaderMap, Uri};
use nettrace::{TraceSink, connect::TcpConnector};
use std::fs;
use tonic::{
    Request,
    body::Body,
    client::GrpcService,
    codegen::{Body as HttpBody, Bytes, StdError},
    metadata::MetadataMap,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::Layer;

pub type Tonic = TonicClient<Channel>;
pub type TonicTraced = TonicClient<nettrace::tonic::Channel>;

pub fn tonic(args: &Args) -> Result<Tonic, BoxError> {
    let uri: Uri = args.url.parse()?;
    let mut endpoint = Endpoint::from(origin(&uri, uri.scheme_str())?);
    if uri.scheme_str() == Some("https") {
        let mut tls = ClientTlsConfig::new();
        if let Some(file) = &args.cacert {
            tls = tls.ca_certificate(Certificate::from_pem(fs::read(file)?));
        }
        endpoint = endpoint.tls_config(tls)?;
    }
    TonicClient::new(args, endpoint.connect_lazy())
}

/// Returns a client over a traced channel, built as in docs/tonic.md: with TLS over a connector of this crate.
pub fn tonic_traced(args: &Args, sink: &TraceSink) -> Result<TonicTraced, BoxError> {
    let uri: Uri = args.url.parse()?;
    let endpoint = Endpoint::from(origin(&uri, Some("http"))?);
    let channel = if uri.scheme_str() == Some("https") {
        let connector = tls::layer_builder(args, sink)?.always().build().layer(TcpConnector::new(sink));
        let endpoint = endpoint.origin(origin(&uri, uri.scheme_str())?);
        nettrace::tonic::connect_with_connector_lazy(sink, endpoint, connector)
    } else {
        nettrace::tonic::connect_lazy(sink, endpoint)
    };
    TonicClient::new(args, channel)
}

/// Returns the scheme and authority of an endpoint. The path of the URL is that of the HTTP clients.
fn origin(uri: &Uri, scheme: Option<&str>) -> Result<Uri, BoxError> {
    let (scheme, authority) = scheme.zip(uri.authority()).ok_or("a URL without scheme or host")?;
    Ok(Uri::builder().scheme(scheme).authority(authority.clone()).path_and_query("/").build()?)
}

/// A generated client over a channel.
#[derive(Clone)]
pub struct TonicClient<C> {
    health: HealthClient<C>,
    headers: HeaderMap,
}

impl<C> TonicClient<C>
where
    C: GrpcService<Body>,
    C::Error: Into<StdError>,
    C::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <C::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    fn new(args: &Args, channel: C) -> Result<Self, BoxError> {
        Ok(TonicClient { health: HealthClient::new(channel), headers: request(args)?.headers().clone() })
    }
}

impl<C> Get for TonicClient<C>
where
    C: GrpcService<Body> + Send,
    C::Future: Send,
    C::Error: Into<StdError>,
    C::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <C::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    async fn get(&mut self) -> Result<(), BoxError> {
        let mut request = Request::new(HealthCheckRequest { service: String::new() });
        if !self.headers.is_empty() {
            *request.metadata_mut() = MetadataMap::from_headers(self.headers.clone());
        }
        let status = self.health.check(request).await?.into_inner().status();
        if status == ServingStatus::Serving {
            Ok(())
        } else {
            Err(format!("the server is {status:?}").into())
        }
    }
}
