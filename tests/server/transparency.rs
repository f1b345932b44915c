//! A traced server behaves as an untraced one.

use std::{error::Error, io::IoSlice, pin::pin};

use http_body::Body;
use hyper::{body::Incoming, server::conn::http1, service::HttpService, service::service_fn};
use hyper_util::rt::TokioIo;
use nettrace::{
    TraceSink,
    record::{EndReason, SocketOpType},
    server::{TraceListener, TraceServerLayer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tower::Layer as _;

use crate::servers::{Gate, TestServer, answer, ask, conn_of, get, settled};

#[tokio::test]
async fn an_upgraded_connection_carries_the_same_bytes() {
    for (kind, site) in TestServer::each().await {
        let mut stream = TcpStream::connect(site.addr).await.unwrap();
        let request = "GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{kind}");
        for word in [&b"one"[..], b"three"] {
            stream.write_all(word).await.unwrap();
            let mut echo = vec![0; word.len()];
            stream.read_exact(&mut echo).await.unwrap();
            assert_eq!(echo, word, "{kind}");
        }
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read_to_end(&mut vec![]).await.unwrap(), 0, "{kind}");
        if !site.sink.is_enabled() {
            continue;
        }
        let trace = site.finished().await;
        let [record] = &trace.http_requests[..] else { panic!("expected one request") };
        assert_eq!((record.resp_status_code, &record.end_reason), (101, &Some(EndReason::Closed)));
        let conn = conn_of(&trace, record);
        assert_eq!(conn.total_recv_bytes, request.len() as u64 + 8);
        assert_eq!(conn.total_sent_bytes, head.len() as u64 + 8);
        assert_eq!(conn.end_reason, Some(EndReason::PeerClosed));
    }
}

#[tokio::test]
async fn responses_are_the_same_bytes() {
    let mut seen = Vec::new();
    for (kind, site) in TestServer::each().await {
        let mut answers = Vec::new();
        for path in
            ["/hello", "/stream", "/sized", "/trailers", "/empty", "/missing", "/error", "/error-in-body"]
        {
            for method in ["GET", "HEAD"] {
                let asked = get(path).replace("GET", method).replace("\r\n\r\n", "\r\nte: trailers\r\n\r\n");
                let answer = ask(site.addr, &asked).await;
                let without_date = answer.lines().filter(|line| !line.starts_with("date: "));
                answers.push(without_date.map(str::to_owned).collect::<Vec<_>>());
            }
        }
        seen.push((kind, answers));
    }
    let [(_, untraced), others @ ..] = &seen[..] else { unreachable!() };
    others.iter().for_each(|(kind, answers)| assert_eq!(answers, untraced, "{kind}"));
    assert!(untraced[2].iter().any(|line| line == "transfer-encoding: chunked"), "{untraced:?}");
    assert!(untraced[6].iter().any(|line| line == "x-last: yes"), "{untraced:?}");
}

/// Serves a connection until `stop` is sent, and then shuts it down gracefully.
async fn serve<IO, S>(io: IO, service: S, stop: oneshot::Receiver<()>) -> hyper::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::ResBody: 'static,
    <S::ResBody as Body>::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut conn = pin!(http1::Builder::new().serve_connection(TokioIo::new(io), service));
    tokio::select! {
        ended = &mut conn => panic!("the connection ended by itself: {ended:?}"),
        _ = stop => {}
    }
    conn.as_mut().graceful_shutdown();
    conn.await
}

#[tokio::test]
async fn a_hyper_server_shuts_down_gracefully() {
    let sink = TraceSink::new();
    for sink in [None, Some(TraceSink::disabled()), Some(sink.clone())] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (gate, (stop, stopped)) = (Gate::new(), oneshot::channel());
        let (server_sink, server_gate) = (sink.clone(), gate.clone());
        let server = tokio::spawn(async move {
            let Some(sink) = server_sink else {
                let (io, _) = listener.accept().await.unwrap();
                return serve(io, service_fn(move |request| answer(request, server_gate.clone())), stopped)
                    .await;
            };
            let (io, _) = TraceListener::new(&sink, listener).accept().await.unwrap();
            let service = service_fn(move |request| answer(request, server_gate.clone()));
            let service = TraceServerLayer::new(&sink).conn(io.conn_ref()).layer(service);
            serve(io, service, stopped).await
        });

        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        gate.holds_one().await;
        stop.send(()).unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        gate.release_one();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("connection: close\r\n") && answer.ends_with("held"), "{answer}");
        server.await.unwrap().unwrap();
    }
    let trace = settled(&sink, |trace| !trace.tcp_conns.is_empty()).await;
    let [request] = &trace.http_requests[..] else { panic!("expected one request") };
    assert_eq!(request.end_reason, Some(EndReason::Closed));
    assert_eq!(
        conn_of(&trace, request).end_reason,
        Some(EndReason::Closed),
        "the server closed the connection"
    );
}

#[tokio::test]
async fn a_vectored_write_is_one_operation() {
    let parts = [&b"hello"[..], b", ", b"world"].map(IoSlice::new);
    for sink in [TraceSink::new(), TraceSink::disabled()] {
        let listener = TraceListener::new(&sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.is_write_vectored());
        assert_eq!(stream.write_vectored(&parts).await.unwrap(), 12);
        drop(stream);
        let mut received = String::new();
        client.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "hello, world");
        for conn in &sink.snapshot("").tcp_conns {
            let ops: Vec<_> = conn.socket_trace.iter().flat_map(|ops| ops.socket_ops.iter()).collect();
            let [op] = &ops[..] else { panic!("expected one write") };
            assert_eq!((&op.r#type, op.data_len), (&SocketOpType::Write, 12));
        }
    }
}
