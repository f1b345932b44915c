//! The client's methods, the client as a tower `Service`, and the handles of its requests.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty, Full};
use nettrace::client::Body;
use nettrace::record::EndReason;
use nettrace::{Client, Failure, RequestHandle, ResponseExt as _, TraceSink};
use tower::{Service as _, ServiceExt as _};

use crate::{client, read};
use test_support::raw::Refused;
use test_support::web::{ReceivedRequest, Web, redirect, reply};

/// Starts a server that returns the method, the `Content-Length` and the body of a request. `/moved` redirects to `/`.
fn web() -> Web {
    Web::start(async |request: ReceivedRequest| match request.path() {
        "/moved" => redirect(307, "/"),
        _ => {
            let length = request.header("content-length").to_owned();
            reply(format!("{} {length} {}", request.method, String::from_utf8_lossy(&request.body)))
        }
    })
}

#[tokio::test]
async fn requests_are_sent_and_recorded_with_their_method() {
    let (web, (client, sink)) = (web(), client(|builder| builder));
    assert_eq!(read(client.get(web.url("/")).await).await.1, "GET  ");
    assert_eq!(read(client.post(web.url("/"), "data").await).await.1, "POST 4 data");
    assert_eq!(read(client.post(web.url("/"), Body::empty()).await).await.1, "POST 0 ");
    assert_eq!(read(client.head(web.url("/")).await).await.1, "");
    let request = Request::put(web.url("/")).body(Body::from(vec![b'x'; 3])).unwrap();
    assert_eq!(read(client.request(request).await).await.1, "PUT 3 xxx");
    let methods: Vec<_> =
        sink.snapshot("").http_requests.iter().map(|request| request.req_method.clone()).collect();
    assert_eq!(methods, ["GET", "POST", "POST", "HEAD", "PUT"]);
    assert!(client.sink().snapshot("").http_requests.len() == 5);
}

/// POST, PUT and PATCH define a meaning for content, so they send `Content-Length: 0` (RFC 9110 section 8.6).
#[tokio::test]
async fn an_empty_body_has_a_content_length_if_the_method_expects_content() {
    let (web, (client, _)) = (web(), client(|builder| builder));
    for (method, length) in
        [(Method::POST, "0"), (Method::PUT, "0"), (Method::PATCH, "0"), (Method::DELETE, "")]
    {
        let request = Request::builder().method(&method).uri(web.url("/")).body(Body::empty()).unwrap();
        assert_eq!(read(client.request(request).await).await.1, format!("{method} {length} "));
    }
}

#[tokio::test]
async fn the_service_accepts_any_body_type() {
    let (web, (mut client, _)) = (web(), client(|builder| builder));
    let request = || Request::post(web.url("/"));
    let empty = request().body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(read(client.call(empty).await).await.1, "POST 0 ");
    let full = request().body(Full::<Bytes>::from("data")).unwrap();
    assert_eq!(read(client.call(full).await).await.1, "POST 4 data");
    let text = request().body("text".to_owned()).unwrap();
    assert_eq!(read(client.call(text).await).await.1, "POST 4 text");
    let boxed = request().body(Full::<Bytes>::from("boxed").boxed_unsync()).unwrap();
    assert_eq!(read(client.clone().oneshot(boxed).await).await.1, "POST 5 boxed");
    let own = request().body(Body::from("own")).unwrap();
    assert_eq!(read(client.oneshot(own).await).await.1, "POST 3 own");
}

/// A body that is in memory can be sent again, whatever its type.
#[tokio::test]
async fn a_body_in_memory_is_sent_again_after_a_redirect() {
    let (web, (client, _)) = (web(), client(|builder| builder));
    let full = Request::post(web.url("/moved")).body(Full::<Bytes>::from("data")).unwrap();
    assert_eq!(read(client.clone().oneshot(full).await).await.1, "POST 4 data");
    let text = Request::post(web.url("/moved")).body("text".to_owned()).unwrap();
    assert_eq!(read(client.clone().oneshot(text).await).await.1, "POST 4 text");
}

#[tokio::test]
async fn the_handle_of_a_response_returns_its_trace() {
    let (web, (client, sink)) = (web(), client(|builder| builder));
    let response = client.get(web.url("/")).await.unwrap();
    let handle = response.request_handle().expect("a handle").clone();
    assert_eq!(handle.id(), sink.snapshot("").http_requests[0].trace_id);
    assert_eq!(response.trace().http_requests[0].end_reason, None, "its body has not been read yet");
    assert!(response.timings().unwrap().connect.is_some());
    response.into_body().bytes().await.unwrap();
    let timings = handle.timings().unwrap();
    assert!(timings.receive.is_some() && timings.total >= timings.wait, "{timings}");
    assert_eq!(sink.trace_of(&handle).http_requests, handle.trace().http_requests);
}

#[tokio::test]
async fn a_handle_given_with_the_request_identifies_its_last_hop() {
    let (web, (client, _)) = (web(), client(|builder| builder));
    let handle = RequestHandle::new();
    assert!(handle.id().is_undefined() && handle.timings().is_err());
    let mut request = Request::get(web.url("/moved")).body(Body::empty()).unwrap();
    request.extensions_mut().insert(handle.clone());
    let response = client.request(request).await.unwrap();
    assert_eq!(response.request_handle().unwrap().id(), handle.id());
    read(Ok(response)).await;
    let trace = handle.trace();
    assert_eq!(trace.http_requests.len(), 2);
    assert_eq!(trace.http_requests[1].trace_id, handle.id(), "the handle identifies the last hop");
}

#[tokio::test]
async fn the_handle_of_an_error_returns_the_trace_of_the_failed_request() {
    let (refused, (client, _)) = (Refused::on("127.0.0.1:0"), client(|builder| builder));
    let handle = RequestHandle::new();
    let mut request = Request::get(format!("http://{}/", refused.addr)).body(Body::empty()).unwrap();
    request.extensions_mut().insert(handle.clone());
    let error = client.request(request).await.unwrap_err();
    assert_eq!(error.request().id(), handle.id());
    assert_eq!(error.failure(), Failure::ConnectionRefused);
    let trace = error.request().trace();
    assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::Failed));
    assert_eq!((trace.dials.len(), trace.tcp_conns.len()), (1, 1));
    assert!(error.to_string().contains("refused") && !error.to_string().contains('\n'), "{error}");
    assert!(error.request().timings().unwrap().total.is_some());
}

#[tokio::test]
async fn the_client_works_with_a_disabled_sink() {
    let web = web();
    let client = Client::builder(&TraceSink::disabled()).build().unwrap();
    let response = client.get(web.url("/moved")).await.unwrap();
    assert!(response.request_handle().is_none() && response.timings().is_err());
    assert_eq!(read(Ok(response)).await.1, "GET  ");
    let refused = Refused::on("127.0.0.1:0");
    let error = client.get(format!("http://{}/", refused.addr)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::ConnectionRefused);
    assert!(error.request().trace().http_requests.is_empty());
    client.close().await;
    assert!(client.get(web.url("/")).await.unwrap_err().is_closed());
}
