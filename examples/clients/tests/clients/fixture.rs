//! Code that the tests share: answers of servers, and the comparison of a trace with what a server saw.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use nettrace::{
    NetTrace, TraceSink,
    record::{HttpReqTrace, TcpConnTrace},
};
use prost::Message;
use test_support::{
    check, wait,
    web::{Content, ReceivedRequest, Web},
};

/// Returns the trace once all of its connections are closed.
pub(crate) async fn finished(sink: &TraceSink) -> NetTrace {
    let is_open = |conn: &TcpConnTrace| conn.end_reason.is_none();
    wait::until("all connections are closed", || !sink.snapshot("").tcp_conns.iter().any(is_open)).await;
    let trace = sink.snapshot("");
    check::finished(&trace);
    trace
}

/// Asserts that the trace has each request that the server received, in the same order, over the same connections.
#[track_caller]
pub(crate) fn assert_as_received(trace: &NetTrace, web: &Web) {
    let seen: Vec<_> = trace.http_requests.iter().map(|request| as_recorded(trace, request)).collect();
    assert_eq!(seen, web.requests().iter().map(as_received).collect::<Vec<_>>());
}

/// A request, as both sides see it.
#[derive(Debug, PartialEq)]
struct Seen {
    method: String,
    path: String,
    http2: bool,
    body_bytes: u64,
    client_port: u16,
}

fn as_recorded(trace: &NetTrace, request: &HttpReqTrace) -> Seen {
    let url: http::Uri = request.req_url.as_str().parse().expect("a URL");
    let conn = trace.tcp_conns.get(&request.tcp_conn).expect("the request is linked to its connection");
    Seen {
        method: request.req_method.as_str().into(),
        path: url.path().into(),
        http2: request.proto_major == 2,
        body_bytes: request.req_content_len,
        client_port: conn.addr_tuple.src_port,
    }
}

fn as_received(request: &ReceivedRequest) -> Seen {
    Seen {
        method: request.method.to_string(),
        path: request.path().into(),
        http2: request.version == http::Version::HTTP_2,
        body_bytes: request.body.len() as u64,
        client_port: request.peer.port(),
    }
}

/// Returns the status codes of the requests.
pub(crate) fn statuses(trace: &NetTrace) -> Vec<u16> {
    trace.http_requests.iter().map(|request| request.resp_status_code).collect()
}

/// Returns the status codes of gRPC of the requests.
pub(crate) fn grpc_statuses(trace: &NetTrace) -> Vec<Option<u16>> {
    trace.http_requests.iter().map(|request| request.grpc_status).collect()
}

/// Returns the answer to a unary call of gRPC.
pub(crate) fn grpc(status: u16, message: &impl Message) -> Response<Content> {
    let mut data = BytesMut::new();
    data.put_u8(0); // not compressed
    data.put_u32(message.encoded_len() as u32);
    data.put(&*message.encode_to_vec());
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.into())]);
    let frames = [Frame::data(data.freeze()), Frame::trailers(trailers)].map(Ok);
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

/// Reads the message of a unary call of gRPC.
pub(crate) fn grpc_message<M: Message + Default>(body: &Bytes) -> M {
    M::decode(&body[5..]).expect("a message")
}
