//! reqwest's client, as it is and observed.

use super::{Get, request, tls};
use crate::{BoxError, args::Args};
use nettrace::{
    TraceSink,
    reqwest::{Observer, TraceClient},
};
use reqwest::{Client, ClientBuilder, Request, Response, Url};
use std::future::Future;

pub type Reqwest = ReqwestClient<Client>;
pub type ReqwestObserved = ReqwestClient<TraceClient>;

pub fn reqwest(args: &Args) -> Result<Reqwest, BoxError> {
    ReqwestClient::new(args, untraced(args)?)
}

/// Returns an observed client, built as in docs/reqwest.md, which trusts the certificate authority of the server.
pub fn reqwest_observed(args: &Args, sink: &TraceSink) -> Result<ReqwestObserved, BoxError> {
    let tls = tls::layer_builder(args, sink)?.into_config()?;
    ReqwestClient::new(args, Observer::new(sink).tls(tls).install(builder(args))?.build()?)
}

/// Returns reqwest's own client.
pub fn untraced(args: &Args) -> Result<Client, BoxError> {
    Ok(builder(args).tls_backend_preconfigured(tls::config(args)?).build()?)
}

fn builder(args: &Args) -> ClientBuilder {
    // The server is on this host.
    let builder = Client::builder().no_proxy();
    let builder = if args.http2 { builder.http2_prior_knowledge() } else { builder.http1_only() };
    if args.fresh_connections { builder.pool_max_idle_per_host(0) } else { builder }
}

/// A client that makes requests of reqwest.
pub trait Execute {
    fn execute(&self, request: Request) -> impl Future<Output = Result<Response, BoxError>> + Send;
}

impl Execute for Client {
    async fn execute(&self, request: Request) -> Result<Response, BoxError> {
        Ok(Client::execute(self, request).await?)
    }
}

impl Execute for TraceClient {
    async fn execute(&self, request: Request) -> Result<Response, BoxError> {
        Ok(TraceClient::execute(self, request).await?)
    }
}

/// A client of reqwest, or a wrapper of one.
#[derive(Clone)]
pub struct ReqwestClient<C> {
    client: C,
    request: http::Request<()>,
    url: Url,
}

impl<C> ReqwestClient<C> {
    pub fn new(args: &Args, client: C) -> Result<Self, BoxError> {
        Ok(ReqwestClient { client, request: request(args)?, url: args.url.parse()? })
    }
}

impl<C: Execute + Send + Sync> Get for ReqwestClient<C> {
    async fn get(&mut self) -> Result<(), BoxError> {
        let mut request = Request::new(self.request.method().clone(), self.url.clone());
        request.headers_mut().clone_from(self.request.headers());
        let mut response = self.client.execute(request).await?;
        while response.chunk().await?.is_some() {}
        response.error_for_status()?;
        Ok(())
    }
}
