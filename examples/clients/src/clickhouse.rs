//! clickhouse: its client is of a fixed type, hyper-util's, over any connector.
//!
//! The trace has everything: names, attempts, connections, TLS, and the requests, which are read from the bytes.

use ::clickhouse::Client;
use hyper_util::{client::legacy, rt::TokioExecutor};
use nettrace::{TraceSink, connect::TcpConnector, tls::TraceTlsLayer, wire::TraceWireLayer};
use std::time::Duration;
use tower::Layer;

/// Returns a client whose requests are recorded into `sink`. `tls` is used for `https` URLs.
pub fn client(sink: &TraceSink, tls: &TraceTlsLayer) -> Client {
    let connector = TraceWireLayer::new(sink).layer(tls.layer(TcpConnector::new(sink)));
    let http = legacy::Client::builder(TokioExecutor::new())
        // What `Client::default` sets: the server closes idle connections after three seconds.
        .pool_idle_timeout(Duration::from_secs(2))
        .build(connector);
    Client::with_http_client(http)
}
