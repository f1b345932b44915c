//! A stamped connection behaves as any other, also where its stamps get into the way: the runtime takes them for the
//! end of the writing side.

use super::{connect, sink, snapshot};
use nettrace::{
    TraceSink,
    connect::TracedIo,
    record::{EndReason, Failure},
};
use std::{
    fs,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{Arc, mpsc},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};
use test_support::{
    raw::{Conn, Server},
    wait,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::Notify,
};

/// Runs a future on a thread of its own, and panics if it does not end: one that never yields would hang the test.
fn run<F: Future<Output = ()> + Send + 'static>(test: F) {
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        test_support::background::runtime().block_on(test);
        let _ = done.send(());
    });
    match ended.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the thread does not end"),
        _ => thread.join().unwrap(),
    }
}

fn sinks() -> [TraceSink; 2] {
    [TraceSink::new(), sink()]
}

/// Returns bytes of which each part is another one.
fn bytes(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Counts how often an operation was polled.
async fn counted<F: Future>(polls: &mut usize, operation: F) -> F::Output {
    let mut operation = pin!(operation);
    poll_fn(|cx| {
        *polls += 1;
        operation.as_mut().poll(cx)
    })
    .await
}

/// Writes a byte and lets the runtime see its stamps, which are left on the error queue.
async fn have_stamps_reported(stream: &mut TracedIo<TcpStream>) {
    stream.write_all(b"x").await.unwrap();
    wait::until("the report of a stamp", || is_write_closed(stream.get_ref())).await;
}

/// Returns whether tokio regards the stream as always writable.
fn is_write_closed(stream: &TcpStream) -> bool {
    let ready = pin!(stream.ready(tokio::io::Interest::WRITABLE));
    let ready = ready.poll(&mut Context::from_waker(Waker::noop()));
    matches!(ready, Poll::Ready(Ok(ready)) if ready.is_write_closed())
}

/// Writes until the send buffer is full. Returns how many bytes were taken.
///
/// Not constrained by tokio's budget, because of which a task that never waits would be pending, too.
async fn fill<S: AsyncWrite + Unpin>(stream: &mut S) -> usize {
    let chunk = bytes(64 * 1024);
    let mut sent = 0;
    tokio::task::unconstrained(poll_fn(|cx| {
        while let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(cx, &chunk[sent % chunk.len()..]) {
            sent += written.unwrap();
        }
        Poll::Ready(())
    }))
    .await;
    sent
}

const LARGE: usize = 24 << 20;

#[test]
fn large_transfers_in_both_directions_are_complete() {
    run(async {
        let server = Server::start(async |mut conn| {
            for _ in 0..LARGE >> 20 {
                let piece = conn.read(1 << 20).await?;
                conn.write(&piece).await?;
            }
            conn.finish().await?;
            conn.read_to_end().await
        });
        let sink = sink();
        let (mut reader, mut writer) = tokio::io::split(connect(&sink, server.addr()).await);
        let (mut polls, sent, mut received) = (0, bytes(LARGE), Vec::new());
        let (wrote, read) = tokio::join!(
            counted(&mut polls, async {
                writer.write_all(&sent).await?;
                writer.shutdown().await
            }),
            reader.read_to_end(&mut received)
        );
        wrote.unwrap();
        assert_eq!(read.unwrap(), LARGE);
        assert!(received == sent, "the same bytes came back");
        // Each write may wait for room, and be woken by its own three stamps.
        let ops = snapshot(&sink).tcp_conns[0]
            .socket_trace
            .as_ref()
            .map_or(0, |trace| trace.socket_ops.len() as u64 + trace.dropped_ops);
        assert!((polls as u64) < 8 * ops, "{polls} polls for {ops} operations");
    });
}

/// A stream that tokio always regards as writable must not be polled again and again.
#[test]
fn a_full_send_buffer_is_waited_for() {
    run(async {
        let may_go_on = Arc::new(Notify::new());
        let notified = may_go_on.clone();
        let server = Server::start(async move |mut conn: Conn| {
            notified.notified().await;
            conn.read_to_end().await
        });
        let sink = sink();
        let mut stream = connect(&sink, server.addr()).await;
        have_stamps_reported(&mut stream).await;
        let sent = fill(&mut stream).await + 1;
        let chunk = bytes(64 * 1024);
        let rest = chunk[(sent - 1) % chunk.len()..].to_vec();
        let sent = sent + rest.len();
        let writing = tokio::spawn(async move {
            let mut polls = 0;
            counted(&mut polls, stream.write_all(&rest)).await.unwrap();
            (stream, polls)
        });
        wait::settle().await;
        may_go_on.notify_one();
        let (mut stream, polls) = writing.await.unwrap();
        // It is polled when it may have room, and for the stamps of what is on its way.
        assert!(polls < 50, "{polls} polls");
        stream.shutdown().await.unwrap();
        let seen = server.ended(1).await;
        assert_eq!(seen[0].received.len(), sent);
        assert!(seen[0].received[1..] == chunk.repeat(sent / chunk.len() + 1)[..sent - 1]);
    });
}

#[test]
fn a_stream_that_is_taken_out_waits_as_any_other() {
    run(async {
        for take in [take_out as fn(TracedIo<TcpStream>) -> TcpStream, borrow] {
            let server = Server::start(async |conn: Conn| conn.hang().await);
            let sink = sink();
            let mut stream = connect(&sink, server.addr()).await;
            have_stamps_reported(&mut stream).await;
            let mut stream = take(stream);
            assert!(!is_write_closed(&stream));
            stream.writable().await.unwrap();
            assert!(fill(&mut stream).await > 0);
            let writable = pin!(stream.writable()).poll(&mut Context::from_waker(Waker::noop()));
            assert!(writable.is_pending());
        }
    });

    fn take_out(stream: TracedIo<TcpStream>) -> TcpStream {
        stream.into_inner()
    }

    fn borrow(mut stream: TracedIo<TcpStream>) -> TcpStream {
        stream.get_mut();
        stream.into_inner()
    }
}

#[test]
fn thousands_of_writes_without_a_read_lose_nothing() {
    const WRITES: usize = 5_000;
    run(async {
        let server = Server::start(async |mut conn| {
            conn.read(WRITES).await?;
            conn.write(b"done").await?;
            conn.read_to_end().await
        });
        let sink = sink();
        let mut stream = connect(&sink, server.addr()).await;
        let (mut polls, mut answer) = (0, [0; 4]);
        for _ in 0..WRITES {
            counted(&mut polls, stream.write_all(b"x")).await.unwrap();
        }
        counted(&mut polls, stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"done");
        assert!(polls < 2 * WRITES, "{polls} polls");
        let trace = snapshot(&sink);
        let times = trace.tcp_conns[0].kernel_times.as_deref().unwrap();
        assert_eq!(times.writes.len() as u64 + times.dropped_writes, WRITES as u64);
        assert!(!times.writes.last().unwrap().acked_at.is_undefined(), "{times:#?}");
        drop(stream);
        assert_eq!(server.ended(1).await[0].received.len(), WRITES);
    });
}

#[test]
fn either_direction_can_be_closed_alone() {
    run(async {
        for sink in sinks() {
            let server = Server::start(async |mut conn| {
                conn.read_to_end().await?;
                conn.write(b"still here").await?;
                conn.close().await
            });
            let mut stream = connect(&sink, server.addr()).await;
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, b"still here");
            drop(stream);
            assert_eq!(server.ended(1).await[0].received, b"hello");
            assert_eq!(snapshot(&sink).tcp_conns[0].end_reason, Some(EndReason::PeerClosed));
        }
    });
}

/// Reads a stream to its end or error. Returns the bytes with the error.
async fn read_all(stream: &mut TracedIo<TcpStream>) -> (usize, Option<io::ErrorKind>) {
    let (mut received, mut buf) = (0, [0; 1000]);
    loop {
        match stream.read(&mut buf).await {
            Ok(0) => return (received, None),
            Ok(len) => received += len,
            Err(error) => return (received, Some(error.kind())),
        }
    }
}

#[test]
fn a_reset_is_the_same_error() {
    run(async {
        let mut outcomes = Vec::new();
        for sink in sinks() {
            for unread in [0, 5_000] {
                let server = Server::start(async move |mut conn| {
                    conn.read(1).await?;
                    conn.write(&vec![7; unread]).await?;
                    conn.reset()
                });
                let mut stream = connect(&sink, server.addr()).await;
                stream.write_all(b"x").await.unwrap();
                server.ended(1).await;
                let received = read_all(&mut stream).await;
                let again = read_all(&mut stream).await;
                let written = stream.write_all(b"x").await.map_err(|error| error.kind());
                outcomes.push((received, again, written));
                drop(stream);
                let trace = snapshot(&sink);
                assert_eq!(trace.tcp_conns.last().unwrap().failure, Some(Failure::ConnectionReset));
            }
        }
        assert_eq!(outcomes[..2], outcomes[2..]);
        assert_eq!(outcomes[0].0, (0, Some(io::ErrorKind::ConnectionReset)));
        assert_eq!(outcomes[1].0, (5_000, Some(io::ErrorKind::ConnectionReset)));
    });
}

#[test]
fn stamps_leave_no_error_on_the_socket() {
    run(async {
        let server = Server::start(async |conn: Conn| conn.hang().await);
        let mut stream = connect(&sink(), server.addr()).await;
        have_stamps_reported(&mut stream).await;
        assert!(stream.get_ref().take_error().unwrap().is_none());
    });
}

/// What is done after the end of the record leaves nothing on the socket.
#[test]
fn a_closed_sink_ends_the_stamping() {
    run(async {
        let server = Server::start(async |mut conn: Conn| {
            loop {
                let byte = conn.read(1).await?;
                conn.write(&byte).await?;
            }
        });
        let sink = sink();
        let mut stream = connect(&sink, server.addr()).await;
        let mut exchange = async || {
            stream.write_all(b"x").await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
        };
        exchange().await;
        let before = snapshot(&sink).tcp_conns[0].kernel_times.clone();
        assert!(before.is_some());
        sink.close();
        for _ in 0..100 {
            exchange().await;
        }
        assert_eq!(snapshot(&sink).tcp_conns[0].kernel_times, before);
        let mut stream = stream.into_inner();
        stream.write_all(b"x").await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        wait::settle().await;
        assert!(!is_write_closed(&stream), "no stamp was reported");
    });
}

/// A read that waits is not woken by stamps, and is woken by what arrives.
#[test]
fn a_pending_read_is_woken_by_bytes_alone() {
    run(async {
        let go_on = Arc::new(Notify::new());
        let may_answer = go_on.clone();
        let server = Server::start(async move |mut conn| {
            conn.read(100).await?;
            may_answer.notified().await;
            conn.write(b"y").await
        });
        let sink = sink();
        let (mut reader, mut writer) = tokio::io::split(connect(&sink, server.addr()).await);
        let (mut polls, mut byte) = (0, [0]);
        let read = counted(&mut polls, reader.read_exact(&mut byte));
        let write = async {
            for _ in 0..100 {
                writer.write_all(b"x").await.unwrap();
                tokio::task::yield_now().await;
            }
            wait::settle().await;
            go_on.notify_one();
            std::future::pending::<()>().await
        };
        tokio::select! {
            biased;
            result = read => drop(result.unwrap()),
            () = write => unreachable!(),
        }
        assert_eq!(&byte, b"y");
    });
}

#[test]
fn a_read_without_room_takes_nothing() {
    run(async {
        let server = Server::start(async |mut conn| {
            conn.write(b"y").await?;
            conn.hang().await
        });
        let mut stream = connect(&sink(), server.addr()).await;
        stream.get_ref().readable().await.unwrap();
        let read = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut ReadBuf::new(&mut []))).await;
        read.unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"y");
    });
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What is waited with while a send buffer is full is a descriptor of its own.
#[test]
fn no_descriptor_is_left() {
    run(async {
        let server = Server::start(async |conn: Conn| conn.hang().await);
        let mut before = 0;
        for at in 0..=20 {
            let mut stream = connect(&sink(), server.addr()).await;
            have_stamps_reported(&mut stream).await;
            fill(&mut stream).await;
            drop(stream);
            if at == 0 {
                before = open_files();
            }
        }
        // The server's side of each connection is open, with two descriptors.
        let after = open_files();
        assert!(after <= before + 2 * 20, "{before} open files, and {after} after 20 connections");
    });
}
