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

use test_support::wait;

use crate::clients::{BoxError, Payload, full};

/// A call of a method of the stream, with the sizes of its buffers.
#[derive(Clone, Debug, PartialEq)]
enum Call {
    Read { room: usize },
    Write(usize),
    WriteVectored(Vec<usize>),
    Flush,
    Shutdown,
}

/// A stream that accepts up to `max_write` bytes per write, and each write only when it is polled the second time. Once
/// `expects` bytes have been written, it can be read: it returns `answer` in pieces of seven bytes.
struct Mock {
    vectored: bool,
    max_write: usize,
    expects: usize,
    answer: VecDeque<u8>,
    is_pending: bool,
    reader: Option<Waker>,
    shared: Arc<Mutex<(Vec<Call>, Vec<u8>)>>,
}

impl Mock {
    fn log(&self, call: Call) {
        self.shared.lock().unwrap().0.push(call);
    }

    fn take(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.is_pending = !self.is_pending;
        if self.is_pending {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).take(self.max_write).collect();
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
const PIECE_LEN: usize = 3000;

/// Returns a request whose pieces are so large that hyper queues them instead of copying them into one buffer.
fn upload() -> Request<Payload> {
    let pieces = (0..3).map(|_| Ok::<_, BoxError>(Frame::data(Bytes::from(vec![b'x'; PIECE_LEN]))));
    let body = StreamBody::new(futures_util::stream::iter(pieces)).boxed();
    Request::post("http://web.test/").header("content-length", 3 * PIECE_LEN).body(body).unwrap()
}

/// Makes one exchange over a [`Mock`]. Returns the calls on the stream, and the bytes that were written.
async fn calls(wrapped: Wrapped, vectored: bool, max_write: usize, sink: &TraceSink) -> (Vec<Call>, Vec<u8>) {
    let shared = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let log = shared.clone();
    let connector = service_fn(move |_: Uri| {
        let answer = ANSWER.bytes().collect();
        let (shared, reader) = (log.clone(), None);
        let expects =
            3 * PIECE_LEN + "POST / HTTP/1.1\r\ncontent-length: 9000\r\nhost: web.test\r\n\r\n".len();
        std::future::ready(Ok::<_, io::Error>(Mock {
            vectored,
            max_write,
            expects,
            answer,
            is_pending: false,
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
    // Waits until the connection's task has shut the stream down and dropped it.
    wait::until("the end of the connection", || Arc::strong_count(&shared) == 1).await;
    Arc::into_inner(shared).expect("the last reference").into_inner().unwrap()
}

#[tokio::test]
async fn the_inner_stream_gets_the_same_calls() {
    for vectored in [false, true] {
        for max_write in [usize::MAX, 1000, 1] {
            let sink = TraceSink::new();
            let (expected, written) = calls(Wrapped::Not, vectored, max_write, &sink).await;
            let had_vectored = expected.iter().any(|call| matches!(call, Call::WriteVectored(_)));
            assert_eq!(had_vectored, vectored);
            for wrapped in [Wrapped::Traced, Wrapped::TracedOff, Wrapped::TracedBelowTls] {
                let sink = TraceSink::new();
                let (calls, bytes) = calls(wrapped, vectored, max_write, &sink).await;
                assert_eq!(bytes, written);
                assert_eq!(calls, expected, "{wrapped:?}, vectored: {vectored}, max_write: {max_write}");
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

/// The operation lasts from the first poll to the result.
#[tokio::test]
async fn a_write_is_one_operation_however_often_it_is_polled() {
    let sink = TraceSink::new();
    let (made, written) = calls(Wrapped::Traced, true, 1000, &sink).await;
    let conn = sink.snapshot("").tcp_conns[0].clone();
    let ops = conn.socket_trace.expect("operations").socket_ops;
    let writes: Vec<_> = ops.iter().filter(|op| op.r#type == SocketOpType::Write).collect();
    assert_eq!(writes.iter().map(|op| u64::from(op.data_len)).sum::<u64>(), written.len() as u64);
    let polls = made.iter().filter(|call| matches!(call, Call::WriteVectored(_) | Call::Write(_))).count();
    assert_eq!(writes.len() * 2, polls, "the mock is pending at every other poll");
    assert!(ops.iter().all(|op| op.return_at >= op.call_at));
}

#[tokio::test]
async fn a_traced_stream_carries_any_protocol() {
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
    assert_eq!(conn.end_reason, Some(EndReason::Closed), "the record ends with `into_inner`");

    let untraced = TcpConnector::new(&TraceSink::disabled());
    let (stream, _) = tokio::join!(untraced.connect(addr), listener.accept());
    let stream = stream.unwrap();
    assert!(stream.conn_id().is_undefined() && stream.conn_ref().is_none() && stream.is_write_vectored());
}

/// The preset wraps the stream once more, and must pass vectored writes through.
#[tokio::test]
async fn the_preset_writes_head_and_body_in_one_call() {
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
