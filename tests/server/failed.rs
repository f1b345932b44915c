//! Records of requests that do not complete.

use std::net::Shutdown;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nettrace::{Failure, TraceSink, record::EndReason};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::servers::{TestServer, ask, conns_ended, get, settled, settled_running};

async fn open(site: &TestServer, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(site.addr).await.unwrap();
    stream.write_all(get(path).as_bytes()).await.unwrap();
    stream
}

/// Closes the connection with a reset.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(stream);
}

#[tokio::test]
async fn a_close_before_the_response_is_recorded_as_peer_closed() {
    let site = TestServer::start(&TraceSink::new()).await;
    let stream = open(&site, "/never").await;
    site.gate.holds_one().await;
    drop(stream);
    let request = site.request().await;
    assert_eq!((&request.end_reason, &request.failure), (&Some(EndReason::PeerClosed), &None));
    assert_eq!(request.resp_status_code, 0);
    site.finished().await;
}

#[tokio::test]
async fn a_reset_before_the_response_is_recorded_as_failed() {
    let site = TestServer::start(&TraceSink::new()).await;
    let stream = open(&site, "/never").await;
    site.gate.holds_one().await;
    reset(stream);
    let request = site.request().await;
    assert_eq!(request.end_reason, Some(EndReason::Failed));
    assert_eq!(request.failure, Some(Failure::ConnectionReset));
    assert!(request.req_error.contains("reset by peer"), "{}", request.req_error);
    site.finished().await;
}

#[tokio::test]
async fn a_close_within_the_response_ends_the_request() {
    let site = TestServer::start(&TraceSink::new()).await;
    let mut stream = open(&site, "/hold-body").await;
    stream.read_exact(&mut [0; 1]).await.unwrap();
    site.gate.holds_one().await;
    drop(stream);
    let request = site.request().await;
    // If data was left unread, the kernel sent a reset.
    let expected =
        [(Some(EndReason::PeerClosed), None), (Some(EndReason::Failed), Some(Failure::ConnectionReset))];
    assert!(expected.contains(&(request.end_reason.clone(), request.failure.clone())), "{request:?}");
    assert_eq!((request.resp_status_code, request.resp_content_len), (200, 4));
    site.finished().await;
}

#[tokio::test]
async fn a_truncated_request_body_is_not_a_completed_request() {
    let site = TestServer::start(&TraceSink::new()).await;
    let mut stream = TcpStream::connect(site.addr).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let _ = stream.read_to_end(&mut vec![]).await;
    let request = site.request().await;
    // The service failed because of the body, or was dropped before it could.
    assert!(request.end_reason != Some(EndReason::Closed), "{request:?}");
    assert_eq!((request.req_content_len, request.resp_status_code), (5, 0));
    assert!(request.req_body_end_at.is_undefined());
    site.finished().await;
}

#[tokio::test]
async fn a_panic_of_the_service_is_recorded() {
    for (path, status) in [("/panic", 0), ("/panic-in-body", 200)] {
        let site = TestServer::start(&TraceSink::new()).await;
        assert!(!ask(site.addr, &get(path)).await.contains("\r\n0\r\n"));
        let trace = site.finished().await;
        let [request] = &trace.http_requests[..] else { panic!("expected one request") };
        assert_eq!(request.failure, Some(Failure::ServicePanicked), "{path}");
        assert_eq!((&request.end_reason, request.resp_status_code), (&Some(EndReason::Failed), status));
    }
}

#[tokio::test]
async fn an_error_of_the_service_is_recorded() {
    let site = TestServer::start(&TraceSink::new()).await;
    assert_eq!(ask(site.addr, &get("/error")).await, "");
    let trace = site.finished().await;
    assert_eq!(trace.http_requests[0].failure, Some(Failure::ConnectionRefused), "the error of the service");
    assert_eq!(trace.http_requests[0].req_error, "connection refused");
    assert_eq!(trace.tcp_conns[0].failure, None, "the connection itself did not fail");
}

#[tokio::test]
async fn an_error_of_the_response_body_is_recorded() {
    let site = TestServer::start(&TraceSink::new()).await;
    ask(site.addr, &get("/error-in-body")).await;
    let trace = site.finished().await;
    let [request] = &trace.http_requests[..] else { panic!("expected one request") };
    assert_eq!(request.failure, Some(Failure::ResponseBodyError));
    assert_eq!((request.req_error.as_str(), request.resp_content_len), ("no more of it", 4));
}

#[tokio::test]
async fn dropping_the_server_cancels_its_requests() {
    let site = TestServer::start(&TraceSink::new()).await;
    let _stream = open(&site, "/never").await;
    site.gate.holds_one().await;
    let sink = site.sink.clone();
    drop(site); // like a server that is not shut down gracefully
    let trace = settled(&sink, conns_ended).await;
    assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::Cancelled));
    assert_eq!(trace.http_requests[0].failure, Some(Failure::Interrupted));
    assert_eq!(trace.tcp_conns[0].end_reason, Some(EndReason::Closed));
}

#[tokio::test]
async fn resetting_an_http2_stream_cancels_its_request() {
    let site = TestServer::start(&TraceSink::new()).await;
    let io = TokioIo::new(TcpStream::connect(site.addr).await.unwrap());
    let (mut client, conn) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(conn);
    let request = |path: &str| {
        http::Request::get(format!("http://web.test{path}")).body(Empty::<Bytes>::new()).unwrap()
    };
    let never = tokio::spawn(client.send_request(request("/never")));
    site.gate.holds_one().await;
    never.abort();
    let ended = |trace: &nettrace::NetTrace| trace.http_requests.iter().any(|r| r.end_reason.is_some());
    let trace = settled_running(&site.sink, ended).await;
    assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::Cancelled));

    let response = client.send_request(request("/hold-body")).await.unwrap();
    site.gate.holds_one().await;
    drop(response);
    let ended = |trace: &nettrace::NetTrace| trace.http_requests.iter().all(|r| r.end_reason.is_some());
    let trace = settled_running(&site.sink, ended).await;
    assert_eq!(trace.http_requests[1].end_reason, Some(EndReason::Cancelled));
    assert_eq!(trace.http_requests[1].resp_status_code, 200);

    let hello = client.send_request(request("/hello")).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(hello.to_bytes(), "hello", "the connection can still be used");
    drop(client);
    site.finished().await;
}

#[tokio::test]
async fn a_half_closed_connection_without_a_request_is_recorded() {
    let site = TestServer::start(&TraceSink::new()).await;
    let stream = std::net::TcpStream::connect(site.addr).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let trace = site.finished().await;
    assert!(trace.http_requests.is_empty());
    assert_eq!(trace.tcp_conns[0].end_reason, Some(EndReason::PeerClosed));
}
