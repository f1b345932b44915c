//! Extended CONNECT (RFC 8441): an HTTP/2 stream that carries another protocol.

use std::convert::Infallible;

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::ext::Protocol;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nettrace::record::EndReason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use crate::clients::{empty, exchange, variants};

/// Accepts every request, and echoes what is received over a stream of the protocol `echo`.
async fn answer(mut request: http::Request<Incoming>) -> Result<http::Response<Empty<Bytes>>, Infallible> {
    if request.extensions().get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "echo") {
        tokio::spawn(async move {
            let stream = TokioIo::new(hyper::upgrade::on(&mut request).await.expect("an upgrade"));
            let (mut reader, mut writer) = tokio::io::split(stream);
            tokio::io::copy(&mut reader, &mut writer).await.expect("an echo");
            writer.shutdown().await.expect("a shutdown");
        });
    }
    Ok(http::Response::default())
}

async fn serve(listener: TcpListener) {
    let talk = async |stream: TcpStream| {
        let mut server = http2::Builder::new(TokioExecutor::new());
        let connection =
            server.enable_connect_protocol().serve_connection(TokioIo::new(stream), service_fn(answer));
        // The client may end the connection in any way.
        drop(connection.await);
    };
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(talk(stream));
    }
}

#[tokio::test]
async fn an_upgraded_stream_carries_bytes_in_both_directions() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/chat", listener.local_addr().unwrap());
    let server = tokio::spawn(serve(listener));
    let sent = vec![b'x'; 100_000];
    for variant in variants(true) {
        // With the first response, the client has the server's settings, which announce extended CONNECT.
        let first = http::Request::get(&url).body(empty()).unwrap();
        assert_eq!(
            exchange(&variant.client, first).await.expect("a response").status,
            200,
            "{}",
            variant.name
        );

        let mut request = http::Request::connect(&url).version(http::Version::HTTP_2).body(empty()).unwrap();
        request.extensions_mut().insert(Protocol::from_static("echo"));
        let response = variant.client.clone().oneshot(request).await.expect("a response");
        assert_eq!(response.status(), 200, "{}", variant.name);
        let stream = TokioIo::new(hyper::upgrade::on(response).await.expect("an upgrade"));
        let (mut reader, mut writer) = tokio::io::split(stream);
        let send = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (_, received) = tokio::join!(send, async {
            reader.read_to_end(&mut received).await.unwrap();
            received
        });
        assert!(received == sent, "{}: {} bytes", variant.name, received.len());

        if variant.is_traced() {
            let trace = variant.sink.snapshot("");
            let [_, record] = &trace.http_requests[..] else {
                panic!("expected two requests: {}", variant.name)
            };
            assert_eq!(
                (record.req_method.as_str(), record.resp_status_code),
                ("CONNECT", 200),
                "{}",
                variant.name
            );
            assert_eq!(record.end_reason, Some(EndReason::Closed), "{}", variant.name);
            let conn = trace.tcp_conns.get(&record.tcp_conn).expect("a linked connection");
            assert!(conn.total_sent_bytes > 100_000 && conn.total_recv_bytes > 100_000, "{}", variant.name);
        }
    }
    server.abort();
}
