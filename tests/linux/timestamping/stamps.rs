//! Which connections are stamped, and with what.

use super::{connect, only_times, sink, snapshot, warm_up};
use nettrace::{
    TraceSink,
    linux::TimestampingProbe,
    record::{ReadTimes, WriteTimes},
    server::TraceListener,
};
use std::{io, net::TcpListener, time::Duration};
use test_support::{
    lab::{Delay, Routed},
    raw::{Conn, Server},
    require::require_lab,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn echo(mut conn: Conn) -> io::Result<()> {
    loop {
        let byte = conn.read(1).await?;
        conn.write(&byte).await?;
    }
}

fn echoing(address: &str) -> Server {
    Server::on(TcpListener::bind(address).unwrap(), echo)
}

#[tokio::test]
async fn stamps_are_of_the_last_byte_sent_and_the_first_received() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (server, sink) = (echoing(address), sink());
        let mut stream = connect(&sink, server.addr()).await;
        let before = warm_up(&mut stream, &sink).await;
        let mut sent = before;
        for len in [1, 100, 20_000] {
            stream.write_all(&vec![7; len]).await.unwrap();
            stream.read_exact(&mut vec![0; len]).await.unwrap();
            sent += len as u64;
            let times = only_times(&sink);
            let WriteTimes { sent_bytes, scheduled_at, sent_at, acked_at, .. } = times.writes.last().unwrap();
            assert_eq!(*sent_bytes, sent);
            for stamp in [scheduled_at, sent_at, acked_at] {
                assert!(!stamp.is_undefined(), "{times:#?}");
            }
            let first = times.reads.iter().find(|read| read.recv_bytes == sent - len as u64);
            let ReadTimes { received_at, read_at, .. } = first.unwrap_or_else(|| panic!("{times:#?}"));
            assert!(received_at.relative_nanos() >= scheduled_at.relative_nanos().filter(|_| len == 1));
            assert!(received_at.relative_nanos() <= read_at.relative_nanos());
        }
        drop(stream);
        let seen = server.ended(1).await;
        assert_eq!(seen[0].received.len() as u64, sent);
        assert_eq!(only_times(&sink).writes.last().unwrap().sent_bytes, sent);
    }
}

#[tokio::test]
async fn one_connection_in_so_many_is_sampled() {
    let server = echoing("127.0.0.1:0");
    for (every, expected) in [(1, vec![0, 1, 2, 3, 4]), (3, vec![0, 3]), (0, vec![])] {
        let sink = TraceSink::builder().probe(TimestampingProbe::new().every(every)).build();
        for _ in 0..5 {
            let mut stream = connect(&sink, server.addr()).await;
            stream.write_all(b"x").await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
        }
        let trace = snapshot(&sink);
        let is_stamped = |at: &usize| trace.tcp_conns[*at].kernel_times.is_some();
        assert_eq!((0..5).filter(is_stamped).collect::<Vec<_>>(), expected, "{every}");
    }
}

#[tokio::test]
async fn the_first_and_the_newest_stamps_are_kept() {
    let server = echoing("127.0.0.1:0");
    let sink = TraceSink::builder().probe(TimestampingProbe::new().every(1).max_stamps(4)).build();
    let mut stream = connect(&sink, server.addr()).await;
    for _ in 0..20 {
        stream.write_all(b"x").await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
    }
    let times = only_times(&sink);
    let kept: Vec<_> = times.writes.iter().map(|write| write.sent_bytes).collect();
    assert_eq!((kept, times.dropped_writes, times.dropped_after), (vec![1, 2, 19, 20], 16, 2));
    assert!(times.reads.len() <= 4);
    assert!(times.writes.iter().all(|write| !write.acked_at.is_undefined()), "{times:#?}");
}

/// What has arrived is stamped although nobody has read it.
#[tokio::test]
async fn bytes_that_were_never_read_are_stamped_at_the_close() {
    let (server, sink) = (echoing("127.0.0.1:0"), sink());
    let mut stream = connect(&sink, server.addr()).await;
    let before = warm_up(&mut stream, &sink).await;
    stream.write_all(b"x").await.unwrap();
    stream.get_ref().peek(&mut [0]).await.unwrap();
    drop(stream);
    let times = only_times(&sink);
    let last = times.reads.last().unwrap();
    assert_eq!((last.recv_bytes, last.read_at.is_undefined()), (before, true), "{times:#?}");
}

#[tokio::test]
async fn accepted_connections_are_stamped() {
    let sink = sink();
    let listener = TraceListener::new(&sink, tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addr = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect(addr), listener.accept());
    let (mut client, (mut stream, _)) = (client.unwrap(), accepted.unwrap());
    stream.write_all(b"hello").await.unwrap();
    client.read_exact(&mut [0; 5]).await.unwrap();
    client.write_all(b"x").await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    let trace = snapshot(&sink);
    assert!(trace.tcp_conns[0].accepted);
    let times = trace.tcp_conns[0].kernel_times.as_deref().unwrap();
    assert!(times.writes[0].sent_bytes == 5 && !times.writes[0].acked_at.is_undefined(), "{times:#?}");
}

/// A round trip takes 60 ms, so that the acknowledgement comes long after the write, and wakes nobody who waits.
#[test]
fn acknowledgements_come_after_a_round_trip() {
    require_lab!();
    let net = Routed::with_delay(Delay::All(Duration::from_millis(30)));
    let server = Server::on(net.server.listen("10.9.2.2:7"), echo);
    net.client.block_on(async {
        let sink = sink();
        let mut stream = connect(&sink, server.addr()).await;
        for sent in 1..=3 {
            stream.write_all(b"x").await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
            let times = only_times(&sink);
            let write = times.writes.last().unwrap();
            assert_eq!(write.sent_bytes, sent);
            let round_trip =
                write.acked_at.relative_nanos().unwrap() - write.sent_at.relative_nanos().unwrap();
            assert!((60_000_000..1_000_000_000).contains(&round_trip), "{times:#?}");
        }
    });
}
