//! Peers that send HTTP that is as long, as broken or as expensive to read as they can make it, over a connection whose
//! bytes are read.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::{Read as _, ReadBuf};
use hyper_util::client::legacy::connect::{Connected, Connection};
use nettrace::{
    TraceSink,
    connect::{TraceConnectLayer, TracedIo},
    record::WireStop,
    wire::{TraceWireLayer, WireIo},
};
use tower::{Layer as _, ServiceExt as _, service_fn};

use test_support::alloc;

use crate::{assert_bounded, cpu_time};

/// What a connection may take with its exchanges, but without the records that have ended, in bytes.
const MAX_CONN_BYTES: i64 = 3 << 20;
/// What the connection and its records may take together at any time, in bytes.
const MAX_PEAK_BYTES: i64 = 12 << 20;

/// A stream that takes whatever is written, and has been given what is read.
#[derive(Debug, Default)]
struct Scripted {
    incoming: Vec<u8>,
}

impl Connection for Scripted {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Scripted {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let incoming = &mut self.get_mut().incoming;
        let read = incoming.len().min(buf.remaining());
        buf.put_slice(&incoming[..read]);
        incoming.drain(..read);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Scripted {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A connection that is read.
struct Conn {
    io: WireIo<TracedIo<Scripted>>,
    /// The buffer of reads.
    buffer: Vec<u8>,
    /// The most memory that was in use after an operation, in bytes.
    peak: i64,
}

impl Conn {
    async fn connect(sink: &TraceSink) -> Self {
        let scripted = service_fn(async |_: http::Uri| Ok::<_, Infallible>(Scripted::default()));
        let connector = TraceWireLayer::new(sink).layer(TraceConnectLayer::new(sink).layer(scripted));
        let io = connector.oneshot("http://hostile.test/".parse().unwrap()).await.unwrap();
        Conn { io, buffer: vec![0; 64 << 10], peak: 0 }
    }

    /// Has the client send bytes.
    fn sends(&mut self, bytes: &[u8]) {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let written = hyper::rt::Write::poll_write(Pin::new(&mut self.io), cx, bytes);
        assert!(matches!(written, Poll::Ready(Ok(length)) if length == bytes.len()));
        self.peak = self.peak.max(alloc::live());
    }

    /// Has the server answer with bytes.
    fn receives(&mut self, bytes: &[u8]) {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        self.io.get_mut().get_mut().incoming.extend_from_slice(bytes);
        while !self.io.get_ref().get_ref().incoming.is_empty() {
            let mut buf = ReadBuf::new(&mut self.buffer);
            assert!(Pin::new(&mut self.io).poll_read(cx, buf.unfilled()).is_ready());
            self.peak = self.peak.max(alloc::live());
        }
    }
}

/// Runs `drive` with a connection, and asserts that it is read within bounds of memory and of CPU time for each byte
/// that `drive` says it sent. Returns why the reading stopped.
#[track_caller]
fn assert_read(drive: impl FnOnce(&mut Conn) -> u64) -> Option<WireStop> {
    let mut stop = None;
    assert_bounded(
        TraceSink::new(),
        async |sink| {
            let mut conn = Conn::connect(sink).await;
            let (before, live_before) = (cpu_time(), alloc::live());
            let bytes = drive(&mut conn);
            let took = cpu_time() - before;
            // 100 ns a byte is a hundred times what bytes of a body take: 10 MB/s at the least.
            let most = Duration::from_millis(100) + Duration::from_nanos(100 * bytes);
            assert!(took < most, "{bytes} bytes took {took:?}");
            let peak = conn.peak - live_before;
            assert!(peak < MAX_PEAK_BYTES, "at the most {peak} bytes were in use");
            // The rest of what is live are records, which `assert_bounded` bounds.
            let live = alloc::live();
            drop(conn);
            let held = live - alloc::live();
            println!("{bytes} bytes took {took:?}; the connection held {held} bytes");
            assert!(held < MAX_CONN_BYTES, "the connection held {held} bytes");
        },
        |trace| stop = trace.tcp_conns[0].wire.as_ref().and_then(|wire| wire.stop_reason.clone()),
    );
    stop
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;
/// `:method: GET`, `:scheme: http`, `:path: /`.
const GET: &[u8] = &[0x82, 0x86, 0x84];

/// Sends `piece` that often. Returns how many bytes that is.
fn repeat(piece: &[u8], times: usize, mut send: impl FnMut(&[u8])) -> u64 {
    (0..times).for_each(|_| send(piece));
    (piece.len() * times) as u64
}

#[test]
fn a_block_of_fields_without_end_is_given_up() {
    for piece in [&[][..], b"x", &[b'x'; 10_000]] {
        let stop = assert_read(|conn| {
            conn.sends(PREFACE);
            conn.sends(&frame(1, 0, 1, GET));
            repeat(&frame(9, 0, 1, piece), 200_000, |frame| conn.sends(frame))
        });
        assert_eq!(stop, (!piece.is_empty()).then_some(WireStop::SectionTooLarge));
    }
}

#[test]
fn fields_that_decompress_to_megabytes_are_bounded() {
    // A field of 4 KB is put into the table once, and then named by one byte tens of thousands of times.
    let insert = [&[0x40, 1, b'a', 0x7f, 0xa1, 0x1e][..], &[b'b'; 4_000]].concat();
    let bomb = [GET, &[0xbe; 60_000]].concat();
    let stop = assert_read(|conn| {
        conn.sends(PREFACE);
        conn.sends(&frame(1, END_HEADERS | END_STREAM, 1, &[GET, &insert].concat()));
        (1..=200).fold(0, |bytes, i| {
            let frame = frame(1, END_HEADERS | END_STREAM, 2 * i + 1, &bomb);
            conn.sends(&frame);
            bytes + frame.len() as u64
        })
    });
    assert_eq!(stop, None);
}

#[test]
fn a_table_that_is_too_large_is_refused() {
    let stop = assert_read(|conn| {
        conn.sends(PREFACE);
        conn.sends(&frame(1, END_HEADERS, 1, &[0x3f, 0xff, 0xff, 0x7f]));
        0
    });
    assert_eq!(stop, Some(WireStop::HeaderCompression));
}

#[test]
fn streams_that_are_reset_at_once_leave_nothing() {
    let stop = assert_read(|conn| {
        conn.sends(PREFACE);
        (0..200_000).fold(0, |bytes, i| {
            let open = frame(1, END_HEADERS | END_STREAM, 2 * i + 1, GET);
            let reset = frame(3, 0, 2 * i + 1, &[0, 0, 0, 8]);
            conn.sends(&[&open[..], &reset].concat());
            bytes + (open.len() + reset.len()) as u64
        })
    });
    assert_eq!(stop, None);
}

#[test]
fn streams_that_stay_open_are_limited() {
    let stop = assert_read(|conn| {
        conn.sends(PREFACE);
        (0..20_000).fold(0, |bytes, i| {
            let open = frame(1, END_HEADERS, 2 * i + 1, GET);
            conn.sends(&open);
            bytes + open.len() as u64
        })
    });
    assert_eq!(stop, Some(WireStop::TooManyRequests));
}

#[test]
fn large_frames_are_counted() {
    let stop = assert_read(|conn| {
        conn.sends(PREFACE);
        conn.sends(&frame(1, END_HEADERS | END_STREAM, 1, GET));
        conn.receives(&frame(1, END_HEADERS, 1, &[0x88]));
        // DATA and frames of an unknown type, of 16 MiB each.
        let mut bytes = 0;
        for kind in [0, 0xf0] {
            conn.receives(&[0xff, 0xff, 0xff, kind, 0, 0, 0, 0, 1]);
            bytes += repeat(&[0; 0xffff], 256, |piece| conn.receives(piece));
            conn.receives(&[0; 0xff]);
        }
        bytes
    });
    assert_eq!(stop, None);
}

#[test]
fn heads_and_trailers_without_end_are_given_up() {
    let stop = assert_read(|conn| {
        conn.sends(b"GET / HTTP/1.1\r\n");
        repeat(b"a: b\r\n", 1_000_000, |line| conn.sends(line))
    });
    assert_eq!(stop, Some(WireStop::SectionTooLarge));
    for (begin, line) in [
        ("HTTP/1.1 200 OK\r\n", &b"a: b\r\n"[..]),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", b"extension"),
    ] {
        let stop = assert_read(|conn| {
            conn.sends(b"GET / HTTP/1.1\r\n\r\n");
            conn.receives(begin.as_bytes());
            repeat(line, 100_000, |line| conn.receives(line))
        });
        assert_eq!(stop, Some(WireStop::SectionTooLarge), "{begin}");
    }
}

#[test]
fn requests_without_answers_are_limited() {
    let stop = assert_read(|conn| {
        repeat(&b"GET / HTTP/1.1\r\nhost: h\r\n\r\n".repeat(100), 1_000, |requests| conn.sends(requests))
    });
    assert_eq!(stop, Some(WireStop::TooManyRequests));
}

#[test]
fn interim_responses_are_limited() {
    let stop = assert_read(|conn| {
        conn.sends(b"GET / HTTP/1.1\r\n\r\n");
        let interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        repeat(&interim.repeat(100), 1_000, |responses| conn.receives(responses))
    });
    assert_eq!(stop, None);
}

#[test]
fn small_chunks_are_counted() {
    let stop = assert_read(|conn| {
        conn.sends(b"GET / HTTP/1.1\r\n\r\n");
        conn.receives(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        repeat(b"1\r\n0\r\n", 1_000_000, |chunk| conn.receives(chunk))
    });
    assert_eq!(stop, None);
}

#[test]
fn a_line_in_pieces_of_a_byte_is_not_looked_at_again_and_again() {
    let stop = assert_read(|conn| repeat(b"x", 100_000, |byte| conn.sends(byte)));
    assert_eq!(stop, Some(WireStop::SectionTooLarge));
}

#[test]
fn streams_that_wait_for_a_window_are_not_looked_at_for_each_frame() {
    let stop = assert_read(|conn| {
        conn.sends(PREFACE);
        for i in 0..4_000 {
            conn.sends(&frame(1, END_HEADERS, 2 * i + 1, &[0x83, 0x86, 0x84]));
        }
        let updates = frame(8, 0, 0, &[0, 0, 0, 1]).repeat(1_000);
        repeat(&updates, 100, |updates| conn.receives(updates))
    });
    assert_eq!(stop, None);
}
