//! Wrapped streams: the inner stream gets the same calls as without the wrapper.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Uri};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::{
    self,
    connect::{Connected, Connection},
};
use hyper_util::rt::TokioExecutor;
use nettrace::TraceSink;
use nettrace::connect::{TcpConnector, TraceConnectLayer};
use nettrace::record::{EndReason, SocketOpType};
use nettrace::tls::TraceTlsLayer;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::clients::{BoxError, Payload, full};

/// A call of a stream.
#[derive(Clone, Debug, PartialEq)]
enum Call {
    Read { room: usize },
    Write(usize),
    WriteVectored(Vec<usize>),
    Flush,
    Shutdown,
}

/// Takes `appetite` bytes a write, every other write only at the second asking; gives `answer` when all of the
/// request has come, in pieces of seven bytes.
struct Mock {
    vectored: bool,
    appetite: usize,
    expects: usize,
    answer: VecDeque<u8>,
    hesitates: bool,
    reader: Option<Waker>,
    shared: Arc<Mutex<(Vec<Call>, Vec<u8>)>>,
}

impl Mock {
    fn log(&self, call: Call) {
        self.shared.lock().unwrap().0.push(call);
    }

    fn take(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.hesitates = !self.hesitates;
        if self.hesitates {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).take(self.appetite).collect();
        let mut shared = self.shared.lock().unwrap();
        shared.1.extend(&bytes);
        if shared.1.len() >= self.expects
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }
}

impl Connection for Mock {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Mock {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.log(Call::Read { room: buf.remaining() });
        if self.shared.lock().unwrap().1.len() < self.expects {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let size = self.answer.len().min(7);
        buf.put_slice(&self.answer.drain(..size).collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl Write for Mock {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.log(Call::Write(buf.len()));
        self.take(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.log(Call::WriteVectored(bufs.iter().map(|buf| buf.len()).collect()));
        self.take(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.log(Call::Flush);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.log(Call::Shutdown);
        Poll::Ready(Ok(()))
    }
}

#[derive(Clone, Copy, Debug)]
enum Wrapped {
    Not,
    Traced,
    TracedOff,
    TracedBelowTls,
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\nconnection: close\r\n\r\nhello, world";
const PIECE: usize = 3000;

/// Large enough that hyper queues pieces instead of copying them into one.
fn upload() -> Request<Payload> {
    let pieces = (0..3).map(|_| Ok::<_, BoxError>(Frame::data(Bytes::from(vec![b'x'; PIECE]))));
    let body = StreamBody::new(futures_util::stream::iter(pieces)).boxed();
    Request::post("http://web.test/").header("content-length", 3 * PIECE).body(body).unwrap()
}

/// The calls that one exchange makes, and the bytes that were written.
async fn calls(wrapped: Wrapped, vectored: bool, appetite: usize, sink: &TraceSink) -> (Vec<Call>, Vec<u8>) {
    let shared = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let log = shared.clone();
    let connector = service_fn(move |_: Uri| {
        let answer = ANSWER.bytes().collect();
        let (shared, reader) = (log.clone(), None);
        let expects = 3 * PIECE + "POST / HTTP/1.1\r\ncontent-length: 9000\r\nhost: web.test\r\n\r\n".len();
        std::future::ready(Ok::<_, io::Error>(Mock {
            vectored,
            appetite,
            expects,
            answer,
            hesitates: false,
            reader,
            shared,
        }))
    });
    async fn exchange<C: legacy::connect::Connect + Clone + Send + Sync + 'static>(connector: C) {
        let client: legacy::Client<C, Payload> =
            legacy::Client::builder(TokioExecutor::new()).build(connector);
        let response = client.request(upload()).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello, world");
    }
    match wrapped {
        Wrapped::Not => exchange(connector).await,
        Wrapped::Traced => exchange(TraceConnectLayer::new(sink).layer(connector)).await,
        Wrapped::TracedOff => exchange(TraceConnectLayer::new(&TraceSink::disabled()).layer(connector)).await,
        Wrapped::TracedBelowTls => {
            let connector = TraceConnectLayer::new(sink).layer(connector);
            exchange(TraceTlsLayer::builder(sink).build().layer(connector)).await;
        }
    }
    // The connection's task has shut it down and dropped it.
    while Arc::strong_count(&shared) > 1 {
        tokio::task::yield_now().await;
    }
    Arc::into_inner(shared).expect("the only one").into_inner().unwrap()
}

#[tokio::test]
async fn the_same_calls_reach_the_stream() {
    for vectored in [false, true] {
        for appetite in [usize::MAX, 1000, 1] {
            let sink = TraceSink::new();
            let (expected, written) = calls(Wrapped::Not, vectored, appetite, &sink).await;
            let had_vectored = expected.iter().any(|call| matches!(call, Call::WriteVectored(_)));
            assert_eq!(had_vectored, vectored);
            for wrapped in [Wrapped::Traced, Wrapped::TracedOff, Wrapped::TracedBelowTls] {
                let sink = TraceSink::new();
                let (calls, bytes) = calls(wrapped, vectored, appetite, &sink).await;
                assert_eq!(bytes, written);
                assert_eq!(calls, expected, "{wrapped:?}, vectored: {vectored}, appetite: {appetite}");
                if matches!(wrapped, Wrapped::TracedOff) {
                    continue;
                }
                let conn = sink.snapshot("").tcp_conns[0].clone();
                assert_eq!(conn.total_sent_bytes, written.len() as u64);
                assert_eq!(conn.total_recv_bytes, ANSWER.len() as u64);
            }
        }
    }
}

/// A write is one operation, from its first poll to its result, however often it is polled.
#[tokio::test]
async fn an_operation_lasts_until_it_is_done() {
    let sink = TraceSink::new();
    let (made, written) = calls(Wrapped::Traced, true, 1000, &sink).await;
    let conn = sink.snapshot("").tcp_conns[0].clone();
    let ops = conn.socket_trace.expect("operations").socket_ops;
    let writes: Vec<_> = ops.iter().filter(|op| op.r#type == SocketOpType::Write).collect();
    assert_eq!(writes.iter().map(|op| u64::from(op.data_len)).sum::<u64>(), written.len() as u64);
    let polls = made.iter().filter(|call| matches!(call, Call::WriteVectored(_) | Call::Write(_))).count();
    assert_eq!(writes.len() * 2, polls, "the mock hesitates every other time");
    assert!(ops.iter().all(|op| op.return_at >= op.call_at));
}

#[tokio::test]
async fn a_stream_of_any_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (sink, server) = (TraceSink::new(), async {
        let (mut stream, peer) = listener.accept().await.unwrap();
        let mut bytes = [0; 9];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        (peer, bytes)
    });
    let connector = TcpConnector::new(&sink);
    let (stream, (peer, bytes)) = tokio::join!(
        async {
            let mut stream = connector.connect(addr).await.unwrap();
            assert!(stream.is_write_vectored());
            let parts = [IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b"twenty")];
            let written = poll_fn(|cx| Pin::new(&mut stream).poll_write_vectored(cx, &parts)).await.unwrap();
            assert_eq!(written, 9);
            let mut echo = [0; 9];
            stream.read_exact(&mut echo).await.unwrap();
            assert_eq!(&echo, b"onetwenty");
            stream
        },
        server
    );
    assert_eq!(&bytes, b"onetwenty");
    let mut stream = stream;
    assert_eq!(stream.get_ref().local_addr().unwrap(), peer);
    assert_eq!(stream.get_mut().peer_addr().unwrap(), addr);
    let conn = sink.snapshot("").tcp_conns[0].clone();
    assert_eq!((stream.conn_id(), stream.conn_ref().unwrap().id()), (conn.trace_id.clone(), conn.trace_id));
    assert_eq!(conn.addr_tuple.src_port, peer.port());
    assert_eq!((conn.total_sent_bytes, conn.total_recv_bytes, conn.end_reason), (9, 9, None));

    let inner = stream.into_inner();
    assert_eq!(inner.local_addr().unwrap(), peer);
    let conn = sink.snapshot("").tcp_conns[0].clone();
    assert_eq!(conn.end_reason, Some(EndReason::Closed), "for the trace the connection is over");

    let untraced = TcpConnector::new(&TraceSink::disabled());
    let (stream, _) = tokio::join!(untraced.connect(addr), listener.accept());
    let stream = stream.unwrap();
    assert!(stream.conn_id().is_undefined() && stream.conn_ref().is_none() && stream.is_write_vectored());
}

/// The preset's own wrapper is in the way too: one write of head and body together.
#[tokio::test]
async fn the_preset_writes_head_and_body_at_once() {
    let server = test_support::raw::Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.read(20_000).await?;
        conn.write(b"HTTP/1.1 204 No Content\r\n\r\n").await
    });
    let sink = TraceSink::new();
    let client = nettrace::Client::builder(&sink).build().unwrap();
    let request = Request::post(format!("http://{}/", server.addr())).body(full(vec![b'x'; 20_000])).unwrap();
    assert_eq!(client.oneshot(request).await.unwrap().status(), 204);
    let ops = sink.snapshot("").tcp_conns[0].clone().socket_trace.expect("operations").socket_ops;
    let writes: Vec<_> = ops.iter().filter(|op| op.r#type == SocketOpType::Write).collect();
    assert!(writes.len() == 1 && writes[0].data_len > 20_000, "{writes:?}");
}
