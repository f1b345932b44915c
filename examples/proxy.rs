//! Makes requests through an HTTP proxy.
//!
//! ```text
//! cargo run --example proxy -- [URL] [--json FILE]
//! ```
//!
//! The proxy is the example's own, on loopback, and requires credentials. Without a URL two requests go to servers of
//! the example's own: the proxy forwards the first request, and tunnels the second (CONNECT), which uses TLS.

mod common;

use common::Arguments;
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode, body::Bytes, body::Incoming, client::conn::http1, header,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use nettrace::{Client, TraceSink, proxy::Proxy, tls::Roots, view};
use std::{error::Error, io, sync::Arc, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

type BoxError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments = Arguments::read()?;
    let proxy: Proxy = format!("http://joe:secret@{}", serve_proxy().await?).parse()?;

    let sink = TraceSink::new();
    let mut builder = Client::builder(&sink).proxy(proxy.clone()).timeout(Duration::from_secs(30));
    let urls = match &arguments.url {
        Some(url) => vec![url.clone()],
        None => {
            let (secure, roots) = serve_tls().await?;
            builder = builder.roots(roots);
            vec![arguments.url_or_own_server().await?, secure]
        }
    };
    let client = builder.build()?;
    for url in &urls {
        match client.get(url).await {
            Ok(response) => {
                println!("{url} through {proxy} answered {}", response.status());
                println!("{} bytes", response.into_body().bytes().await?.len());
            }
            Err(error) => println!("{url} through {proxy} failed: {error} ({})", error.failure()),
        }
    }
    client.close().await;

    let trace = sink.snapshot("through a proxy");
    println!("{}", view::waterfall(&trace));
    Ok(arguments.write(&trace).map_err(|error| error.to_string())?)
}

/// Starts a TLS server, and returns its URL and the roots that verify its certificate.
async fn serve_tls() -> Result<(String, Roots), BoxError> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let roots = Roots::from_pem(made.cert.pem().as_bytes())?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("https://localhost:{}/", listener.local_addr()?.port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await?;
                let server = auto::Builder::new(TokioExecutor::new());
                server.serve_connection(TokioIo::new(stream), service_fn(common::greet)).await
            });
        }
    });
    Ok((url, roots))
}

/// Starts an HTTP proxy and returns its address.
async fn serve_proxy() -> io::Result<std::net::SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(forward))
                .with_upgrades();
            tokio::spawn(server);
        }
    });
    Ok(addr)
}

/// `joe:secret` in the Basic scheme (RFC 7617).
const CREDENTIALS: &str = "Basic am9lOnNlY3JldA==";

async fn forward(mut request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, hyper::Error>>, BoxError> {
    if request.headers().get(header::PROXY_AUTHORIZATION).is_none_or(|value| value != CREDENTIALS) {
        return Ok(answer(StatusCode::PROXY_AUTHENTICATION_REQUIRED));
    }
    let host = request.uri().host().unwrap_or_default();
    let server = TcpStream::connect((host, request.uri().port_u16().unwrap_or(80))).await;
    let Ok(mut server) = server else { return Ok(answer(StatusCode::BAD_GATEWAY)) };
    if request.method() == Method::CONNECT {
        tokio::spawn(async move {
            let mut client = TokioIo::new(hyper::upgrade::on(request).await?);
            tokio::io::copy_bidirectional(&mut client, &mut server).await?;
            Ok::<_, BoxError>(())
        });
        return Ok(answer(StatusCode::OK));
    }
    request.headers_mut().remove(header::PROXY_AUTHORIZATION);
    *request.uri_mut() = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(server)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?.map(BodyExt::boxed))
}

fn answer(status: StatusCode) -> Response<BoxBody<Bytes, hyper::Error>> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}
