//! Records of requests that fail.

use std::time::Duration;

use nettrace::record::EndReason;
use nettrace::{Failure, ResponseExt as _};

use crate::clients::{Variant, answer_hello, hanging, linked, unrelated_roots, with_paused_clock};
use test_support::pki::Authority;
use test_support::raw::Server;

#[tokio::test]
async fn a_connection_closed_before_or_within_the_response_is_an_eof() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        if conn.index == 1 {
            conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await?;
        }
        conn.close().await
    });
    let variant = Variant::observed(unrelated_roots());
    let client = variant.builder().build().unwrap();
    let url = format!("http://{}/", server.addr());
    variant.send(client.get(&url)).await.unwrap_err();
    let trace = variant.finished();
    let record = &trace.http_requests[0];
    assert_eq!((&record.failure, &record.end_reason), (&Some(Failure::EofError), &Some(EndReason::Failed)));
    // The link comes from the connection info of the error.
    let conn = trace.tcp_conns.get(&record.tcp_conn).expect("a linked connection");
    assert_eq!(conn.addr_tuple.src_port, server.seen()[0].peer.port());

    let response = variant.send(client.get(&url)).await.unwrap();
    let handle = response.request_handle().unwrap().clone();
    let error = response.bytes().await.unwrap_err();
    assert!(error.is_decode());
    let trace = variant.finished();
    let (record, conn) = linked(&trace, &handle);
    assert_eq!((&record.failure, &record.end_reason), (&Some(Failure::EofError), &Some(EndReason::Failed)));
    assert_eq!((record.resp_status_code, record.resp_content_len), (200, 4));
    assert_eq!(conn.expect("a linked connection").addr_tuple.src_port, server.seen()[1].peer.port());
}

#[tokio::test]
async fn dropping_an_unread_body_is_recorded_as_cancelled() {
    let server = Server::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    let variant = Variant::observed(unrelated_roots());
    let client = variant.builder().build().unwrap();
    drop(variant.send(client.get(format!("http://{}/", server.addr()))).await.unwrap());
    assert_eq!(variant.finished().http_requests[0].end_reason, Some(EndReason::Cancelled));
}

#[tokio::test]
async fn request_timeouts_are_recorded() {
    let server = hanging();
    let variant = Variant::observed(unrelated_roots());
    let client = variant.builder().build().unwrap();
    let url = |path: &str| format!("http://{}{path}", server.addr());
    let limit = Duration::from_secs(60);
    let error = with_paused_clock(variant.send(client.get(url("/head")).timeout(limit))).await.unwrap_err();
    assert!(error.is_timeout());
    let response = variant.send(client.get(url("/body")).timeout(limit)).await.unwrap();
    assert!(with_paused_clock(response.bytes()).await.unwrap_err().is_timeout());
    let trace = variant.finished();
    for record in &trace.http_requests {
        assert_eq!(record.failure, Some(Failure::GenericTimeoutError), "{}", record.req_url);
        assert_eq!(record.end_reason, Some(EndReason::Timeout));
    }
}

#[tokio::test]
async fn a_connect_timeout_in_the_tls_handshake_is_recorded() {
    let server = Server::start(async |conn| conn.hang().await);
    let variant = Variant::observed(Authority::new("known").store());
    let client = variant.builder().connect_timeout(Duration::from_secs(60)).build().unwrap();
    let request = client.get(format!("https://{}/", server.addr()));
    let error = with_paused_clock(variant.send(request)).await.unwrap_err();
    assert!(error.is_timeout() && error.is_connect());
    let trace = variant.finished();
    let (tls, conn) = (&trace.tls_tunnels[0], &trace.tcp_conns[0]);
    assert_eq!((&tls.end_reason, &tls.tcp_conn), (&Some(EndReason::Cancelled), &conn.trace_id));
    assert_eq!((conn.connected, &conn.end_reason), (true, &Some(EndReason::Closed)));
    assert_eq!(trace.dials[0].established_conn, conn.trace_id);
    let record = &trace.http_requests[0];
    assert_eq!(
        (&record.failure, &record.end_reason),
        (&Some(Failure::GenericTimeoutError), &Some(EndReason::Timeout))
    );
    assert_eq!(record.tls_tunnel, tls.trace_id, "the tunnel whose handshake timed out");
}

#[tokio::test]
async fn a_server_without_tls_is_recorded_as_not_tls() {
    let server = Server::start(async |conn| answer_hello(conn).await);
    let variant = Variant::observed(unrelated_roots());
    let client = variant.builder().build().unwrap();
    variant.send(client.get(format!("https://{}/", server.addr()))).await.unwrap_err();
    let trace = variant.finished();
    assert_eq!(trace.tls_tunnels[0].failure, Some(Failure::TlsNotTls));
    assert_eq!(trace.http_requests[0].failure, Some(Failure::TlsNotTls));
    assert!(trace.tls_tunnels[0].peer_certs.is_empty());
}

#[tokio::test]
async fn the_recorded_error_contains_no_secrets_of_the_url() {
    let variant = Variant::observed(unrelated_roots());
    let client = variant.builder().build().unwrap();
    let refused = test_support::raw::Refused::on("127.0.0.1:0");
    let url = format!("http://joe:secret@{}/?q=secret", refused.addr);
    let error = variant.send(client.get(&url)).await.unwrap_err();
    assert!(error.to_string().contains("q=secret"), "reqwest's error contains the URL");
    let json = serde_json::to_string(&variant.finished().http_requests[0].req_error.to_string()).unwrap();
    assert!(!json.contains("secret"), "{json}");
}

#[tokio::test]
async fn a_request_with_an_invalid_url_fails() {
    let variant = Variant::observed(unrelated_roots());
    let client = variant.builder().build().unwrap();
    let error = variant.send(client.get("http://[bad/")).await.unwrap_err();
    assert!(error.is_builder());
    assert!(variant.finished().http_requests.is_empty(), "there is no request without a valid URL");
    let error = variant.send(client.get("ftp://a.test/")).await.unwrap_err();
    assert!(error.is_builder());
    assert_eq!(variant.finished().http_requests[0].failure, Some(Failure::InvalidArgument));
}
