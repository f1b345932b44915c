//! Futures that are polled outside a tokio runtime.

use std::future::ready;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Method, Uri};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use nettrace::client::Body;
use nettrace::connect::TcpConnector;
use nettrace::proxy::{Proxy, ProxyLayer};
use nettrace::resolve::StubResolver;
use nettrace::tls::TraceTlsLayer;
use nettrace::{Client, TraceSink, view};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower::{Layer, Service, service_fn};

use crate::request;
use test_support::{background, check, raw::Server};

const NO_RUNTIME: &str = "no tokio runtime: poll the future inside one";

/// Tokio would panic.
#[test]
fn a_request_fails_with_an_error() {
    let sink = TraceSink::new();
    let client = Client::builder(&sink).build().unwrap();
    for url in ["http://127.0.0.1:1/", "http://web.test/"] {
        let error = client.get(url).now_or_never().expect("an answer at once").unwrap_err();
        assert!(error.to_string().ends_with(NO_RUNTIME), "{error}");
        assert_eq!(error.failure().as_str(), "x_no_runtime");
        let drawn = view::waterfall(&error.request().trace()).to_string();
        assert!(drawn.contains("x_no_runtime"), "{drawn}");
    }
    check::finished(&sink.snapshot("all"));
    client.close().now_or_never().expect("nothing is open");
}

/// A limit needs a timer, also where no connection has to be made.
#[test]
fn also_where_a_connection_is_there_already() {
    const LIMIT: Duration = Duration::from_secs(60);
    let expect: &[_] = &[("expect", "100-continue")];
    for (which, method, headers, body) in [
        ("timeout", Method::GET, &[][..], Body::empty()),
        ("response_header_timeout", Method::GET, &[], Body::empty()),
        ("expect_continue_timeout", Method::POST, expect, Body::from("data")),
    ] {
        let server = Server::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
        let sink = TraceSink::new();
        let builder = Client::builder(&sink);
        let client = match which {
            "timeout" => builder.timeout(LIMIT),
            "response_header_timeout" => builder.response_header_timeout(LIMIT),
            _ => builder.expect_continue_timeout(LIMIT),
        };
        let client = client.build().unwrap();
        let url = format!("http://{}/", server.addr());
        let runtime = background::runtime();
        runtime.block_on(async {
            let body = client.get(&url).await.unwrap().into_body();
            assert_eq!(&body.bytes().await.unwrap()[..], b"hello");
            for _ in 0..100 {
                tokio::task::yield_now().await; // the connection becomes idle
            }
        });
        let answer = client.request(request(method.as_str(), &url, headers, body)).now_or_never();
        let error = answer.expect("an answer at once").unwrap_err();
        assert!(error.to_string().ends_with(NO_RUNTIME), "{which}: {error}");
        assert_eq!(error.failure().as_str(), "x_no_runtime");
        assert_eq!(sink.snapshot("all").tcp_conns.len(), 1, "{which}");
    }
}

#[test]
fn a_connector_and_a_resolver_fail_with_an_error() {
    let sink = TraceSink::new();
    let error = TcpConnector::new(&sink).connect("127.0.0.1:1").now_or_never().unwrap().unwrap_err();
    assert_eq!(error.to_string(), format!("cannot connect to 127.0.0.1:1: {NO_RUNTIME}"));
    assert_eq!(error.failure().as_str(), "x_no_runtime");
    let resolver = StubResolver::builder(&sink).nameservers([([127, 0, 0, 1], 1).into()]).build().unwrap();
    let error = resolver.lookup("web.test").now_or_never().unwrap().unwrap_err();
    assert_eq!(error.to_string(), format!("lookup web.test: {NO_RUNTIME}"));
    assert_eq!(error.failure().as_str(), "x_no_runtime");
    // What needs no network is answered.
    assert!(resolver.lookup("192.0.2.1").now_or_never().unwrap().is_ok());
    check::finished(&sink.snapshot("all"));
}

/// Reads everything and never answers.
#[derive(Clone, Copy)]
struct Silent;

impl AsyncRead for Silent {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Silent {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Connection for Silent {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// Handshakes with a time limit, over connections that need no runtime.
#[test]
fn handshakes_with_a_limit_fail_with_an_error() {
    const LIMIT: Duration = Duration::from_secs(60);
    let silent = || service_fn(|_: Uri| ready(Ok::<_, io::Error>(TokioIo::new(Silent))));
    let url = Uri::from_static("https://web.test/");
    let sink = TraceSink::new();

    let tls = TraceTlsLayer::builder(&sink).danger_accept_invalid_certs().handshake_timeout(LIMIT);
    let mut tls = tls.build().layer(silent());
    let error = tls.call(url.clone()).now_or_never().expect("an answer at once").err().expect("no timer");
    let texts = chain(&*error);
    assert!(texts.ends_with(NO_RUNTIME), "{texts}");

    for proxy in ["http://proxy.test:1", "socks5h://proxy.test:1"] {
        let proxy: Proxy = proxy.parse().unwrap();
        let mut connector = ProxyLayer::new(&sink, proxy).handshake_timeout(LIMIT).layer(silent());
        let answer = connector.call(url.clone()).now_or_never();
        let texts = chain(&*answer.expect("an answer at once").err().expect("no timer"));
        assert!(texts.ends_with(NO_RUNTIME), "{texts}");
    }
    check::finished(&sink.snapshot("all"));
}

/// The texts of an error and of what is behind it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let texts = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    texts.collect::<Vec<_>>().join(": ")
}
