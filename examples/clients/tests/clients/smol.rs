use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _, future::block_on};
use nettrace::{Failure, TraceSink, record::SocketOpType};
use nettrace_clients::smol::connect;
use test_support::{
    check,
    raw::{Refused, Server},
};

/// There is no runtime of tokio on this thread.
#[test]
fn streams_of_another_runtime_are_recorded() {
    let server = Server::start(async |mut conn| {
        conn.read(4).await?;
        conn.write(b"pong").await?;
        conn.read_to_end().await?;
        conn.close().await
    });
    let sink = TraceSink::new();
    block_on(async {
        let mut stream = connect(&sink, &server.addr().to_string()).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"pong");
        stream.close().await.unwrap();
        assert_eq!(stream.read(&mut answer).await.unwrap(), 0, "the server has closed it, too");
    });

    let trace = sink.snapshot("");
    check::finished(&trace);
    let [seen] = &server.ended_blocking(1)[..] else { panic!("one connection") };
    let [conn] = trace.tcp_conns.iter().collect::<Vec<_>>()[..] else { panic!("one connection") };
    assert_eq!(conn.addr_tuple.src_port, seen.peer.port());
    assert_eq!(conn.addr_tuple.dst_port, seen.local.port());
    assert_eq!((conn.total_sent_bytes, conn.total_recv_bytes), (4, 4));
    let ops = &conn.socket_trace.as_ref().expect("operations").socket_ops;
    let kinds: Vec<_> = ops.iter().map(|op| (op.r#type, op.data_len)).collect();
    assert_eq!(kinds, [(SocketOpType::Write, 4), (SocketOpType::Read, 4), (SocketOpType::Read, 0)]);
    assert_eq!(trace.dials[0].established_conn, conn.trace_id);
}

#[test]
fn a_dial_that_fails_is_recorded() {
    let (sink, refused) = (TraceSink::new(), Refused::on("127.0.0.1:0"));
    let error = block_on(connect(&sink, &refused.addr.to_string())).expect_err("nobody listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let trace = sink.snapshot("");
    check::finished(&trace);
    assert_eq!(trace.dials[0].failure, Some(Failure::ConnectionRefused));
}
