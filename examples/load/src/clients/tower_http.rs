//! The client of `plain` in tower-http's `TraceLayer`: a span for each request, and an event when its response begins.

use super::{
    hyper::{HyperClient, Pool},
    plain,
};
use crate::{BoxError, args::Args};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use tower::Layer;
use tower_http::{
    classify::{ServerErrorsAsFailures, SharedClassifier},
    trace::{DefaultMakeSpan, DefaultOnResponse, Trace, TraceLayer},
};
use tracing::Level;

pub type TowerHttp = HyperClient<TracedPool<HttpConnector>>;
pub type TowerHttpTls = HyperClient<TracedPool<HttpsConnector<HttpConnector>>>;

type TracedPool<C> = Trace<Pool<C>, SharedClassifier<ServerErrorsAsFailures>>;

pub fn tower_http(args: &Args) -> Result<TowerHttp, BoxError> {
    HyperClient::new(args, traced(plain::pool_of_tcp(args)))
}

pub fn tower_http_tls(args: &Args) -> Result<TowerHttpTls, BoxError> {
    HyperClient::new(args, traced(plain::pool_of_tls(args)?))
}

fn traced<C>(pool: Pool<C>) -> TracedPool<C> {
    TraceLayer::new_for_http()
        .make_span_with(DefaultMakeSpan::new().level(Level::INFO))
        .on_response(DefaultOnResponse::new().level(Level::INFO))
        .layer(pool)
}
