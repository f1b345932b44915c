//! The gRPC status and message in the record of a call.

use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use nettrace::record::{EndReason, HttpReqTrace};
use nettrace::tonic::connect;
use nettrace::{HeaderCapture, TraceSink, view};
use tonic::transport::Endpoint;

use crate::greeter::{GreeterClient, Name};
use crate::servers::{ReservedPort, call, greet};
use test_support::web::{Content, ReceivedRequest, Web, reply};

fn sink_with_header_values() -> TraceSink {
    TraceSink::builder().headers(HeaderCapture::Values).build()
}

/// Makes a call that the server rejects because of this name, and returns its record.
async fn rejected_call(sink: &TraceSink, name: &str) -> HttpReqTrace {
    let place = ReservedPort::new();
    let _server = place.serve();
    let client = GreeterClient::new(connect(sink, place.endpoint()).await.unwrap());
    let (call, outcome) = greet(&client, name).await;
    assert!(outcome.is_err());
    call.trace().http_requests.into_vec().pop().expect("a record of the call")
}

#[tokio::test]
async fn the_status_of_a_trailers_only_response_is_recorded() {
    let record = rejected_call(&TraceSink::new(), "").await;
    assert_eq!(record.grpc_status, Some(3));
    // The request itself did not fail: an error status is a complete response.
    assert_eq!(
        (record.end_reason, record.failure, record.resp_status_code),
        (Some(EndReason::Closed), None, 200)
    );
    assert!(record.resp_header.is_empty(), "header capture is off");
}

#[tokio::test]
async fn the_percent_encoded_message_is_decoded() {
    let record = rejected_call(&sink_with_header_values(), "nobody").await;
    assert_eq!((record.grpc_status, record.grpc_message.as_str()), (Some(5), "nobody is here, 100% sure: ☹"));
}

/// The message is the value of a header field, so it is recorded only if header values are.
#[tokio::test]
async fn the_message_is_recorded_only_with_header_values() {
    for headers in [HeaderCapture::Off, HeaderCapture::Names, HeaderCapture::Lengths] {
        let sink = TraceSink::builder().headers(headers).build();
        let record = rejected_call(&sink, "nobody").await;
        assert_eq!((record.grpc_status, record.grpc_message.as_str()), (Some(5), ""), "{headers:?}");
    }
}

#[tokio::test]
async fn an_excluded_message_is_not_recorded() {
    let sink = TraceSink::builder()
        .headers(HeaderCapture::Values)
        .exclude_header(|name| name == "grpc-message")
        .build();
    let record = rejected_call(&sink, "nobody").await;
    assert_eq!((record.grpc_status, record.grpc_message.as_str()), (Some(5), ""));
}

#[tokio::test]
async fn the_status_in_the_trailers_of_a_stream_is_recorded() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let sink = sink_with_header_values();
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

/// Makes a call to a server that sends this response, and returns the record and the status code.
async fn call_with(answer: impl Fn() -> Response<Content> + Send + 'static) -> (HttpReqTrace, tonic::Code) {
    let web = Web::start(async move |_: ReceivedRequest| answer());
    let sink = sink_with_header_values();
    let endpoint = Endpoint::from_shared(web.url("")).unwrap();
    let client = GreeterClient::new(connect(&sink, endpoint).await.unwrap());
    let (call, outcome) = greet(&client, "anybody").await;
    (call.trace().http_requests.into_vec().pop().unwrap(), outcome.unwrap_err())
}

fn with_content_type(content_type: &'static str, mut response: Response<Content>) -> Response<Content> {
    response.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
    response
}

fn with_trailers(fields: &'static [(&'static str, &'static str)]) -> Response<Content> {
    let fields: HeaderMap =
        fields.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect();
    let frames = futures_util::stream::iter([Ok(Frame::trailers(fields))]);
    with_content_type("application/grpc", Response::new(StreamBody::new(frames).boxed_unsync()))
}

#[tokio::test]
async fn unknown_and_malformed_statuses_are_recorded() {
    let (record, _) =
        call_with(|| with_trailers(&[("grpc-status", "99"), ("grpc-message", "%41%zz%")])).await;
    assert_eq!((record.grpc_status, record.grpc_message.as_str()), (Some(99), "A%zz%"));
    for status in [&[("grpc-status", "so so")], &[("grpc-status", "99999")], &[("grpc-status", "-1")]] {
        let (record, code) = call_with(move || with_trailers(status)).await;
        assert_eq!((record.grpc_status, code), (Some(2), tonic::Code::Unknown), "{status:?}");
    }
}

#[tokio::test]
async fn no_status_is_recorded_if_it_is_missing_or_not_from_grpc() {
    let (record, _) = call_with(|| with_trailers(&[("x-sum", "1")])).await;
    assert_eq!((record.grpc_status, record.end_reason), (None, Some(EndReason::Closed)));
    // The error page of a proxy is not a gRPC response, whatever its header fields are.
    let (record, _) = call_with(|| {
        let mut response = with_content_type("text/html", reply("<h1>Bad Gateway</h1>"));
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("0"));
        response
    })
    .await;
    assert_eq!((record.grpc_status, record.resp_status_code), (None, 502));
}
