//! Connections that are upgraded to another protocol.

use hyper_util::rt::TokioIo;
use nettrace::record::EndReason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::ServiceExt as _;

use crate::clients::{AnyClient, Payload, empty, request, same};
use test_support::raw::Server;

/// Starts a server that answers with this head, and with the first bytes of the new protocol in the same segment. It
/// then echoes what it receives, until `bye`.
fn server(head: &'static str) -> Server {
    Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(format!("{head}hello").as_bytes()).await?;
        loop {
            let bytes = conn.read(3).await?;
            conn.write(&bytes).await?;
            if bytes == b"bye" {
                return conn.close().await;
            }
        }
    })
}

async fn talk(client: &AnyClient, request: http::Request<Payload>) -> (u16, Vec<u8>) {
    let response = client.clone().oneshot(request).await.expect("a response");
    let status = response.status().as_u16();
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.expect("an upgrade"));
    let mut received = vec![0; 5];
    stream.read_exact(&mut received).await.unwrap();
    for word in ["one", "two", "bye"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut echo = [0; 3];
        stream.read_exact(&mut echo).await.unwrap();
        received.extend(echo);
    }
    assert_eq!(stream.read_to_end(&mut received).await.unwrap(), 0);
    (status, received)
}

async fn check_upgrade(server: &Server, make: impl Fn() -> http::Request<Payload>, status: u16) {
    let (variants, outcome, seen) = same(server, async |client: &AnyClient| talk(client, make()).await).await;
    assert_eq!(outcome, (status, b"helloonetwobye".to_vec()));
    assert!(seen[0].received.ends_with(b"\r\n\r\nonetwobye"));
    for variant in variants.iter().filter(|variant| variant.is_traced()) {
        let trace = variant.sink.snapshot("");
        let [record] = &trace.http_requests[..] else { panic!("expected one request") };
        assert_eq!((record.resp_status_code, &record.end_reason), (status, &Some(EndReason::Closed)));
        let conn = trace.tcp_conns.get(&record.tcp_conn).expect("a linked connection");
        assert_eq!(conn.total_recv_bytes, seen[0].sent as u64, "{}", variant.name);
        assert_eq!(conn.total_sent_bytes, seen[0].received.len() as u64, "{}", variant.name);
        assert_eq!(conn.end_reason, Some(EndReason::PeerClosed), "{}", variant.name);
    }
}

#[tokio::test]
async fn an_upgraded_connection_carries_the_same_bytes() {
    let server = server("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    let make = || {
        let request = request("GET", &server, "/").header("connection", "upgrade").header("upgrade", "echo");
        request.body(empty()).unwrap()
    };
    check_upgrade(&server, make, 101).await;
}

#[tokio::test]
async fn a_connect_tunnel_carries_the_same_bytes() {
    let server = server("HTTP/1.1 200 Connection established\r\n\r\n");
    let make = || http::Request::connect(server.addr().to_string()).body(empty()).unwrap();
    check_upgrade(&server, make, 200).await;
}
