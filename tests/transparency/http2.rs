//! Requests over HTTP/2, as a server receives them.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use nettrace::Failure;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use crate::clients::{BoxError, Outcome, Payload, chain, empty, exchange, full, stream, variants};
use crate::from_the_wire::assert_same_records;
use test_support::web::{Content, ReceivedRequest, Web, reply, status};

fn sum_trailers() -> HeaderMap {
    HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("4"))])
}

fn frames(frames: Vec<std::io::Result<Frame<Bytes>>>) -> Response<Content> {
    Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync())
}

/// Makes the request with every variant, and asserts that caller and server see the same each time.
async fn same(
    web: &Web,
    make: impl Fn() -> http::Request<Payload>,
) -> (Result<Outcome, Vec<String>>, ReceivedRequest) {
    let mut reference: Option<(_, ReceivedRequest)> = None;
    let variants = variants(true);
    for variant in &variants {
        let mut outcome = exchange(&variant.client, make()).await;
        if let Ok(outcome) = &mut outcome {
            outcome.headers.remove("x-peer");
        }
        let received = web.requests().pop().expect("a request");
        match &reference {
            None => reference = Some((outcome, received)),
            Some((expected, saw)) => {
                assert_eq!(&outcome, expected, "{}", variant.name);
                let facts = |received: &ReceivedRequest| {
                    let ReceivedRequest { method, uri, version, headers, body, trailers, .. } =
                        received.clone();
                    (method, uri, version, headers, body, trailers)
                };
                assert_eq!(facts(&received), facts(saw), "{}", variant.name);
            }
        }
    }
    assert_same_records(&variants);
    reference.expect("an untraced variant")
}

#[tokio::test]
async fn bodies_and_trailers_are_the_same_in_both_directions() {
    let web = Web::start(async |received: ReceivedRequest| {
        let body = format!("{} {}", received.method, String::from_utf8_lossy(&received.body));
        frames(vec![Ok(Frame::data(body.into())), Ok(Frame::trailers(received.trailers.unwrap_or_default()))])
    });
    let make =
        || http::Request::post(web.url("/x?y=z")).body(stream(&["da", "ta"], Some(sum_trailers()))).unwrap();
    let (outcome, received) = same(&web, make).await;
    let outcome = outcome.expect("a response");
    assert_eq!(
        (outcome.body.data.as_slice(), outcome.body.trailers),
        (&b"POST data"[..], Some(sum_trailers()))
    );
    assert_eq!(
        (received.body.as_ref(), received.trailers, received.version),
        (&b"data"[..], Some(sum_trailers()), http::Version::HTTP_2)
    );
    assert_eq!(received.uri.to_string(), web.url("/x?y=z"));
}

#[tokio::test]
async fn known_lengths_are_sent_as_content_length() {
    let web = Web::start(async |received: ReceivedRequest| reply(received.body));
    let (outcome, received) =
        same(&web, || http::Request::put(web.url("/")).body(full("data")).unwrap()).await;
    assert_eq!(
        (received.header("content-length"), outcome.unwrap().body.data.as_slice()),
        ("4", &b"data"[..])
    );
    for body in [empty, || full("")] {
        let (outcome, received) =
            same(&web, || http::Request::post(web.url("/")).body(body()).unwrap()).await;
        assert_eq!(received.header("content-length"), "0");
        assert_eq!(outcome.unwrap().body.hints, [(0, Some(0), true); 2]);
    }
}

#[tokio::test]
async fn responses_without_a_body_are_the_same() {
    let web = Web::start(async |received: ReceivedRequest| match received.path() {
        "/head" => {
            let mut response = status(200);
            response.headers_mut().insert("content-length", 1000.into());
            response
        }
        "/204" => status(204),
        _ => status(304),
    });
    for (method, path) in [(Method::HEAD, "/head"), (Method::GET, "/204"), (Method::GET, "/304")] {
        let make = || http::Request::builder().method(&method).uri(web.url(path)).body(empty()).unwrap();
        let (outcome, _) = same(&web, make).await;
        let outcome = outcome.expect("a response");
        assert!(outcome.body.data.is_empty() && outcome.body.hints[1].2, "{path}: {outcome:?}");
    }
}

#[tokio::test]
async fn the_error_of_a_reset_stream_is_the_same() {
    let may_reset = Arc::new(Semaphore::new(0));
    let permits = may_reset.clone();
    let web = Web::start(async move |_| {
        let first = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"beg")))]);
        let permits = permits.clone();
        let reset = async move {
            permits.acquire().await.expect("never closed").forget();
            Err(std::io::Error::other("the server gives up"))
        };
        let frames = first.chain(futures_util::stream::once(Box::pin(reset)));
        Response::new(StreamBody::new(frames).boxed_unsync())
    });
    let mut reference = None;
    for variant in variants(true) {
        let request = http::Request::get(web.url("/")).body(empty()).unwrap();
        let mut body = variant.client.clone().oneshot(request).await.expect("a response head").into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "beg");
        may_reset.add_permits(1);
        let error = chain(&*body.frame().await.unwrap().expect_err("the stream was reset"));
        assert!(error.last().is_some_and(|error| error.contains("stream error")), "{error:?}");
        assert_eq!(reference.get_or_insert_with(|| error.clone()), &error, "{}", variant.name);
        if variant.is_traced() {
            let record = variant.sink.snapshot("").http_requests[0].clone();
            assert_eq!(record.failure, Some(Failure::Http2StreamReset));
        }
    }
}

#[tokio::test]
async fn the_error_of_a_failed_request_body_is_the_same() {
    let web = Web::start(async |_| reply("never"));
    let mut reference = None;
    for variant in variants(true) {
        let pieces = [Ok(Frame::data(Bytes::from_static(b"beg"))), Err(BoxError::from("out of data"))];
        let body: Payload = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(pieces)));
        let request = http::Request::post(web.url("/")).body(body).unwrap();
        let error = exchange(&variant.client, request).await.expect_err("no response");
        assert_eq!(reference.get_or_insert_with(|| error.clone()), &error, "{}", variant.name);
        if variant.has_request_layer() {
            let record = variant.sink.snapshot("").http_requests[0].clone();
            assert_eq!(record.failure, Some(Failure::RequestBodyError));
        }
    }
}
