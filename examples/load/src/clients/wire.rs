//! The client of `plain` over connections whose bytes are read.

use super::{
    hyper::{HyperClient, Pool, pool, with_settings},
    tls,
};
use crate::{BoxError, args::Args};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::client::legacy::connect::HttpConnector;
use nettrace::{
    TraceSink,
    connect::{TraceConnect, TraceConnectLayer},
    tls::TraceTls,
    wire::{TraceWire, TraceWireLayer},
};
use tower::Layer;

pub type Wire = HyperClient<Pool<TraceWire<TraceConnect<HttpConnector>>, Empty<Bytes>>>;
pub type WireTls = HyperClient<Pool<TraceWire<TraceTls<TraceConnect<HttpConnector>>>, Empty<Bytes>>>;

pub fn wire(args: &Args, sink: &TraceSink) -> Result<Wire, BoxError> {
    let connector = TraceConnectLayer::new(sink).layer(with_settings(HttpConnector::new()));
    HyperClient::new(args, pool(args, TraceWireLayer::new(sink).layer(connector)))
}

pub fn wire_tls(args: &Args, sink: &TraceSink) -> Result<WireTls, BoxError> {
    let connector = TraceConnectLayer::new(sink).layer(with_settings(HttpConnector::new()));
    let connector = tls::layer_builder(args, sink)?.try_build()?.layer(connector);
    HyperClient::new(args, pool(args, TraceWireLayer::new(sink).layer(connector)))
}
