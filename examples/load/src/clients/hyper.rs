//! The shared parts of the clients that use hyper-util's pool.

use super::{Get, request};
use crate::{BoxError, args::Args};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connect, HttpConnector},
    },
    rt::TokioExecutor,
};
use std::{pin::pin, time::Duration};
use tower::{Service, ServiceExt};

/// hyper-util's client.
pub type Pool<C, B = Empty<Bytes>> = legacy::Client<C, B>;

/// Returns hyper-util's client over a connector.
pub fn pool<C, B>(args: &Args, connector: C) -> Pool<C, B>
where
    C: Connect + Clone,
    B: Body + Send,
    B::Data: Send,
{
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder.http2_only(args.http2);
    if args.fresh_connections {
        builder.pool_max_idle_per_host(0);
    }
    builder.build(connector)
}

/// Sets a connector up as for a service, with the socket options of this crate's client, so that both make the same
/// system calls.
pub fn with_settings<R>(mut connector: HttpConnector<R>) -> HttpConnector<R> {
    const KEEP_ALIVE: Duration = Duration::from_secs(15);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEP_ALIVE));
    connector.set_keepalive_interval(Some(KEEP_ALIVE));
    connector
}

/// A client of hyper-util, or a service around one.
#[derive(Clone)]
pub struct HyperClient<S> {
    service: S,
    request: Request<()>,
}

impl<S> HyperClient<S> {
    pub fn new(args: &Args, service: S) -> Result<Self, BoxError> {
        Ok(HyperClient { service, request: request(args)? })
    }
}

impl<S, B> Get for HyperClient<S>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>> + Send,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    async fn get(&mut self) -> Result<(), BoxError> {
        let request = self.request.clone().map(|()| Empty::new());
        let service = self.service.ready().await.map_err(Into::into)?;
        read_to_end(service.call(request).await.map_err(Into::into)?).await
    }
}

/// Reads a response to the end of its body.
pub async fn read_to_end<B>(response: Response<B>) -> Result<(), BoxError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let status = response.status();
    let mut body = pin!(response.into_body());
    while let Some(frame) = body.frame().await {
        frame.map_err(Into::into)?;
    }
    if status.is_success() { Ok(()) } else { Err(format!("the server answered {status}").into()) }
}
