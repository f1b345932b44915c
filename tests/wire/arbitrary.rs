//! Whatever passes over a connection, reading changes nothing and leaves a valid trace.

use http::Uri;
use hyper_util::rt::TokioIo;
use nettrace::{
    NetTrace, TraceSink,
    connect::{TraceConnectLayer, TracedIo},
    record::WireStop,
    wire::{TraceWireLayer, WireIo},
};
use proptest::{collection::vec, prelude::*, sample::Index};
use std::convert::Infallible;
use test_support::{check, pipe::Pipe, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tower::{Layer as _, ServiceExt as _, service_fn};

/// A change to a stream of bytes.
#[derive(Clone, Debug)]
enum Change {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        (any::<Index>(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<Index>(), 1_usize..40).prop_map(|(at, length)| Change::Remove(at, length)),
        (any::<Index>(), 1_usize..40).prop_map(|(at, length)| Change::Repeat(at, length)),
    ]
}

fn apply(changes: &[Change], bytes: &mut Vec<u8>) {
    for change in changes {
        let at = |index: &Index, bytes: &[u8]| index.index(bytes.len().max(1)).min(bytes.len());
        match change {
            Change::Replace(index, byte) => {
                let at = at(index, bytes);
                bytes.splice(at..(at + 1).min(bytes.len()), [*byte]);
            }
            Change::Insert(index, piece) => {
                let at = at(index, bytes);
                bytes.splice(at..at, piece.iter().copied());
            }
            Change::Remove(index, length) => {
                let at = at(index, bytes);
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            Change::Repeat(index, length) => {
                let at = at(index, bytes);
                let piece = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// What client and server say on a connection of HTTP/1, and on one of HTTP/2.
fn conversations() -> [[Vec<u8>; 2]; 2] {
    let http1 = [
        "GET /one HTTP/1.1\r\nHost: h\r\n\r\nPOST /two HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
         4\r\nbody\r\n0\r\nX: y\r\n\r\nPUT /three HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nput\
         CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n\x16\x03\x01",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst\
         HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsec\r\n3;x=y\r\nond\r\n0\r\nX-Sum: 6\r\n\r\n\
         HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\n\x16\x03\x03",
    ];
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let get = [
        0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
    ];
    let client = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]),
        frame(1, 5, 1, &get),
        frame(1, 0, 3, &get[..3]),
        frame(9, 4, 3, &[0xbe]),
        frame(0, 1, 3, b"body"),
        frame(1, 0x2d, 5, &[&[1, 0, 0, 0, 0, 16][..], &get[..3], &[0]].concat()),
        frame(3, 0, 5, &[0, 0, 0, 8]),
    ];
    let server = [
        frame(4, 1, 0, &[]),
        frame(1, 4, 1, &[0x88, 0x40, 1, b'a', 1, b'b']),
        frame(0, 9, 1, &[2, b'h', b'i', 0, 0]),
        frame(1, 4, 3, &[0x8d, 0xbe]),
        frame(
            1,
            5,
            3,
            &[0x40, 11, b'g', b'r', b'p', b'c', b'-', b's', b't', b'a', b't', b'u', b's', 1, b'0'],
        ),
        frame(7, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]),
    ];
    [http1.map(Vec::from), [client.concat(), server.concat()]]
}

/// Returns a connection in memory that is read, and its other end.
async fn connect(sink: &TraceSink) -> (TokioIo<WireIo<TracedIo<TokioIo<Pipe>>>>, DuplexStream) {
    let (here, there) = duplex(1 << 20);
    let mut here = Some(TokioIo::new(Pipe(here)));
    let connector = service_fn(move |_: Uri| {
        std::future::ready(Ok::<_, Infallible>(here.take().expect("one connection")))
    });
    let connector = TraceWireLayer::new(sink).layer(TraceConnectLayer::new(sink).layer(connector));
    (TokioIo::new(connector.oneshot("http://h/".parse().unwrap()).await.unwrap()), there)
}

/// Passes both streams in pieces of these sizes, by turns, and asserts that they arrive unchanged. Returns the trace.
fn assert_unchanged(client: &[u8], server: &[u8], sizes: &[usize]) -> NetTrace {
    let sink = TraceSink::new();
    wait::now(async {
        let (mut here, mut there) = connect(&sink).await;
        let (mut to_send, mut to_receive, mut sizes) = (client, server, sizes.iter().cycle());
        let mut next = |bytes: &mut &[u8]| {
            let (piece, rest) = bytes.split_at(sizes.next().expect("a cycle").min(&bytes.len()).to_owned());
            *bytes = rest;
            piece.to_vec()
        };
        while !to_send.is_empty() || !to_receive.is_empty() {
            let piece = next(&mut to_send);
            here.write_all(&piece).await.unwrap();
            let mut arrived = vec![0; piece.len()];
            there.read_exact(&mut arrived).await.unwrap();
            assert_eq!(arrived, piece);
            let piece = next(&mut to_receive);
            there.write_all(&piece).await.unwrap();
            let mut arrived = vec![0; piece.len()];
            here.read_exact(&mut arrived).await.unwrap();
            assert_eq!(arrived, piece);
        }
        drop(there);
        assert_eq!(here.read(&mut [0]).await.unwrap(), 0);
    });
    let trace = sink.snapshot("");
    check::finished(&trace);
    trace
}

/// Unchanged, the conversations are read to their ends.
#[test]
fn the_conversations_themselves_are_understood() {
    let statuses = |is_http2: bool| {
        let [client, server] = conversations()[usize::from(is_http2)].clone();
        let trace = assert_unchanged(&client, &server, &[client.len()]);
        let stop = trace.tcp_conns[0].wire.as_deref().unwrap().stop_reason.clone();
        (trace.http_requests.iter().map(|request| request.resp_status_code).collect::<Vec<_>>(), stop)
    };
    assert_eq!(statuses(false), (vec![200, 201, 204, 200], Some(WireStop::Upgraded)));
    assert_eq!(statuses(true), (vec![200, 404, 0], None));
}

proptest! {
    #[test]
    fn whatever_passes_is_unchanged_and_leaves_a_valid_trace(
        is_http2: bool,
        changes in [vec(change(), 0..6), vec(change(), 0..6)],
        sizes in vec(1_usize..200, 1..8),
    ) {
        let [mut client, mut server] = conversations()[usize::from(is_http2)].clone();
        apply(&changes[0], &mut client);
        apply(&changes[1], &mut server);
        assert_unchanged(&client, &server, &sizes);
    }
}
