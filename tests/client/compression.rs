//! gzip: requested and decoded, with the sizes before and after; or left alone.

use http::Response;
use nettrace::client::{Body, ResponseBody};
use nettrace::record::{EndReason, HttpReqTrace};
use nettrace::{Client, Failure, TraceSink};

use crate::{client, request};
use test_support::web::{Asked, Content, Web, reply};

/// `la` five hundred times.
const GZIP: [u8; 30] = *b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\x49\xcc\x19\x85\xa3\x70\x14\x0e\x73\x08\x00\x60\x68\x96\xf4\xe8\x03\x00\x00";

fn encoded(body: &'static [u8]) -> Response<Content> {
    let mut response = reply(body);
    response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    response
}

/// Answers with gzip if the request accepts it, and without an encoding if not.
fn web() -> Web {
    Web::start(async |asked: Asked| match asked.path() {
        "/cut" => encoded(&GZIP[..20]),
        "/wrong" => encoded(b"this is no gzip at all"),
        "/empty" => encoded(b""),
        "/always" => encoded(&GZIP),
        "/other" => {
            let mut response = reply("other");
            response.headers_mut().insert("content-encoding", "br".parse().unwrap());
            response
        }
        _ if asked.header("accept-encoding").contains("gzip") => encoded(&GZIP),
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
async fn asked_for_by_default() {
    let (web, (client, sink)) = (web(), client(|builder| builder));
    let response = get(&client, &web.url("/"), &[]).await;
    assert_eq!(web.asked()[0].header("accept-encoding"), "gzip");
    assert!(!response.headers().contains_key("content-encoding"));
    assert!(!response.headers().contains_key("content-length"));
    assert_eq!(response.into_body().bytes().await.unwrap(), "la".repeat(500));
    let record = last(&sink);
    assert_eq!(lengths(&record), (1000, Some(30)));
    assert_eq!(record.end_reason, Some(EndReason::Closed));
}

#[tokio::test]
async fn off() {
    let (web, (client, sink)) = (web(), client(|builder| builder.compression(false)));
    let body = get(&client, &web.url("/"), &[]).await.into_body().bytes().await.unwrap();
    assert!(!web.asked()[0].headers.contains_key("accept-encoding"));
    assert_eq!((body.len(), lengths(&last(&sink))), (1000, (1000, None)));
    // What comes encoded all the same is passed on as it is.
    let response = get(&client, &web.url("/always"), &[]).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(response.into_body().bytes().await.unwrap(), &GZIP[..]);
    assert_eq!(lengths(&last(&sink)), (30, None));
}

/// Who speaks of encodings, or of ranges of bytes, gets what the server sends.
#[tokio::test]
async fn the_callers_own_business() {
    let (web, (client, sink)) = (web(), client(|builder| builder));
    for (headers, asked, body) in [
        (&[("accept-encoding", "gzip, br")][..], "gzip, br", &GZIP[..]),
        (&[("accept-encoding", "identity")], "identity", "la".repeat(500).as_bytes()),
        (&[("range", "bytes=0-999")], "", "la".repeat(500).as_bytes()),
    ] {
        let response = get(&client, &web.url("/"), headers).await;
        assert_eq!(web.asked().pop().unwrap().header("accept-encoding"), asked);
        assert_eq!(response.headers().contains_key("content-encoding"), body == &GZIP[..]);
        assert_eq!(response.headers()["content-length"], body.len().to_string());
        assert_eq!(response.into_body().bytes().await.unwrap(), body);
        assert_eq!(lengths(&last(&sink)), (body.len() as u64, None));
    }
    client.head(web.url("/")).await.unwrap();
    assert!(
        !web.asked().pop().unwrap().headers.contains_key("accept-encoding"),
        "there is no body to encode"
    );
}

#[tokio::test]
async fn what_was_not_asked_for() {
    let (web, (client, sink)) = (web(), client(|builder| builder));
    let response = get(&client, &web.url("/other"), &[]).await;
    assert_eq!(response.headers()["content-encoding"], "br");
    assert_eq!(response.into_body().bytes().await.unwrap(), "other");
    assert_eq!(lengths(&last(&sink)), (5, None));
    let response = get(&client, &web.url("/empty"), &[]).await;
    assert_eq!(response.headers()["content-encoding"], "gzip", "there is nothing to undo");
    assert_eq!(response.into_body().bytes().await.unwrap(), "");
    assert_eq!(lengths(&last(&sink)), (0, None));
}

#[tokio::test]
async fn what_cannot_be_decoded() {
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

/// The connection that breaks is not the decoder's fault.
#[tokio::test]
async fn a_connection_that_breaks() {
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
async fn a_body_that_is_dropped() {
    let (web, (client, sink)) = (web(), client(|builder| builder));
    drop(get(&client, &web.url("/"), &[]).await);
    assert_eq!(last(&sink).end_reason, Some(EndReason::Cancelled));
}
