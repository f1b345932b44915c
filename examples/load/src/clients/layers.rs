//! The client of `plain` with layers around its connector and around it, as docs/hyper.md and docs/stack.md show.

use super::{
    hyper::{HyperClient, Pool, pool, with_settings},
    tls,
};
use crate::{BoxError, args::Args, mode::Mode};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use nettrace::{
    TraceSink,
    connect::{TraceConnect, TraceConnectLayer},
    request::{TraceBody, TraceRequest, TraceRequestLayer},
    tls::TraceTls,
};
use tower::Layer;

pub type Layers = HyperClient<TracedPool<TraceConnect<HttpConnector>>>;
pub type LayersTls = HyperClient<TracedPool<TraceTls<TraceConnect<HttpConnector>>>>;

type TracedPool<C> = TraceRequest<Pool<C, TraceBody<Empty<Bytes>>>>;

pub fn layers(args: &Args, sink: &TraceSink) -> Result<Layers, BoxError> {
    let connector = TraceConnectLayer::new(sink).layer(with_settings(HttpConnector::new()));
    HyperClient::new(args, traced_pool(args, sink, connector))
}

pub fn layers_tls(args: &Args, sink: &TraceSink) -> Result<LayersTls, BoxError> {
    let connector = TraceConnectLayer::new(sink).layer(with_settings(HttpConnector::new()));
    let connector = tls::layer_builder(args, sink)?.try_build()?.layer(connector);
    HyperClient::new(args, traced_pool(args, sink, connector))
}

fn traced_pool<C>(args: &Args, sink: &TraceSink, connector: C) -> TracedPool<C>
where
    C: Connect + Clone,
{
    let capture = args.mode != Mode::LayersUncaptured;
    TraceRequestLayer::new(sink).capture_connection(capture).layer(pool(args, connector))
}
