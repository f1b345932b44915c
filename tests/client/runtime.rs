//! Futures that are polled where there is no tokio runtime.

use std::time::Duration;

use futures_util::FutureExt as _;
use nettrace::connect::TcpConnector;
use nettrace::resolve::StubResolver;
use nettrace::{Client, TraceSink, view};

use crate::support::{background, check, raw::Server};

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

#[test]
fn also_where_a_connection_is_there_already() {
    let server = Server::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    let client = Client::builder(&TraceSink::new()).timeout(Duration::from_secs(60)).build().unwrap();
    let url = format!("http://{}/", server.addr());
    background::runtime().block_on(async {
        let body = client.get(&url).await.unwrap().into_body();
        assert_eq!(&body.bytes().await.unwrap()[..], b"hello");
    });
    let error = client.get(&url).now_or_never().expect("an answer at once").unwrap_err();
    assert!(error.to_string().ends_with(NO_RUNTIME), "{error}");
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
