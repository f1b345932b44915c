//! When the first byte of a response came.

use std::sync::Arc;

use nettrace::{record::SocketOpType, tls::Roots};
use test_support::{pki::Authority, raw::Server, wait};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::{client, read};

/// After a handshake of TLS 1.3 the server sends session tickets, which the client reads while it waits for the response.
#[tokio::test]
async fn session_tickets_are_no_part_of_a_response() {
    let (authority, answer) = (Authority::new("nettrace test CA"), Arc::new(Notify::new()));
    let acceptor = TlsAcceptor::from(Arc::new(authority.issue(&["127.0.0.1"]).server()));
    let answered = answer.clone();
    let server = Server::start(async move |conn| {
        let mut conn = conn.upgrade(|stream| acceptor.accept(stream)).await?;
        conn.read_head().await?;
        answered.notified().await;
        conn.write(b"HTTP/1.1 200 OK\r\nx-peer: 1\r\ncontent-length: 5\r\n\r\nhello").await?;
        conn.read_to_end().await
    });
    let roots = Roots::from_pem(authority.pem()).unwrap();
    let (client, sink) = client(|builder| builder.roots(roots));
    let (response, before) = tokio::join!(client.get(format!("https://{}/", server.addr())), async {
        let tickets_are_read = || {
            let trace = sink.snapshot("");
            let request = trace.http_requests.first()?;
            let conn = trace.tcp_conns.get(&request.tcp_conn)?;
            let handshake_end = trace.tls_tunnels.get(&request.tls_tunnel)?.handshake_end_at;
            let mut operations = conn.socket_trace.as_ref()?.socket_ops.iter();
            let is_read =
                operations.any(|op| op.r#type == SocketOpType::Read && op.return_at > handshake_end);
            is_read.then_some(trace.trace_end_at)
        };
        let before = wait::until_some("the session tickets are read", tickets_are_read).await;
        answer.notify_one();
        before
    });
    read(response).await;
    client.close().await;
    let trace = sink.snapshot("");
    let request = &trace.http_requests[0];
    assert!(request.first_byte_at > before, "{:?}, after {before:?}", request.first_byte_at);
    assert!(request.first_byte_at <= request.resp_recv_at);
}
