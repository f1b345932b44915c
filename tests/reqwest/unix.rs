//! Observed clients that reach their server through a Unix socket.

use std::path::Path;

use nettrace::reqwest::{RequestBuilderExt as _, TraceClient, trace};
use nettrace::{RequestHandle, ResponseExt as _, TraceSink};
use reqwest::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::clients::linked;
use test_support::check;

/// Answers every request, and closes the connection after a request for `/close`.
fn serve(path: &Path) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    })
}

async fn answer(mut stream: UnixStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let close = head.starts_with(b"GET /close");
        let connection = if close { "close" } else { "keep-alive" };
        let answer = format!("HTTP/1.1 200 OK\r\nconnection: {connection}\r\ncontent-length: 5\r\n\r\nhello");
        stream.write_all(answer.as_bytes()).await?;
        if close {
            return Ok(());
        }
        head.clear();
    }
}

async fn get(client: &TraceClient, url: &str) -> RequestHandle {
    let response = client.get(url).send_traced(client).await.unwrap();
    let handle = response.request_handle().unwrap().clone();
    assert_eq!(response.text().await.unwrap(), "hello");
    handle
}

#[tokio::test]
async fn requests_over_a_unix_socket_are_linked_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("some \u{e9} name.sock");
    let server = serve(&path);
    let sink = TraceSink::new();
    // The socket may be set before or after the observer is installed.
    for is_before in [true, false] {
        sink.clear();
        let builder = Client::builder();
        let client = if is_before {
            trace(builder.unix_socket(path.as_path()), &sink).unwrap()
        } else {
            trace(builder, &sink).unwrap().configure(|builder| builder.unix_socket(path.as_path()))
        };
        let client = client.build().unwrap();
        let first = get(&client, "http://docker.test/").await;
        let again = get(&client, "http://docker.test/").await;
        let other = get(&client, "http://docker.test:81/").await;
        let trace = sink.snapshot("");
        check::finished(&trace);
        assert_eq!(trace.tcp_conns.len(), 2);
        for handle in [&first, &again, &other] {
            let (record, conn) = linked(&trace, handle);
            let conn = conn.expect("a linked connection");
            assert_eq!(*conn.unix_path, path.to_str().unwrap());
            let dial = trace.dials.get(&conn.from_dial).unwrap();
            assert_eq!(dial.triggered_by == record.trace_id, handle.id() != again.id());
        }
        let conn = |handle: &RequestHandle| linked(&trace, handle).1.unwrap().trace_id.clone();
        assert_eq!(conn(&first), conn(&again));
        assert_ne!(conn(&first), conn(&other));
    }
    server.abort();
}

/// With two connections to the same origin, it is unknown which one carried the request.
#[tokio::test]
async fn a_request_is_not_linked_if_its_connection_is_ambiguous() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let server = serve(&path);
    let sink = TraceSink::new();
    let client = trace(Client::builder().unix_socket(path.as_path()), &sink).unwrap().build().unwrap();
    let first = get(&client, "http://a.test/close").await;
    let mut second = get(&client, "http://a.test/").await;
    while sink.snapshot("").tcp_conns.len() < 2 {
        second = get(&client, "http://a.test/close").await;
    }
    let trace = sink.snapshot("");
    assert!(linked(&trace, &first).1.is_some());
    assert!(linked(&trace, &second).1.is_none());
    assert!(trace.tcp_conns.iter().all(|conn| *conn.unix_path == path.to_str().unwrap()));
    server.abort();
}
