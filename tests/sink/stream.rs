//! `TraceSink::write_json`: writes what a snapshot has.

use std::io;

use nettrace::{NetTrace, RequestHandle, TraceSink};

use crate::{mock, status};
use test_support::check;

fn written(sink: &TraceSink) -> NetTrace {
    let mut json = Vec::new();
    sink.write_json("streamed", &mut json).unwrap();
    serde_json::from_slice(&json).unwrap()
}

/// Returns a trace with the times that JSON keeps, and its records in the order of their identifiers.
fn normalized(trace: &NetTrace) -> NetTrace {
    let mut trace: NetTrace = serde_json::from_str(&serde_json::to_string(trace).unwrap()).unwrap();
    trace.trace_end_at = Default::default();
    macro_rules! sort {
        ($($list:ident)+) => {$({
            let mut records = std::mem::take(&mut trace.$list).into_vec();
            records.sort_by_key(|record| record.trace_id.to_string());
            trace.$list = records.into();
        })+};
    }
    sort!(http_requests dials tcp_conns udp_conns dns_queries tls_tunnels);
    trace
}

#[tokio::test]
async fn the_json_has_what_a_snapshot_has() {
    let sink = TraceSink::builder().session("s-1").build();
    assert_eq!(written(&sink).http_requests.len(), 0);
    let handle = RequestHandle::new();
    let (conn, _there) = mock::connect(&sink).await;
    for _ in 0..50 {
        mock::finish(mock::begin(&sink, conn.conn_ref(), Some(&handle)).await).await;
        status::fetch_status(&sink, 503).await;
        mock::fail_to_connect(&sink).await;
    }
    let open = mock::begin(&sink, None, None).await;
    let (streamed, snapshot) = (written(&sink), sink.snapshot("streamed"));
    check::running(&streamed);
    assert_eq!(normalized(&streamed), normalized(&snapshot));
    drop(open);
    assert_eq!(written(&TraceSink::disabled()).description, "streamed");
}

#[tokio::test]
async fn errors_of_the_writer_are_returned() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let sink = TraceSink::new();
    mock::fetch(&sink, None).await;
    assert_eq!(sink.write_json("", Full).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(TraceSink::disabled().write_json("", Full).unwrap_err().kind(), io::ErrorKind::StorageFull);
}
