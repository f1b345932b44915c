use crate::fixture::finished;
use nettrace::TraceSink;
use nettrace_clients::redis::connect;
use redis::{RedisConnectionInfo, cmd};
use test_support::raw::{Refused, Server};

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const PONG: &[u8] = b"+PONG\r\n";

#[tokio::test]
async fn connections_are_recorded() {
    let server = Server::start(async |mut conn| {
        while conn.read(PING.len()).await.is_ok() {
            conn.write(PONG).await?;
        }
        conn.close().await
    });
    let sink = TraceSink::new();
    let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    let mut connection = connect(&sink, &server.addr().to_string(), &settings).await.unwrap();
    for _ in 0..2 {
        assert_eq!(cmd("PING").query_async::<String>(&mut connection).await.unwrap(), "PONG");
    }

    drop(connection);
    let trace = finished(&sink).await;
    let [seen] = &server.ended(1).await[..] else { panic!("one connection") };
    let [conn] = trace.tcp_conns.iter().collect::<Vec<_>>()[..] else { panic!("one connection") };
    assert_eq!(conn.addr_tuple.src_port, seen.peer.port());
    assert_eq!(conn.total_sent_bytes, seen.received.len() as u64);
    assert_eq!(conn.total_recv_bytes, seen.sent as u64);
    assert_eq!(conn.total_recv_bytes, 2 * PONG.len() as u64);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_in_the_trace() {
    let (sink, refused) = (TraceSink::new(), Refused::on("127.0.0.1:0"));
    let settings = RedisConnectionInfo::default();
    let error = connect(&sink, &refused.addr.to_string(), &settings).await.expect_err("nobody listens");
    assert!(error.is_io_error(), "{error:?}");
    let trace = finished(&sink).await;
    assert_eq!(trace.dials[0].failure, Some(nettrace::Failure::ConnectionRefused));
}
