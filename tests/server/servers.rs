//! Traced and untraced hyper servers, which answer according to the path of a request.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    io,
    net::SocketAddr,
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use nettrace::{
    NetTrace, TraceSink,
    record::{HttpReqTrace, TcpConnTrace},
    server::{Accept, TraceListener, TraceServerLayer, TracedStream},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tower::Layer as _;

use test_support::{check, wait};

pub type Content = UnsyncBoxBody<Bytes, io::Error>;

/// A server that stops when it is dropped.
pub struct TestServer {
    pub sink: TraceSink,
    pub addr: SocketAddr,
    pub gate: Gate,
    _tasks: JoinSet<()>,
}

/// Holds requests until the test releases them, and lets the test wait for a held request.
#[derive(Clone, Default)]
pub struct Gate {
    held: Option<Arc<Semaphore>>,
    released: Option<Arc<Semaphore>>,
}

impl Gate {
    pub fn new() -> Self {
        let closed = || Some(Arc::new(Semaphore::new(0)));
        Gate { held: closed(), released: closed() }
    }

    /// Waits until a request is held.
    pub async fn holds_one(&self) {
        self.held.as_ref().unwrap().acquire().await.unwrap().forget();
    }

    pub fn release_one(&self) {
        self.released.as_ref().unwrap().add_permits(1);
    }

    async fn pass(&self) {
        self.held.as_ref().unwrap().add_permits(1);
        self.released.as_ref().unwrap().acquire().await.unwrap().forget();
    }
}

impl TestServer {
    pub async fn start(sink: &TraceSink) -> Self {
        let listener = TraceListener::new(sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
        Self::on(sink, listener)
    }

    pub fn on<A>(sink: &TraceSink, mut listener: A) -> Self
    where
        A: Accept<Addr = SocketAddr> + Send + 'static,
        A::Io: AsyncRead + AsyncWrite + TracedStream + Unpin + Send + 'static,
    {
        let addr = listener.local_addr().unwrap();
        let (gate, mut tasks) = (Gate::new(), JoinSet::new());
        let (layer, server_gate) = (TraceServerLayer::new(sink), gate.clone());
        tasks.spawn(async move {
            let mut conns = JoinSet::new();
            loop {
                let (io, _) = tokio::select! {
                    accepted = poll_fn(|cx| listener.poll_accept(cx)) => accepted.unwrap(),
                    Some(_) = conns.join_next() => continue,
                };
                let gate = server_gate.clone();
                let service = service_fn(move |request| answer(request, gate.clone()));
                let service = layer.clone().conn(io.conn_ref()).layer(service);
                conns.spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // The client may end the connection in any way.
                    _ = server.serve_connection_with_upgrades(TokioIo::new(io), service).await;
                });
            }
        });
        TestServer { sink: sink.clone(), addr, gate, _tasks: tasks }
    }

    /// Starts the same server without tracing.
    pub async fn untraced() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, gate, mut tasks) = (listener.local_addr().unwrap(), Gate::new(), JoinSet::new());
        let server_gate = gate.clone();
        tasks.spawn(async move {
            let mut conns = JoinSet::new();
            loop {
                let (io, _) = listener.accept().await.unwrap();
                let gate = server_gate.clone();
                let service = service_fn(move |request| answer(request, gate.clone()));
                conns.spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    _ = server.serve_connection_with_upgrades(TokioIo::new(io), service).await;
                });
            }
        });
        TestServer { sink: TraceSink::disabled(), addr, gate, _tasks: tasks }
    }

    /// Starts three servers: untraced, traced, and traced with a disabled sink.
    pub async fn each() -> [(&'static str, Self); 3] {
        [
            ("untraced", TestServer::untraced().await),
            ("traced", TestServer::start(&TraceSink::new()).await),
            ("off", TestServer::start(&TraceSink::disabled()).await),
        ]
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Waits until every record has ended, and returns the trace.
    pub async fn finished(&self) -> NetTrace {
        settled(&self.sink, conns_ended).await
    }

    /// Waits until the only request has ended, and returns it.
    pub async fn request(&self) -> HttpReqTrace {
        let ended = |trace: &NetTrace| trace.http_requests.iter().any(|request| request.end_reason.is_some());
        let trace = settled_running(&self.sink, ended).await;
        assert_eq!(trace.http_requests.len(), 1);
        trace.http_requests[0].clone()
    }
}

/// Waits until the trace satisfies the condition, and asserts that every record has ended.
#[track_caller]
pub fn settled(sink: &TraceSink, condition: impl Fn(&NetTrace) -> bool) -> impl Future<Output = NetTrace> {
    let trace = settled_running(sink, condition);
    async move {
        let trace = trace.await;
        check::finished(&trace);
        trace
    }
}

/// Waits until the trace satisfies the condition. Records may still be open.
#[track_caller]
pub fn settled_running(
    sink: &TraceSink,
    condition: impl Fn(&NetTrace) -> bool,
) -> impl Future<Output = NetTrace> {
    let trace = wait::until_some("a trace that satisfies the condition", move || {
        Some(sink.snapshot("")).filter(&condition)
    });
    async move {
        let trace = trace.await;
        check::running(&trace);
        trace
    }
}

/// Returns `true` if there was a connection and every connection has ended. A condition for [`settled`].
pub fn conns_ended(trace: &NetTrace) -> bool {
    !trace.tcp_conns.is_empty() && trace.tcp_conns.iter().all(|conn| conn.end_reason.is_some())
}

/// Returns the connection of a request.
#[track_caller]
pub fn conn_of<'a>(trace: &'a NetTrace, request: &HttpReqTrace) -> &'a TcpConnTrace {
    trace.tcp_conns.get(&request.tcp_conn).expect("a linked connection")
}

/// Sends a request over a new connection and returns everything that is received.
pub async fn ask(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Returns an HTTP/1.1 request with `connection: close`.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: web.test\r\nconnection: close\r\n\r\n")
}

pub async fn answer<B>(mut request: Request<B>, gate: Gate) -> Result<Response<Content>, io::Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let chunks = |chunks: Vec<io::Result<Frame<Bytes>>>| StreamBody::new(stream::iter(chunks)).boxed_unsync();
    let data = |bytes: &'static str| Ok(Frame::data(Bytes::from(bytes)));
    let response = match request.uri().path() {
        "/echo" => {
            let body = request.into_body().collect().await.map_err(io::Error::other)?;
            Response::new(whole(body.to_bytes()))
        }
        "/stream" => Response::new(chunks(vec![data("one"), data("two")])),
        "/sized" => {
            let body = stream::iter([data("hello")]).chain(stream::pending());
            let response = Response::builder().header(header::CONTENT_LENGTH, 5);
            response.body(StreamBody::new(body).boxed_unsync()).unwrap()
        }
        "/trailers" => {
            let trailers = HeaderMap::from_iter([("x-last".parse().unwrap(), "yes".parse().unwrap())]);
            let body = chunks(vec![data("hello"), Ok(Frame::trailers(trailers))]);
            Response::builder().header(header::TRAILER, "x-last").body(body).unwrap()
        }
        "/empty" => status(204),
        "/missing" => status(404),
        "/panic" => panic!("deliberate panic"),
        "/panic-in-body" => {
            let panicking =
                stream::poll_fn(|_| -> Poll<Option<io::Result<Frame<Bytes>>>> { panic!("deliberate panic") });
            Response::new(StreamBody::new(panicking).boxed_unsync())
        }
        "/error" => return Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
        "/error-in-body" => Response::new(chunks(vec![data("some"), Err(io::Error::other("no more of it"))])),
        "/hold" => {
            gate.pass().await;
            Response::new(whole("held"))
        }
        "/hold-body" => {
            let body = stream::iter([data("some")]).chain(stream::once(async move {
                gate.pass().await;
                data("more")
            }));
            Response::new(StreamBody::new(body).boxed_unsync())
        }
        "/never" => {
            gate.held.as_ref().unwrap().add_permits(1);
            pending().await
        }
        "/upgrade" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let (mut reader, mut writer) = tokio::io::split(&mut io);
                tokio::io::copy(&mut reader, &mut writer).await.unwrap();
                writer.shutdown().await.unwrap();
            });
            let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
            response
                .header(header::UPGRADE, "echo")
                .header(header::CONNECTION, "upgrade")
                .body(whole(""))
                .unwrap()
        }
        _ => Response::new(whole("hello")),
    };
    Ok(response)
}

fn whole(body: impl Into<Bytes>) -> Content {
    Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn status(code: u16) -> Response<Content> {
    let mut response = Response::new(whole(""));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
