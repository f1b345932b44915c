//! Pooling by hyper-util's client: connections are made, reused and closed as without tracing.

use http_body_util::BodyExt as _;
use tower::{Service as _, ServiceExt as _};

use crate::clients::{AnyClient, Payload, empty, exchange, request, same, stream, variants};
use test_support::raw::{End, Server};
use test_support::wait;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn get(server: &Server) -> http::Request<Payload> {
    request("GET", server, "/").body(empty()).unwrap()
}

async fn status(client: &AnyClient, server: &Server) -> u16 {
    exchange(client, get(server)).await.expect("a response").status.as_u16()
}

/// Starts a server that answers all requests on connection `i` with `answers[i % answers.len()]`.
fn answering(answers: &'static [&'static str]) -> Server {
    Server::start(async move |mut conn| {
        loop {
            conn.read_head().await?;
            conn.write(answers[conn.index % answers.len()].as_bytes()).await?;
        }
    })
}

#[tokio::test]
async fn a_connection_is_reused() {
    let server = answering(&[OK]);
    let thrice = async |client: &AnyClient| {
        for _ in 0..3 {
            assert_eq!(status(client, &server).await, 200);
        }
    };
    assert_eq!(same(&server, thrice).await.2.len(), 1);
}

#[tokio::test]
async fn dropping_an_unfinished_response_closes_its_connection() {
    let server = answering(&["HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", OK]);
    let scenario = async |client: &AnyClient| {
        let accepted = server.seen().len();
        let mut body = client.clone().oneshot(get(&server)).await.expect("a response").into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        drop(body);
        server.ended(accepted + 1).await;
        status(client, &server).await
    };
    let (_, status, seen) = same(&server, scenario).await;
    assert_eq!((status, seen.len()), (200, 2));
}

#[tokio::test]
async fn dropping_a_pending_request_closes_its_connection() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.read_to_end().await
    });
    let scenario = async |client: &AnyClient| {
        let accepted = server.seen().len();
        let mut response = Box::pin(client.clone().oneshot(get(&server)));
        tokio::select! {
            biased;
            _ = &mut response => panic!("the server does not answer"),
            _ = async {
                let is_received = || server.seen().get(accepted).is_some_and(|seen| !seen.received.is_empty());
                wait::until("the request", is_received).await;
            } => {}
        }
        drop(response);
        server.ended(accepted + 1).await;
    };
    let (_, (), seen) = same(&server, scenario).await;
    assert_eq!((seen.len(), &seen[0].end), (1, &End::Done));
}

#[tokio::test]
async fn a_connection_with_connection_close_is_not_reused() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await?;
        conn.close().await
    });
    let thrice = async |client: &AnyClient| {
        for _ in 0..3 {
            assert_eq!(status(client, &server).await, 200);
        }
    };
    assert_eq!(same(&server, thrice).await.2.len(), 3);
}

#[tokio::test]
async fn an_idle_connection_closed_by_the_server_is_replaced() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(OK.as_bytes()).await?;
        conn.close().await
    });
    assert_ended_after_a_response(&server).await;
}

#[tokio::test]
async fn unsolicited_bytes_end_an_idle_connection() {
    let server = answering(&["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more", OK]);
    assert_ended_after_a_response(&server).await;
}

/// Asserts that the connection ends after the first response, and that the next request uses another one.
async fn assert_ended_after_a_response(server: &Server) {
    let scenario = async |client: &AnyClient| {
        let accepted = server.seen().len();
        let first = status(client, server).await;
        server.ended(accepted + 1).await;
        // The connection has ended. The client's task notices once the runtime has polled for I/O.
        for _ in 0..256 {
            tokio::task::yield_now().await;
        }
        (first, status(client, server).await)
    };
    let (_, statuses, seen) = same(server, scenario).await;
    assert_eq!((statuses, seen.len()), ((200, 200), 2));
}

/// The response arrives before the request is sent completely. The connection is kept nevertheless.
#[tokio::test]
async fn a_connection_is_reused_after_an_early_response() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(OK.as_bytes()).await?;
        conn.read(b"2\r\nda\r\n2\r\nta\r\n0\r\n\r\n".len()).await?;
        conn.read_head().await?;
        conn.write(OK.as_bytes()).await
    });
    let scenario = async |client: &AnyClient| {
        let upload = request("POST", &server, "/").body(stream(&["da", "ta"], None)).unwrap();
        let first = exchange(client, upload).await.expect("a response");
        (first.status.as_u16(), status(client, &server).await)
    };
    let (_, statuses, seen) = same(&server, scenario).await;
    assert_eq!((statuses, seen.len()), ((200, 200), 1));
}

#[tokio::test]
async fn a_request_that_is_never_polled_does_not_dial() {
    let server = answering(&[OK]);
    for mut variant in variants(false) {
        let accepted = server.seen().len();
        let client = variant.client.ready().await.unwrap();
        drop(client.call(get(&server)));
        assert_eq!(status(client, &server).await, 200);
        assert_eq!(server.accepted(accepted + 1).await.len(), accepted + 1, "{}", variant.name);
    }
}
