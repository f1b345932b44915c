//! Records of accepted connections.

use nettrace::{TraceSink, record::EndReason, server::TraceListener, view};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

use test_support::check;

async fn listener(sink: &TraceSink) -> TraceListener<TcpListener> {
    TraceListener::new(sink, TcpListener::bind("127.0.0.1:0").await.unwrap())
}

#[tokio::test]
async fn a_connection_is_recorded_from_accept_to_close() {
    let sink = TraceSink::new();
    let listener = listener(&sink).await;
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut stream, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    client.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut [0; 5]).await.unwrap();
    stream.write_all(b"hi").await.unwrap();
    client.read_exact(&mut [0; 2]).await.unwrap();
    check::running(&sink.snapshot("open"));
    let conn = sink.snapshot("").tcp_conns[0].clone();
    assert!(conn.accepted && conn.connected && conn.end_reason.is_none());
    assert_eq!(conn.trace_id, stream.conn_id());

    drop(client);
    assert_eq!(stream.read(&mut [0; 5]).await.unwrap(), 0);
    drop(stream);
    let trace = sink.snapshot("closed");
    check::finished(&trace);
    let [conn] = &trace.tcp_conns[..] else { panic!("expected one connection") };
    assert_eq!((conn.total_sent_bytes, conn.total_recv_bytes), (2, 5));
    assert_eq!(conn.end_reason, Some(EndReason::PeerClosed));
    assert_eq!(conn.addr_tuple.src_port, listener.local_addr().unwrap().port());
    assert_eq!(conn.addr_tuple.dst_port, peer.port());
    assert_eq!(conn.handshake_begin_at, conn.handshake_end_at);
    assert!(conn.from_dial.is_undefined() && trace.dials.is_empty());
    assert_eq!(conn.socket_trace.as_ref().unwrap().socket_ops.len(), 3);
    assert!(view::waterfall(&trace).to_string().contains(&format!(
        "accepted {peer}\n  {} {} ← {peer} · 2 B sent, 5 B received",
        conn.trace_id,
        listener.local_addr().unwrap(),
    )));
}

#[tokio::test]
async fn connections_over_unix_sockets_are_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let sink = TraceSink::new();
    let listener = TraceListener::new(&sink, UnixListener::bind(&path).unwrap());
    let mut client = UnixStream::connect(&path).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    client.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut [0; 5]).await.unwrap();
    drop((client, stream));
    let trace = sink.snapshot("");
    check::finished(&trace);
    let [conn] = &trace.tcp_conns[..] else { panic!("expected one connection") };
    assert!(conn.accepted);
    assert_eq!((conn.unix_path.as_str(), conn.total_recv_bytes), (path.to_str().unwrap(), 5));
}

#[tokio::test]
async fn connections_are_accepted_with_a_disabled_or_closed_sink() {
    let closed = TraceSink::new();
    closed.close();
    for sink in [TraceSink::disabled(), closed] {
        let listener = listener(&sink).await;
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.conn_ref().is_none());
        client.write_all(b"hello").await.unwrap();
        stream.read_exact(&mut [0; 5]).await.unwrap();
        assert!(sink.snapshot("").tcp_conns.is_empty());
    }
}

#[tokio::test]
async fn an_open_connection_survives_clear_and_ends_with_close() {
    let sink = TraceSink::new();
    let listener = listener(&sink).await;
    let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    sink.clear();
    let conn = sink.snapshot("").tcp_conns[0].clone();
    assert!(conn.reused && conn.accepted);
    sink.close();
    drop(stream);
    let trace = sink.snapshot("");
    check::finished(&trace);
    assert_eq!(trace.tcp_conns[0].end_reason, Some(EndReason::SinkClosed));
}

#[tokio::test]
async fn dropping_an_accept_loses_no_connection() {
    let sink = TraceSink::new();
    let listener = listener(&sink).await;
    for _ in 0..3 {
        tokio::select! {
            biased;
            _ = listener.accept() => panic!("no client has connected"),
            () = tokio::task::yield_now() => {}
        }
    }
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (_stream, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    assert_eq!(sink.snapshot("").tcp_conns.len(), 1);
}

#[cfg(all(feature = "tcp-info", target_os = "linux"))]
#[tokio::test]
async fn probes_see_accepted_sockets() {
    let sink = TraceSink::builder().probe(nettrace::linux::TcpInfoProbe::new()).build();
    let listener = listener(&sink).await;
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    client.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut [0; 5]).await.unwrap();
    drop(stream);
    let trace = sink.snapshot("");
    check::finished(&trace);
    let events: Vec<_> = trace.tcp_conns[0].tcp_info.iter().map(|info| format!("{:?}", info.event)).collect();
    assert_eq!(events, ["Connected", "Closing"]);
}
