//! The client of `reqwest` in reqwest-middleware, with the middleware of reqwest-tracing: a span for each request.

use super::reqwest::{Execute, ReqwestClient, untraced};
use crate::{BoxError, args::Args};
use reqwest::{Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use reqwest_tracing::TracingMiddleware;

pub type ReqwestTracing = ReqwestClient<ClientWithMiddleware>;

pub fn reqwest_tracing(args: &Args) -> Result<ReqwestTracing, BoxError> {
    let client = ClientBuilder::new(untraced(args)?).with(TracingMiddleware::default()).build();
    ReqwestClient::new(args, client)
}

impl Execute for ClientWithMiddleware {
    async fn execute(&self, request: Request) -> Result<Response, BoxError> {
        Ok(ClientWithMiddleware::execute(self, request).await?)
    }
}
