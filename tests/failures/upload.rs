//! Request bodies that fail.

use std::io;

use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body::Frame;
use http_body_util::StreamBody;
use nettrace::RequestHandle;
use nettrace::client::{Body, HttpVersion};

use crate::fixture::{Failed, Fixture, ended, tls_server};

/// An error that the caller's body returns is not taken for one of the connection, whatever its `io::ErrorKind` is.
#[tokio::test]
async fn a_failed_request_body_fails_the_request() {
    for (http, alpn) in [(HttpVersion::Http1Only, "http/1.1"), (HttpVersion::Http2Only, "h2")] {
        let fixture = Fixture::new().await;
        let mut config = fixture.authority.issue(&["web.test"]).server();
        config.alpn_protocols = vec![alpn.into()];
        let server = tls_server(config, async |mut conn| conn.read_to_end().await);
        let client = fixture.builder().http_version(http).build().unwrap();
        let parts =
            [Ok(Frame::data(Bytes::from("half!"))), Err(io::Error::from(io::ErrorKind::ConnectionReset))];
        let handle = RequestHandle::new();
        let request = Request::post(fixture.https(&server)).extension(handle.clone());
        let request = request.body(Body::new(StreamBody::new(stream::iter(parts)))).unwrap();
        let error = client.request(request).await.expect_err("the body fails");
        let failed = Failed::of(&client, error).await;
        let outcome = &failed.outcome;
        assert_eq!(ended(&outcome.request), ("failed", "x_request_body_error"));
        outcome.assert_on(outcome.conn());
        assert_eq!(outcome.request.req_content_len, 5);
        assert!(outcome.request.req_body_end_at.is_undefined(), "the body did not end");
        assert_eq!(ended(outcome.conn()), ("closed", ""));
    }
}
