//! HTTP/2 responses whose body ends early because the stream is reset.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::client::legacy::{Client as Pool, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use nettrace::record::HttpReqTrace;
use nettrace::request::{TraceBody, TraceRequestLayer};
use nettrace::{Client, ResponseExt, TraceSink, connect::TraceConnectLayer};
use tower::{Layer, Service, ServiceExt};

use super::frames::{CANCEL, Frames, NO_ERROR};
use crate::fixture::{Failed, Fixture, Outcome, ended, failed, fetched};
use nettrace::client::HttpVersion;
use test_support::raw::Server;

const PART: [u8; 100] = [b'x'; 100];

/// Starts a server that sends the first part of a body and then resets the stream with this code.
fn server(declared: Option<u32>, code: u32) -> Server {
    Server::start(async move |conn| {
        let mut h2 = Frames::accept(conn).await?;
        let stream = h2.request().await?;
        match declared {
            Some(length) => h2.header_declaring(stream, length).await?,
            None => h2.header(stream).await?,
        }
        h2.data(stream, &PART, false).await?;
        h2.reset(stream, code).await?;
        h2.until_closed().await;
        Ok(())
    })
}

/// Makes a request whose stream is reset within the body. Asserts that the part that arrived is recorded.
async fn fail_within_body(declared: Option<u32>, code: u32) -> Failed {
    let (fixture, server) = (Fixture::new().await, server(declared, code));
    let client = fixture.builder().http_version(HttpVersion::Http2Only).build().unwrap();
    let failed = failed(&client, fixture.http(&server)).await;
    assert_eq!(
        (failed.outcome.request.resp_status_code, failed.outcome.request.resp_content_len),
        (200, 100)
    );
    failed.outcome.assert_on(failed.outcome.conn());
    failed
}

/// Returns the field `http2Error` of the record's JSON.
#[track_caller]
fn http2_error(request: &HttpReqTrace) -> Option<String> {
    let json = serde_json::to_value(request).expect("a record");
    json.get("http2Error").map(|name| name.as_str().expect("a name").to_owned())
}

#[tokio::test]
async fn a_reset_without_error_before_the_declared_length_is_an_eof_error() {
    let failed = fail_within_body(Some(1000), NO_ERROR).await;
    assert_eq!(ended(&failed.outcome.request), ("failed", "eof_error"));
    assert_eq!(http2_error(&failed.outcome.request).as_deref(), Some("NO_ERROR"));
    let text = failed.error.to_string();
    assert!(text.contains("100 of 1000 bytes"), "{text}");
}

/// All declared bytes have arrived. Only the end of the stream is missing.
#[tokio::test]
async fn a_reset_without_error_after_the_declared_length_is_no_failure() {
    let (fixture, server) = (Fixture::new().await, server(Some(100), NO_ERROR));
    let client = fixture.builder().http_version(HttpVersion::Http2Only).build().unwrap();
    let (body, handle) = fetched(&client, fixture.http(&server)).await;
    assert_eq!(body, PART);
    let outcome = Outcome::of(&client, &handle).await;
    assert_eq!((ended(&outcome.request), http2_error(&outcome.request)), (("closed", ""), None));
}

#[tokio::test]
async fn a_reset_without_error_and_without_a_declared_length_is_an_eof_error() {
    let failed = fail_within_body(None, NO_ERROR).await;
    assert_eq!(ended(&failed.outcome.request), ("failed", "eof_error"));
    assert_eq!(http2_error(&failed.outcome.request).as_deref(), Some("NO_ERROR"));
}

#[tokio::test]
async fn a_body_ends_after_it_has_returned_its_error() {
    let http2 = server(Some(1000), NO_ERROR);
    let http1 = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await?;
        conn.write(&PART).await?;
        conn.close().await
    });
    let fixture = Fixture::new().await;
    for (server, version) in [(http1, HttpVersion::Http1Only), (http2, HttpVersion::Http2Only)] {
        let client = fixture.builder().http_version(version).build().unwrap();
        let mut body = client.get(fixture.http(&server)).await.expect("a response").into_body();
        while body.frame().await.expect("not the end").is_ok() {}
        for _ in 0..3 {
            assert!(body.frame().await.is_none());
        }
    }
}

#[tokio::test]
async fn a_reset_with_an_error_code_is_recorded_with_its_name() {
    for (code, name) in [(CANCEL, "CANCEL"), (0x1f, "0x1f")] {
        for _ in 0..20 {
            let failed = fail_within_body(Some(1000), code).await;
            assert_eq!(ended(&failed.outcome.request), ("failed", "x_http2_stream_reset"));
            assert_eq!(http2_error(&failed.outcome.request).as_deref(), Some(name));
        }
    }
}

/// The traced client returns the same error as the untraced one. Only the record has the details.
#[tokio::test]
async fn a_hyper_util_client_returns_the_same_error_traced_and_untraced() {
    for (declared, code, failure, name) in [
        (Some(1000), NO_ERROR, "eof_error", None),
        (Some(1000), CANCEL, "x_http2_stream_reset", Some("CANCEL")),
        (Some(100), NO_ERROR, "", None),
        (None, NO_ERROR, "", None), // hyper reports this reset as the end of the body
    ] {
        let server = server(declared, code);
        let sink = TraceSink::new();
        let untraced: Pool<_, Empty<Bytes>> =
            Pool::builder(TokioExecutor::new()).http2_only(true).build(HttpConnector::new());
        let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
        let pool: Pool<_, TraceBody<Empty<Bytes>>> =
            Pool::builder(TokioExecutor::new()).http2_only(true).build(connector);
        let traced = TraceRequestLayer::new(&sink).layer(pool);
        let (expected, got) = (received(untraced, &server).await, received(traced, &server).await);
        assert_eq!(got, expected, "{declared:?} {code}");

        let trace = sink.snapshot("");
        let request = &trace.http_requests[0];
        let reason = if failure.is_empty() { "closed" } else { "failed" };
        assert_eq!(ended(request), (reason, failure), "{declared:?} {code}");
        assert_eq!(http2_error(request).as_deref(), name);
        assert_eq!(request.resp_content_len, 100);
        if failure == "eof_error" {
            assert!(request.req_error.contains("100 of 1000 bytes"), "{}", request.req_error);
        }
    }
}

/// Returns the body, and the messages of the error that ended it and of its sources.
async fn received<S, B>(client: S, server: &Server) -> (Vec<u8>, Vec<String>)
where
    S: Service<Request<Empty<Bytes>>, Response = http::Response<B>>,
    S::Error: std::fmt::Debug,
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + 'static,
{
    let request = Request::get(format!("http://{}/", server.addr())).body(Empty::new()).unwrap();
    let mut body = client.oneshot(request).await.expect("a response").into_body();
    let (mut data, mut errors) = (Vec::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => data.extend(frame.into_data().unwrap_or_default()),
            Err(error) => {
                let mut next = Some(&error as &dyn std::error::Error);
                while let Some(error) = next {
                    errors.push(error.to_string());
                    next = error.source();
                }
                break;
            }
        }
    }
    (data, errors)
}

/// A response to HEAD may declare the length that its body would have (RFC 9110 section 8.6).
#[tokio::test]
async fn a_response_to_head_may_end_before_its_declared_length() {
    let server = Server::start(async |conn| {
        let mut h2 = Frames::accept(conn).await?;
        loop {
            let stream = h2.request().await?;
            h2.header_declaring(stream, 1000).await?;
            h2.data(stream, b"", true).await?;
        }
    });
    let sink = TraceSink::new();
    let client = Client::builder(&sink).http_version(HttpVersion::Http2Only).build().unwrap();
    let url = format!("http://{}/", server.addr());
    let response = client.head(&url).await.unwrap();
    let handle = response.request_handle().cloned().unwrap();
    assert!(response.into_body().bytes().await.unwrap().is_empty());
    let trace = handle.trace();
    assert_eq!(ended(&trace.http_requests[0]), ("closed", ""));

    let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
    let pool: Pool<_, TraceBody<Empty<Bytes>>> =
        Pool::builder(TokioExecutor::new()).http2_only(true).build(connector);
    let client = TraceRequestLayer::new(&sink).layer(pool);
    let request = Request::builder().method(Method::HEAD).uri(&url).body(Empty::new()).unwrap();
    let response = client.oneshot(request).await.unwrap();
    let handle = response.request_handle().cloned().unwrap();
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    assert_eq!(ended(&handle.trace().http_requests[0]), ("closed", ""));
}

/// The header declares the length. The size hint of the body does not contain it.
#[tokio::test]
async fn the_declared_length_is_checked_if_the_body_has_no_size_hint() {
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use std::io;

    for (declared, encoding, failure) in
        [("10", None, "eof_error"), ("5", None, ""), ("10", Some("br"), ""), ("ten", None, "")]
    {
        let sink = TraceSink::new();
        let service = tower::service_fn(|_: Request<TraceBody<Empty<Bytes>>>| async move {
            let frames = stream::iter([Ok::<_, io::Error>(Frame::data(Bytes::from("hello")))]);
            let mut response = http::Response::builder().header("content-length", declared);
            if let Some(encoding) = encoding {
                response = response.header("content-encoding", encoding);
            }
            Ok::<_, io::Error>(response.body(StreamBody::new(frames)).unwrap())
        });
        let request = Request::get("http://a.test/").body(Empty::new()).unwrap();
        let response = TraceRequestLayer::new(&sink).layer(service).oneshot(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        let reason = if failure.is_empty() { "closed" } else { "failed" };
        assert_eq!(ended(&sink.snapshot("").http_requests[0]), (reason, failure), "{declared}");
    }
}

/// A body whose size hint remains the whole length while it is read.
struct ConstantHint<B>(B, u64);

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for ConstantHint<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.1)
    }
}

#[tokio::test]
async fn the_declared_length_is_checked_if_the_size_hint_never_changes() {
    for (length, failure) in [(5, ""), (10, "eof_error")] {
        let sink = TraceSink::new();
        let service = tower::service_fn(|_: Request<TraceBody<Empty<Bytes>>>| async move {
            let response = http::Response::builder().header("content-length", length);
            Ok::<_, std::io::Error>(response.body(ConstantHint(Full::from("hello"), length)).unwrap())
        });
        let request = Request::get("http://a.test/").body(Empty::new()).unwrap();
        let response = TraceRequestLayer::new(&sink).layer(service).oneshot(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        let reason = if failure.is_empty() { "closed" } else { "failed" };
        let record = &sink.snapshot("").http_requests[0];
        assert_eq!(ended(record), (reason, failure), "{length}");
        assert_eq!(record.req_error.contains("5 of 10 bytes"), length == 10, "{}", record.req_error);
    }
}
