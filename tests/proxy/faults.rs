//! Proxies that refuse, break off or violate their protocol.

use crate::{client, finished, get, proxy, story};
use nettrace::{
    Failure,
    record::{EndReason, HttpReqTrace, SocksTrace},
};
use std::io;
use test_support::{check, raw::Server};

/// Requests an `https` URL through a proxy that opens no tunnel, asserts the failure, and returns the CONNECT.
async fn failed_connect(server: &Server, failure: Failure, text: &str) -> HttpReqTrace {
    let (client, sink) = client(proxy(&format!("http://{}", server.addr())), |builder| builder);
    let error = get(&client, "https://web.test/").await.unwrap_err();
    assert_eq!(error.failure(), failure, "{error}");
    assert!(error.to_string().contains(text), "{error}");
    check::running(&error.request().trace());
    let trace = finished(&client, &sink).await;
    let story = story(&trace);
    let connect = story.connect();
    assert_eq!(connect.failure, Some(failure));
    assert_eq!(connect.end_reason, Some(EndReason::Failed));
    assert_eq!(connect.req_error, story.request.req_error);
    assert_eq!((&connect.tcp_conn, trace.tcp_conns.len()), (&trace.tcp_conns[0].trace_id, 1));
    connect.clone()
}

/// Starts a server that answers the head of a request with these bytes and closes the connection.
fn answering(answer: &'static [u8]) -> Server {
    Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(answer).await?;
        conn.close().await
    })
}

#[tokio::test]
async fn a_missing_or_truncated_response_fails_the_connect() {
    let server = answering(b"");
    let connect =
        failed_connect(&server, Failure::EofError, "connection closed before message completed").await;
    assert_eq!(connect.resp_status_code, 0);
    let server = answering(b"HTTP/1.1 200 Connection est");
    failed_connect(&server, Failure::EofError, "connection closed before message completed").await;
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.reset()
    });
    failed_connect(&server, Failure::ConnectionReset, "reset").await;
}

#[tokio::test]
async fn a_response_that_is_not_http_fails_the_connect() {
    for answer in
        [&b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..], b"\x05\xff\0\0garbage\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n"]
    {
        failed_connect(&answering(answer), Failure::HttpProtocolError, "invalid HTTP").await;
    }
}

#[tokio::test]
async fn an_endless_response_head_fails_the_connect() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\n").await?;
        let field = [&b"x-long: "[..], &[b'x'; 4096], b"\r\n"].concat();
        loop {
            conn.write(&field).await?;
        }
    });
    failed_connect(&server, Failure::HttpProtocolError, "message head is too large").await;
    let sent = server.ended(1).await[0].sent;
    assert!(sent < 8 << 20, "{sent} bytes were read");
}

#[tokio::test]
async fn a_long_reason_phrase_is_truncated() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(&[b"HTTP/1.1 403 ", &[b'x'; 32 << 10][..], b"\r\n\r\n"].concat()).await?;
        conn.close().await
    });
    let connect = failed_connect(&server, Failure::ProxyRefused, "403 xxx").await;
    assert!(connect.req_error.len() < 2000, "{} bytes", connect.req_error.len());
}

/// The request fails on the head of the response, although the content never completes.
#[tokio::test]
async fn the_content_of_a_refusal_is_not_awaited() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 502 Upstream on fire\r\ncontent-length: 1000\r\nx-why: fire\r\n\r\nsome")
            .await?;
        conn.hang().await
    });
    let connect = failed_connect(&server, Failure::ProxyRefused, "502 Upstream on fire").await;
    assert_eq!(connect.resp_status_code, 502);
    assert_eq!(connect.resp_header.get("x-why").unwrap().field_val, "fire");
}

/// The proxy opens the tunnel and then closes the connection.
#[tokio::test]
async fn a_tunnel_that_closes_at_once_fails_the_tls_handshake() {
    let server = answering(b"HTTP/1.1 200 OK\r\n\r\n");
    let (client, sink) = client(proxy(&format!("http://{}", server.addr())), |builder| builder);
    let error = get(&client, "https://web.test/").await.unwrap_err();
    assert_eq!(error.failure(), Failure::EofError);
    let trace = finished(&client, &sink).await;
    let story = story(&trace);
    assert_eq!(story.connect().end_reason, Some(EndReason::Closed));
    assert_eq!(story.tunnel.unwrap().failure, Some(Failure::EofError));
}

/// Requests a URL through a SOCKS proxy, asserts that the handshake fails, and returns its record.
async fn failed_socks(server: &Server, failure: Failure, text: &str) -> SocksTrace {
    let (client, sink) = client(proxy(&format!("socks5h://joe:secret@{}", server.addr())), |builder| builder);
    let error = get(&client, "https://web.test/").await.unwrap_err();
    assert_eq!(error.failure(), failure, "{error}");
    assert!(error.to_string().contains(text), "{error}");
    check::running(&error.request().trace());
    let trace = finished(&client, &sink).await;
    let story = story(&trace);
    let socks = story.conn().socks.as_deref().unwrap();
    assert_eq!((&socks.failure, &socks.end_reason), (&Some(failure), &Some(EndReason::Failed)));
    assert_eq!((socks.target.as_str(), &*socks.handshake_err), ("web.test:443", &*story.request.req_error));
    socks.clone()
}

/// Starts a SOCKS proxy that answers each message with the next of `answers` and then closes the connection.
fn socks(answers: &'static [&'static [u8]]) -> Server {
    Server::start(async move |mut conn| {
        /// The lengths of the greeting, of user name and password (RFC 1929), and of the request.
        const LENGTHS: [usize; 3] = [4, 12, 15];
        for (answer, length) in answers.iter().zip(LENGTHS) {
            conn.read(length).await?;
            conn.write(answer).await?;
        }
        conn.close().await
    })
}

#[tokio::test]
async fn each_failure_of_the_socks_handshake_is_named() {
    failed_socks(&socks(&[b""]), Failure::EofError, "the proxy closed the connection in the handshake").await;
    failed_socks(&socks(&[b"\x05"]), Failure::EofError, "the proxy closed the connection in the handshake")
        .await;
    failed_socks(
        &socks(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]),
        Failure::SocksProtocolError,
        "not the version 5",
    )
    .await;
    failed_socks(&socks(&[b"\x05\x01"]), Failure::SocksProtocolError, "not offered").await;
    failed_socks(&socks(&[b"\x05\xff"]), Failure::ProxyAuthenticationRequired, "takes no user name").await;
    failed_socks(&socks(&[b"\x05\x02", b"\x01\x07"]), Failure::ProxyAuthenticationRequired, "rejects").await;
    failed_socks(
        &socks(&[b"\x05\x02", b"\x01\0", b"\x05\0\0\x09\0\0\0\0\0\0"]),
        Failure::SocksProtocolError,
        "no known type",
    )
    .await;
    let cut_off = socks(&[b"\x05\x02", b"\x01\0", b"\x05\0\0\x03\x40name"]);
    failed_socks(&cut_off, Failure::EofError, "the proxy closed the connection in the handshake").await;
    let server = Server::start(async |conn| -> io::Result<()> { conn.reset() });
    let (client, sink) = client(proxy(&format!("socks5h://{}", server.addr())), |builder| builder);
    let error = get(&client, "http://web.test/").await.unwrap_err();
    assert!(matches!(error.failure(), Failure::ConnectionReset | Failure::ConnectionRefused), "{error}");
    finished(&client, &sink).await;
}

#[tokio::test]
async fn each_refusing_socks_reply_is_named() {
    const REPLIES: [(&[u8], &str); 4] = [
        (b"\x05\x01\0\x01\0\0\0\0\0\0", "general SOCKS server failure (1)"),
        (b"\x05\x02\0\x01\0\0\0\0\0\0", "connection not allowed by ruleset (2)"),
        (b"\x05\x04\0\x01\0\0\0\0\0\0", "host unreachable (4)"),
        (b"\x05\xee\0\x01\0\0\0\0\0\0", "a reply that SOCKS5 does not have (238)"),
    ];
    for (reply, text) in REPLIES {
        let server = Server::start(async move |mut conn| {
            conn.read(4).await?;
            conn.write(b"\x05\0").await?;
            let request = conn.read(15).await?;
            assert_eq!(request, b"\x05\x01\0\x03\x08web.test\x01\xbb");
            conn.write(reply).await?;
            conn.close().await
        });
        failed_socks(&server, Failure::ProxyRefused, text).await;
    }
}
