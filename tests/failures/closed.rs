//! Requests that are in flight when the client is closed fail with a code of their own, and every record ends.

use nettrace::client::{Client, HttpVersion};

use crate::fixture::{Failed, Fixture, ended, failed, hello, reached, request, stuck_after};
use test_support::dns::DnsServer;

const CLIENT_CLOSED: (&str, &str) = ("failed", "x_client_closed");

#[tokio::test]
async fn closing_fails_a_request_during_the_name_lookup() {
    let fixture = Fixture::with(DnsServer::silent().await);
    let failed =
        fail_by_closing(&fixture.client(), "http://web.test/", fixture.nameserver.wait_for_queries(2)).await;
    assert_eq!(ended(failed.outcome.dial()), ("cancelled", "interrupted"));
    assert!(failed.outcome.request.tcp_conn.is_undefined());
}

#[tokio::test]
async fn closing_fails_a_request_during_the_tls_handshake() {
    let fixture = Fixture::new().await;
    let (server, hello) = stuck_after(async |conn| conn.read(16).await.map(drop));
    let failed = fail_by_closing(&fixture.client(), fixture.https(&server), hello.notified()).await;
    assert_eq!(ended(failed.outcome.tunnel()), ("cancelled", "interrupted"));
    failed.outcome.assert_on(failed.outcome.conn());
}

#[tokio::test]
async fn closing_fails_a_request_that_waits_for_the_header() {
    let fixture = Fixture::new().await;
    let (server, asked) = stuck_after(async |conn| conn.read_head().await.map(drop));
    let failed = fail_by_closing(&fixture.client(), fixture.http(&server), asked.notified()).await;
    failed.outcome.assert_on(failed.outcome.conn());
    assert_eq!(ended(failed.outcome.conn()), ("closed", ""));
}

#[tokio::test]
async fn closing_fails_a_request_on_an_http2_stream() {
    let fixture = Fixture::new().await;
    let (server, asked) = stuck_after(async |conn| conn.read(24).await.map(drop));
    let client = fixture.builder().http_version(HttpVersion::Http2Only).build().unwrap();
    let failed = fail_by_closing(&client, fixture.http(&server), asked.notified()).await;
    failed.outcome.assert_on(failed.outcome.conn());
}

#[tokio::test]
async fn closing_fails_a_request_whose_body_is_being_read() {
    let fixture = Fixture::new().await;
    let (server, _) = stuck_after(async |conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!").await
    });
    let half = reached(&fixture.sink, |trace| trace.http_requests.iter().any(|it| it.resp_content_len == 5));
    let failed = fail_by_closing(&fixture.client(), fixture.http(&server), half).await;
    failed.outcome.assert_on(failed.outcome.conn());
    assert_eq!(failed.outcome.request.resp_content_len, 5);
}

#[tokio::test]
async fn a_request_after_closing_fails_without_a_record() {
    let fixture = Fixture::new().await;
    let (client, server) = (fixture.client(), hello());
    client.close().await;
    let (request, handle) = request(fixture.http(&server));
    let error = client.request(request).await.expect_err("the client is closed");
    assert_eq!((error.failure().as_str(), error.is_closed()), (CLIENT_CLOSED.1, true));
    assert_eq!(error.to_string(), "the client is closed");
    assert!(handle.trace().http_requests.is_empty(), "no record was begun");
}

/// Makes a request and closes its client when `moment` completes. Asserts that the request fails because of that.
async fn fail_by_closing(client: &Client, url: impl AsRef<str>, moment: impl Future<Output = ()>) -> Failed {
    let closing = async {
        moment.await;
        client.close().await;
    };
    let (failed, ()) = tokio::join!(failed(client, url), closing);
    assert_eq!(ended(&failed.outcome.request), CLIENT_CLOSED);
    assert!(failed.error.is_closed(), "{}", failed.error);
    assert_eq!(failed.error.to_string(), "the client is closed");
    failed
}
