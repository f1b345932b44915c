//! Compressed responses: when the client requests and decodes gzip, and which sizes it records.

use http::Response;
use nettrace::client::{Body, ResponseBody};
use nettrace::record::{EndReason, HttpReqTrace};
use nettrace::{Client, Failure, TraceSink};

use crate::{client, request};
use test_support::web::{Content, ReceivedRequest, Web, reply};

/// `la` five hundred times, compressed with gzip.
const GZIP: [u8; 30] = *b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\x49\xcc\x19\x85\xa3\x70\x14\x0e\x73\x08\x00\x60\x68\x96\xf4\xe8\x03\x00\x00";

/// Returns a response with `Content-Encoding: gzip`.
fn gzip_response(body: &'static [u8]) -> Response<Content> {
    let mut response = reply(body);
    response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    response
}

/// Starts a server that answers with gzip if the request accepts it, and without an encoding if not. The named paths do
/// not depend on the request.
fn web() -> Web {
    Web::start(async |request: ReceivedRequest| match request.path() {
        "/cut" => gzip_response(&GZIP[..20]),
        "/wrong" => gzip_response(b"this is no gzip at all"),
        "/empty" => gzip_response(b""),
        "/always" => gzip_response(&GZIP),
        "/other" => {
            let mut response = reply("other");
            response.headers_mut().insert("content-encoding", "br".parse().unwrap());
            response
        }
        _ if request.header("accept-encoding").contains("gzip") => gzip_response(&GZIP),
        _ => reply("la".repeat(500)),
    })
}

async fn get(client: &Client, url: &str, headers: &[(&str, &str)]) -> Response<ResponseBody> {
    client.request(request("GET", url, headers, Body::empty())).await.unwrap()
}

fn last(sink: &TraceSink) -> HttpReqTrace {
    sink.snapshot("").http_requests.last().expect("a request").clone()
}

fn lengths(record: &HttpReqTrace) -> (u64, Option<u64>) {
    (record.resp_content_len, record.resp_encoded_len)
}

#[tokio::test]
async fn gzip_is_requested_and_decoded_by_default() {
    let (web, (client, sink)) = (web(), client(|builder| builder));
    let response = get(&client, &web.url("/"), &[]).await;
    assert_eq!(web.requests()[0].header("accept-encoding"), "gzip");
    assert!(!response.headers().contains_key("content-encoding"));
    assert!(!response.headers().contains_key("content-length"));
    assert_eq!(response.into_body().bytes().await.unwrap(), "la".repeat(500));
    let record = last(&sink);
    assert_eq!(lengths(&record), (1000, Some(30)));
    assert_eq!(record.end_reason, Some(EndReason::Closed));
}

#[tokio::test]
async fn without_compression_gzip_is_neither_requested_nor_decoded() {
    let (web, (client, sink)) = (web(), client(|builder| builder.compression(false)));
    let body = get(&client, &web.url("/"), &[]).await.into_body().bytes().await.unwrap();
    assert!(!web.requests()[0].headers.contains_key("accept-encoding"));
    assert_eq!((body.len(), lengths(&last(&sink))), (1000, (1000, None)));
    // A server may compress anyway. Then the body is passed on unchanged.
    let response = get(&client, &web.url("/always"), &[]).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(response.into_body().bytes().await.unwrap(), &GZIP[..]);
    assert_eq!(lengths(&last(&sink)), (30, None));
}

/// A caller who sets `Accept-Encoding` or `Range` gets the body as the server sends it.
#[tokio::test]
async fn a_request_with_its_own_accept_encoding_or_range_is_not_decoded() {
    let (web, (client, sink)) = (web(), client(|builder| builder));
    for (headers, asked, body) in [
        (&[("accept-encoding", "gzip, br")][..], "gzip, br", &GZIP[..]),
        (&[("accept-encoding", "identity")], "identity", "la".repeat(500).as_bytes()),
        (&[("range", "bytes=0-999")], "", "la".repeat(500).as_bytes()),
    ] {
        let response = get(&client, &web.url("/"), headers).await;
        assert_eq!(web.requests().pop().unwrap().header("accept-encoding"), asked);
        assert_eq!(response.headers().contains_key("content-encoding"), body == &GZIP[..]);
        assert_eq!(response.headers()["content-length"], body.len().to_string());
        assert_eq!(response.into_body().bytes().await.unwrap(), body);
        assert_eq!(lengths(&last(&sink)), (body.len() as u64, None));
    }
    client.head(web.url("/")).await.unwrap();
    assert!(
        !web.requests().pop().unwrap().headers.contains_key("accept-encoding"),
        "a response to HEAD has no body to encode"
    );
}

#[tokio::test]
async fn other_encodings_and_empty_bodies_are_not_decoded() {
    let (web, (client, sink)) = (web(), client(|builder| builder));
    let response = get(&client, &web.url("/other"), &[]).await;
    assert_eq!(response.headers()["content-encoding"], "br");
    assert_eq!(response.into_body().bytes().await.unwrap(), "other");
    assert_eq!(lengths(&last(&sink)), (5, None));
    let response = get(&client, &web.url("/empty"), &[]).await;
    assert_eq!(response.headers()["content-encoding"], "gzip", "an empty body is not decoded");
    assert_eq!(response.into_body().bytes().await.unwrap(), "");
    assert_eq!(lengths(&last(&sink)), (0, None));
}

#[tokio::test]
async fn invalid_gzip_is_a_decoding_error() {
    let (web, (client, sink)) = (web(), client(|builder| builder));
    for path in ["/cut", "/wrong"] {
        let error = get(&client, &web.url(path), &[]).await.into_body().bytes().await.unwrap_err();
        assert_eq!(error.failure(), Failure::DecodingError, "{path}: {error}");
        let record = last(&sink);
        assert_eq!(record.failure, Some(Failure::DecodingError), "{path}: {}", record.req_error);
        assert_eq!(record.end_reason, Some(EndReason::Failed), "{path}");
        assert_eq!(record.resp_status_code, 200);
    }
}

/// The connection's failure is reported, although the decoder fails on the truncated input, too.
#[tokio::test]
async fn a_close_within_a_compressed_body_is_an_eof_error() {
    let server = test_support::raw::Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 30\r\n\r\n").await?;
        conn.write(&GZIP[..20]).await?;
        conn.close().await
    });
    let (client, sink) = client(|builder| builder);
    let response = get(&client, &format!("http://{}/", server.addr()), &[]).await;
    let error = response.into_body().bytes().await.unwrap_err();
    assert_eq!((error.failure(), last(&sink).failure), (Failure::EofError, Some(Failure::EofError)));
}

#[tokio::test]
async fn dropping_a_compressed_body_cancels_the_request() {
    let (web, (client, sink)) = (web(), client(|builder| builder));
    drop(get(&client, &web.url("/"), &[]).await);
    assert_eq!(last(&sink).end_reason, Some(EndReason::Cancelled));
}
