//! Traces a pool that is built from hyper-util's `client::pool`.
//!
//! ```text
//! cargo run --example hyper_pool -- [URL] [--json FILE]
//! ```
//!
//! The connector and the pool are wrapped, as with any client. Each connection inside the pool is wrapped in an
//! `OnConnection` as well, because the responses of a bare hyper connection do not identify it. Without a URL the
//! requests go to a server of the example's own on loopback.

mod common;

use common::Arguments;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::{
    client::{legacy::connect::HttpConnector, pool::cache},
    rt::TokioExecutor,
};
use nettrace::{
    ConnRef, TraceSink,
    connect::TraceConnectLayer,
    request::{OnConnection, TraceBody, TraceRequestLayer},
    view,
};
use std::{
    error::Error,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tower::{Layer, Service, ServiceExt};

type BoxError = Box<dyn Error + Send + Sync>;
type Body = TraceBody<Empty<Bytes>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let url: Uri = arguments.url_or_own_server().await?.parse()?;

    let sink = TraceSink::new();
    let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
    let make = tower::service_fn(move |uri: Uri| Box::pin(connect(connector.clone(), uri)));
    // This pool has one destination; hyper-util's `pool::map` makes one for many.
    let mut pool = cache::builder().executor(TokioExecutor::new()).build(make);
    let client = tower::service_fn(move |request: Request<Body>| {
        let connection = pool.call(request.uri().clone());
        async move {
            let mut connection = connection.await.map_err(|error: BoxError| error)?;
            Ok::<_, BoxError>(connection.ready().await?.call(request).await?)
        }
    });
    let mut client = TraceRequestLayer::new(&sink).layer(client);

    let host = url.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
    for _ in 0..3 {
        let request = Request::get(url.clone()).header("host", &host).body(Empty::new())?;
        let response = client.ready().await.map_err(plain)?.call(request).await.map_err(plain)?;
        println!("{url} answered {}", response.status());
        response.into_body().collect().await?;
    }
    println!("{}", view::waterfall(&sink.snapshot("")));

    drop(client); // closes the connections, each in a task of its own
    let closed = || sink.snapshot("").tcp_conns.iter().all(|conn| conn.end_reason.is_some());
    while !closed() {
        tokio::task::yield_now().await;
    }
    arguments.write(&sink.snapshot(format!("GET {url}, three times")))
}

fn plain(error: BoxError) -> Box<dyn Error> {
    error
}

/// Connects, and starts an HTTP/1 connection.
async fn connect(
    connector: nettrace::connect::TraceConnect<HttpConnector>,
    uri: Uri,
) -> Result<OnConnection<Sender>, BoxError> {
    let io = connector.oneshot(uri).await?;
    let conn = ConnRef::of(&io);
    let (sender, connection) = http1::handshake(io).await?;
    tokio::spawn(connection);
    Ok(OnConnection::new(conn, Sender(sender)))
}

/// A hyper connection as a tower service.
struct Sender(http1::SendRequest<Body>);

impl Service<Request<Body>> for Sender {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
