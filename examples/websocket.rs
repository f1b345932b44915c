//! Traces a WebSocket (RFC 6455) that begins as a request of the prebuilt client.
//!
//! ```text
//! cargo run --example websocket -- [URL] [--json FILE]
//! ```
//!
//! After the upgrade the bytes of the connection are still counted. Without a URL (`http://` or `https://`) it talks to
//! an echo server of the example's own on loopback.

mod common;

use common::Arguments;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use nettrace::{Client, TraceSink, client::Body, client::HttpVersion, view};
use std::{convert::Infallible, error::Error, io};
use tokio::net::TcpListener;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::Role,
    },
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let url = match &arguments.url {
        Some(url) => url.clone(),
        None => serve().await?,
    };

    let sink = TraceSink::new();
    let client = Client::builder(&sink).http_version(HttpVersion::Http1Only).build()?;
    let key = generate_key();
    let request = Request::get(&url)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key);
    let response = client.request(request.body(Body::empty())?).await?;
    let accept = response.headers().get(SEC_WEBSOCKET_ACCEPT);
    if response.status() != StatusCode::SWITCHING_PROTOCOLS
        || accept.is_none_or(|accept| accept != &derive_accept_key(key.as_bytes()))
    {
        return Err(format!("{url} does not speak WebSocket: {}", response.status()).into());
    }

    let io = TokioIo::new(hyper::upgrade::on(response).await?);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    for word in ["hello", "and", "goodbye"] {
        socket.send(Message::text(word)).await?;
        if let Some(answer) = socket.next().await {
            println!("{}", answer?);
        }
    }
    socket.close(None).await?;
    while socket.next().await.is_some() {}
    drop(socket);
    client.close().await;

    let trace = sink.snapshot(format!("a WebSocket to {url}"));
    print!("{}", view::waterfall(&trace));
    let conn = trace.tcp_conns.iter().find(|conn| conn.connected).ok_or("no connection in the trace")?;
    println!("{} bytes were sent, {} received", conn.total_sent_bytes, conn.total_recv_bytes);
    arguments.write(&trace)
}

async fn serve() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://localhost:{}/", listener.local_addr()?.port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(switch));
            tokio::spawn(server.with_upgrades());
        }
    });
    Ok(url)
}

async fn switch(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut response = Response::new(Empty::new());
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(io) = upgrade.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in
        [(CONNECTION, "upgrade"), (UPGRADE, "websocket"), (SEC_WEBSOCKET_ACCEPT, accept.as_str())]
    {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}
