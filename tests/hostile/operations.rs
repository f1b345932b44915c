//! Connections with thousands of operations of one byte each.

use hyper_util::rt::TokioIo;
use nettrace::TraceSink;
use tokio::io::AsyncWriteExt as _;

use crate::{assert_bounded, mock};

#[test]
fn connections_with_many_operations_are_bounded() {
    assert_bounded(
        TraceSink::new(),
        async |sink| {
            for _ in 0..1_700 {
                let (conn, there) = mock::connect(sink).await;
                drop(there);
                let mut conn = TokioIo::new(conn);
                for _ in 0..4_096 {
                    conn.write(b"x").await.expect_err("the peer is gone");
                }
            }
        },
        |trace| {
            let dropped = trace.dropped.as_ref().unwrap();
            assert_eq!(trace.tcp_conns.len() as u64 + dropped.tcp_conns, 1_700);
            assert_eq!(trace.tcp_conns.len() as u64, 1_700 - dropped.dials);
            for conn in &trace.tcp_conns {
                let ops = conn.socket_trace.as_ref().unwrap();
                assert_eq!(
                    ops.socket_ops.len() as u64 + ops.dropped_ops,
                    4_096,
                    "each operation is kept or counted"
                );
            }
        },
    );
}

#[test]
fn ordinary_traffic_is_not_dropped() {
    assert_bounded(
        TraceSink::new(),
        async |sink| {
            for _ in 0..10_000 {
                let (conn, _there) = mock::connect(sink).await;
                mock::fail_to_connect(sink).await;
                mock::fetch(sink, conn.conn_ref()).await;
            }
        },
        |trace| {
            assert_eq!(
                (trace.http_requests.len(), trace.tcp_conns.len(), trace.dials.len()),
                (10_000, 10_000, 20_000)
            );
            assert_eq!(trace.dropped, None);
        },
    );
}
