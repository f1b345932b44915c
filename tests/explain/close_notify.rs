//! TLS connections that end without close_notify.

use crate::{assert_nothing, client, only_verdict, quoted, root, trace_of};
use nettrace::{HeaderCapture, NetTrace, TraceSink, explain::Severity, tls::Roots};
use std::sync::Arc;
use test_support::{pki::Authority, raw::Server};
use tokio_rustls::TlsAcceptor;

/// Requests a page of a server that sends these bytes, and closes the connection with close_notify or without it.
async fn answered(response: &'static [u8], orderly: bool, headers: HeaderCapture) -> NetTrace {
    let (sink, authority) =
        (TraceSink::builder().headers(headers).build(), Authority::new("nettrace test CA"));
    let acceptor = TlsAcceptor::from(Arc::new(authority.issue(&["127.0.0.1"]).server()));
    let server = Server::start(async move |conn| {
        let mut conn = conn.upgrade(|stream| acceptor.accept(stream)).await?;
        conn.read_head().await?;
        conn.write(response).await?;
        if orderly { conn.close().await } else { Ok(()) }
    });
    let client = client(&sink).roots(Roots::from_pem(authority.pem()).unwrap()).build().unwrap();
    trace_of(&sink, &client, &format!("https://{}/", server.addr())).await
}

const UNTIL_CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\nserver: test\r\n\r\nhello";
const CUT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";

#[tokio::test]
async fn a_response_that_only_close_notify_would_have_ended() {
    for headers in [HeaderCapture::Values, HeaderCapture::Names] {
        let trace = answered(UNTIL_CLOSE, false, headers).await;
        let root = root(&trace, "tls_truncated");
        assert_eq!((root.severity, root.about.as_str()), (Severity::Failure, "127.0.0.1"));
        assert!(quoted(&root, "reqError").contains("close_notify"), "{root}");
        assert_eq!((quoted(&root, "RespContentLen"), quoted(&root, "endReason")), ("5", "peer-closed"));
        assert_eq!(only_verdict(&trace).findings.len(), 1);
    }
}

/// It is known to be cut off, whatever the end of the connection was.
#[tokio::test]
async fn a_response_that_says_where_it_ends() {
    for response in [CUT, CHUNKED] {
        for orderly in [true, false] {
            let root = root(&answered(response, orderly, HeaderCapture::Values).await, "http_truncated");
            assert!(root.sentence.contains("after 5 "), "{}", root.sentence);
        }
    }
}

/// Without the header it is not known whether a length was declared.
#[tokio::test]
async fn a_response_whose_header_is_not_recorded() {
    for response in [CUT, UNTIL_CLOSE] {
        let root = root(&answered(response, false, HeaderCapture::Off).await, "http_truncated");
        assert!(quoted(&root, "reqError").contains("close_notify"), "{root}");
        assert_eq!(root.not_seen.len(), 1);
    }
}

#[tokio::test]
async fn an_orderly_end_and_a_complete_response_are_healthy() {
    assert_nothing(&answered(UNTIL_CLOSE, true, HeaderCapture::Values).await);
    let complete = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    assert_nothing(&answered(complete, false, HeaderCapture::Values).await);
}
