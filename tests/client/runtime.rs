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

/// Tokio's sockets and timers panic outside a runtime.
#[test]
fn a_request_outside_a_runtime_fails() {
    let sink = TraceSink::new();
    let client = Client::builder(&sink).build().unwrap();
    for url in ["http://127.0.0.1:1/", "http://web.test/"] {
        let error = client.get(url).now_or_never().expect("ready at once").unwrap_err();
        assert!(error.to_string().ends_with(NO_RUNTIME), "{error}");
        assert_eq!(error.failure().as_str(), "x_no_runtime");
        let drawn = view::waterfall(&error.request().trace()).to_string();
        assert!(drawn.contains("x_no_runtime"), "{drawn}");
    }
    check::finished(&sink.snapshot("all"));
    client.close().now_or_never().expect("nothing is open");
}

/// A timeout needs a timer even if an idle connection makes a dial unnecessary.
#[test]
fn a_request_with_a_timeout_fails_even_on_an_idle_connection() {
    const TIMEOUT: Duration = Duration::from_secs(60);
    let expect: &[_] = &[("expect", "100-continue")];
    for (option, method, headers, body) in [
        ("timeout", Method::GET, &[][..], Body::empty()),
        ("response_header_timeout", Method::GET, &[], Body::empty()),
        ("expect_continue_timeout", Method::POST, expect, Body::from("data")),
    ] {
        let server = Server::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
        let sink = TraceSink::new();
        let builder = Client::builder(&sink);
        let client = match option {
            "timeout" => builder.timeout(TIMEOUT),
            "response_header_timeout" => builder.response_header_timeout(TIMEOUT),
            _ => builder.expect_continue_timeout(TIMEOUT),
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
        let error = answer.expect("ready at once").unwrap_err();
        assert!(error.to_string().ends_with(NO_RUNTIME), "{option}: {error}");
        assert_eq!(error.failure().as_str(), "x_no_runtime");
        assert_eq!(sink.snapshot("all").tcp_conns.len(), 1, "{option}");
    }
}

#[test]
fn a_connector_and_a_resolver_outside_a_runtime_fail() {
    let sink = TraceSink::new();
    let error = TcpConnector::new(&sink).connect("127.0.0.1:1").now_or_never().unwrap().unwrap_err();
    assert_eq!(error.to_string(), format!("cannot connect to 127.0.0.1:1: {NO_RUNTIME}"));
    assert_eq!(error.failure().as_str(), "x_no_runtime");
    let resolver = StubResolver::builder(&sink)
        .nameservers([std::net::SocketAddr::from(([127, 0, 0, 1], 1))])
        .build()
        .unwrap();
    let error = resolver.lookup("web.test").now_or_never().unwrap().unwrap_err();
    assert_eq!(error.to_string(), format!("lookup web.test: {NO_RUNTIME}"));
    assert_eq!(error.failure().as_str(), "x_no_runtime");
    // An address literal needs no network.
    assert!(resolver.lookup("192.0.2.1").now_or_never().unwrap().is_ok());
    check::finished(&sink.snapshot("all"));
}

/// A stream that accepts every write and never has anything to read.
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

/// The streams need no runtime, but the timeout of the handshake does.
#[test]
fn handshakes_with_a_timeout_outside_a_runtime_fail() {
    const TIMEOUT: Duration = Duration::from_secs(60);
    let silent = || service_fn(|_: Uri| ready(Ok::<_, io::Error>(TokioIo::new(Silent))));
    let url = Uri::from_static("https://web.test/");
    let sink = TraceSink::new();

    let tls = TraceTlsLayer::builder(&sink).danger_accept_invalid_certs().handshake_timeout(TIMEOUT);
    let mut tls = tls.build().layer(silent());
    let error = tls.call(url.clone()).now_or_never().expect("ready at once").err().expect("no timer");
    let texts = chain(&*error);
    assert!(texts.ends_with(NO_RUNTIME), "{texts}");

    for proxy in ["http://proxy.test:1", "socks5h://proxy.test:1"] {
        let proxy: Proxy = proxy.parse().unwrap();
        let mut connector = ProxyLayer::new(&sink, proxy).handshake_timeout(TIMEOUT).layer(silent());
        let answer = connector.call(url.clone()).now_or_never();
        let texts = chain(&*answer.expect("ready at once").err().expect("no timer"));
        assert!(texts.ends_with(NO_RUNTIME), "{texts}");
    }
    check::finished(&sink.snapshot("all"));
}

/// Returns the messages of an error and its sources, joined with colons.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    test_support::errors::chain(error).join(": ")
}
