//! Traces a hyper client by wrapping its connector and the client itself.
//!
//! ```text
//! cargo run --example wrap_connector -- [URL] [--json FILE]
//! ```
//!
//! Without a URL the request goes to a server of the example's own on loopback.

mod common;

use common::Arguments;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use nettrace::{
    ResponseExt, TraceSink,
    connect::TraceConnectLayer,
    request::{TraceBody, TraceRequestLayer},
};
use std::error::Error;
use tower::Layer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let url = arguments.url_or_own_server().await?;

    let sink = TraceSink::new();
    let connector = HttpConnector::new();
    let connector = TraceConnectLayer::new(&sink).layer(connector); // <- around the connector
    let client: Client<_, TraceBody<Empty<Bytes>>> = Client::builder(TokioExecutor::new()).build(connector);
    let client = TraceRequestLayer::new(&sink).layer(client); // <- around the client

    let request = Request::get(url.as_str()).body(Empty::new())?;
    let response = client.request(request).await?;
    let handle = response.request_handle().cloned();
    println!("{url} answered {}", response.status());
    println!("{} bytes", response.into_body().collect().await?.to_bytes().len());
    if let Some(handle) = handle {
        println!("{}", handle.timings()?);
    }
    drop(client); // closes its idle connections, each in a task of its own
    let closed = || sink.snapshot("").tcp_conns.iter().all(|conn| conn.end_reason.is_some());
    while !closed() {
        tokio::task::yield_now().await;
    }
    arguments.write(&sink.snapshot(format!("GET {url}")))
}
