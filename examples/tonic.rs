//! Traces the calls of a generated gRPC client of tonic.
//!
//! ```text
//! cargo run --example tonic --features tonic -- [URL] [--json FILE]
//! ```
//!
//! The client is given a traced channel, which takes one line. Without a URL it calls a server of the example's own on
//! loopback. The service is defined in `greeter/greeter.proto`.

mod common;
mod greeter;

use common::Arguments;
use greeter::{GreeterClient, GreeterServer, Greetings, Name};
use nettrace::{RequestHandle, TraceSink, view};
use std::{error::Error, io};
use tokio::net::{TcpListener, TcpStream};
use tonic::{
    Request,
    transport::{Endpoint, Server},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let url = match &arguments.url {
        Some(url) => url.clone(),
        None => serve().await?,
    };

    let sink = TraceSink::new();
    let endpoint = Endpoint::from_shared(url.clone())?;
    let channel = nettrace::tonic::connect_lazy(&sink, endpoint); // <- instead of endpoint.connect_lazy()
    let mut client = GreeterClient::new(channel);

    let greeting = client.greet(Name::of("Ada")).await?.into_inner();
    println!("{}", greeting.text);
    let mut greetings = client.repeat(Name { name: "Grace".into(), times: 3 }).await?.into_inner();
    while let Some(greeting) = greetings.message().await? {
        println!("{}", greeting.text);
    }

    // A handle has the trace of a single call, also if the call fails.
    let handle = RequestHandle::new();
    let mut request = Request::new(Name::of("nobody"));
    request.extensions_mut().insert(handle.clone());
    if let Err(status) = client.greet(request).await {
        println!("{}: {}", status.code(), status.message());
    }
    println!("{}", view::waterfall(&handle.trace()));

    drop((client, greetings)); // closes the connection, in a task of its own
    let closed = || sink.snapshot("").tcp_conns.iter().all(|conn| conn.end_reason.is_some());
    while !closed() {
        tokio::task::yield_now().await;
    }
    arguments.write(&sink.snapshot(format!("calls to {url}")))
}

/// Starts a server on loopback and returns its URL.
async fn serve() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://localhost:{}", listener.local_addr()?.port());
    let accept = async |listener: TcpListener| -> Option<(io::Result<TcpStream>, TcpListener)> {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    };
    let server = Server::builder().add_service(GreeterServer::new(Greetings));
    tokio::spawn(server.serve_with_incoming(futures_util::stream::unfold(listener, accept)));
    Ok(url)
}
