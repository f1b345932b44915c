//! The gRPC status of a call.

use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use nettrace::record::{EndReason, HttpReqTrace};
use nettrace::tonic::connect;
use nettrace::{HeaderCapture, TraceSink, view};
use tonic::transport::Endpoint;

use crate::greeter::{GreeterClient, Name};
use crate::servers::{ReservedPort, call, greet};
use test_support::web::{Asked, Content, Web, reply};

fn with_values() -> TraceSink {
    TraceSink::builder().headers(HeaderCapture::Values).build()
}

/// The record of a call for that name that gets no greeting.
async fn without_greeting(sink: &TraceSink, name: &str) -> HttpReqTrace {
    let place = ReservedPort::new();
    let _server = place.serve();
    let client = GreeterClient::new(connect(sink, place.endpoint()).await.unwrap());
    let (call, outcome) = greet(&client, name).await;
    assert!(outcome.is_err());
    call.trace().http_requests.into_vec().pop().expect("its record")
}

#[tokio::test]
async fn in_the_header_of_a_response_that_is_nothing_else() {
    let record = without_greeting(&TraceSink::new(), "").await;
    assert_eq!(record.grpc_status, Some(3));
    // That is an answer.
    assert_eq!(
        (record.end_reason, record.failure, record.resp_status_code),
        (Some(EndReason::Closed), None, 200)
    );
    assert!(record.resp_header.is_empty(), "headers are off");
}

#[tokio::test]
async fn the_message_is_decoded() {
    let record = without_greeting(&with_values(), "nobody").await;
    assert_eq!((record.grpc_status, record.grpc_message.as_str()), (Some(5), "nobody is here, 100% sure: ☹"));
}

/// The message is the value of a header field, so it is recorded only if values are.
#[tokio::test]
async fn without_values_of_header_fields_there_is_no_message() {
    for headers in [HeaderCapture::Off, HeaderCapture::Names, HeaderCapture::Lengths] {
        let sink = TraceSink::builder().headers(headers).build();
        let record = without_greeting(&sink, "nobody").await;
        assert_eq!((record.grpc_status, record.grpc_message.as_str()), (Some(5), ""), "{headers:?}");
    }
}

#[tokio::test]
async fn a_message_may_be_excluded() {
    let sink = TraceSink::builder()
        .headers(HeaderCapture::Values)
        .exclude_header(|name| name == "grpc-message")
        .build();
    let record = without_greeting(&sink, "nobody").await;
    assert_eq!((record.grpc_status, record.grpc_message.as_str()), (Some(5), ""));
}

#[tokio::test]
async fn in_trailers_after_messages() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let sink = with_values();
    let mut client = GreeterClient::new(connect(&sink, place.endpoint()).await.unwrap());
    let (call, request) = call(Name { name: "nobody".into(), times: 2 });
    let mut greetings = client.repeat(request).await.unwrap().into_inner();
    assert!(greetings.message().await.unwrap().is_some() && greetings.message().await.unwrap().is_some());
    assert_eq!(greetings.message().await.unwrap_err().code(), tonic::Code::NotFound);
    let trace = call.trace();
    let record = &trace.http_requests[0];
    assert_eq!((record.grpc_status, record.grpc_message.as_str()), (Some(5), "nobody is here, 100% sure: ☹"));
    assert_eq!((&record.end_reason, &record.failure), (&Some(EndReason::Closed), &None));
    assert_eq!(record.trailers.get("grpc-status").unwrap().field_val, "5");
    let drawn = view::waterfall(&trace).to_string();
    assert!(drawn.contains("200 OK · gRPC NOT_FOUND"), "{drawn}");
    assert!(drawn.contains("the server said: nobody is here, 100% sure: ☹"), "{drawn}");
}

/// Makes a call to a server whose answer is not proper gRPC.
async fn answered(answer: impl Fn() -> Response<Content> + Send + 'static) -> (HttpReqTrace, tonic::Code) {
    let web = Web::start(async move |_: Asked| answer());
    let sink = with_values();
    let endpoint = Endpoint::from_shared(web.url("")).unwrap();
    let client = GreeterClient::new(connect(&sink, endpoint).await.unwrap());
    let (call, outcome) = greet(&client, "anybody").await;
    (call.trace().http_requests.into_vec().pop().unwrap(), outcome.unwrap_err())
}

fn with_kind(kind: &'static str, mut response: Response<Content>) -> Response<Content> {
    response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    response
}

fn ended_with(fields: &'static [(&'static str, &'static str)]) -> Response<Content> {
    let fields: HeaderMap =
        fields.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect();
    let frames = futures_util::stream::iter([Ok(Frame::trailers(fields))]);
    with_kind("application/grpc", Response::new(StreamBody::new(frames).boxed_unsync()))
}

#[tokio::test]
async fn what_no_specification_knows() {
    let (record, _) = answered(|| ended_with(&[("grpc-status", "99"), ("grpc-message", "%41%zz%")])).await;
    assert_eq!((record.grpc_status, record.grpc_message.as_str()), (Some(99), "A%zz%"));
    for status in [&[("grpc-status", "so so")], &[("grpc-status", "99999")], &[("grpc-status", "-1")]] {
        let (record, code) = answered(move || ended_with(status)).await;
        assert_eq!((record.grpc_status, code), (Some(2), tonic::Code::Unknown), "{status:?}");
    }
}

#[tokio::test]
async fn responses_without_a_status() {
    let (record, _) = answered(|| ended_with(&[("x-sum", "1")])).await;
    assert_eq!((record.grpc_status, record.end_reason), (None, Some(EndReason::Closed)));
    // A proxy in between speaks for itself.
    let (record, _) = answered(|| {
        let mut response = with_kind("text/html", reply("<h1>Bad Gateway</h1>"));
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("0"));
        response
    })
    .await;
    assert_eq!((record.grpc_status, record.resp_status_code), (None, 502));
}
