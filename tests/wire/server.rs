//! Requests that come over accepted connections.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use nettrace::{
    Client, TraceSink,
    record::{EndReason, HttpReqTrace, NetTrace},
    server::{TraceListener, TraceServerLayer},
    wire::WireListener,
};
use std::{convert::Infallible, net::SocketAddr, sync::Arc};
use test_support::wait;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tower::{Layer as _, ServiceExt as _};

/// A server whose connections are read, and which answers each request with its body once the gate is open.
struct Server {
    sink: TraceSink,
    addr: SocketAddr,
    gate: Arc<Semaphore>,
    _tasks: JoinSet<()>,
}

async fn echo<B>(gate: Arc<Semaphore>, request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible>
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let body = request.into_body().collect().await.unwrap().to_bytes();
    drop(gate.acquire().await.unwrap());
    Ok(Response::new(body.into()))
}

impl Server {
    /// Starts a server, with a layer around its service or without one.
    async fn start(has_layer: bool) -> Self {
        let (sink, gate) = (TraceSink::new(), Arc::new(Semaphore::new(1)));
        let listener = TraceListener::new(&sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
        let addr = listener.local_addr().unwrap();
        let mut listener = WireListener::new(&sink, listener);
        let (layer, open) = (TraceServerLayer::new(&sink), gate.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut conns = JoinSet::new();
            loop {
                let (io, _) = listener.accept().await.unwrap();
                let gate = open.clone();
                let layer = has_layer.then(|| {
                    use nettrace::server::TracedStream as _;
                    layer.clone().conn(io.conn_ref())
                });
                conns.spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let io = TokioIo::new(io);
                    let _ = match layer {
                        None => server.serve_connection(io, service_fn(|r| echo(gate.clone(), r))).await,
                        Some(layer) => {
                            let service = layer.layer(service_fn(|r| echo(gate.clone(), r)));
                            server.serve_connection(io, service).await
                        }
                    };
                });
            }
        });
        Server { sink, addr, gate, _tasks: tasks }
    }

    fn url(&self) -> String {
        format!("http://{}/a", self.addr)
    }

    /// Returns the trace once all requests have ended.
    async fn finished(&self, requests: usize) -> NetTrace {
        let ended = |request: &HttpReqTrace| request.end_reason.is_some();
        wait::until("the requests have ended", || {
            let trace = self.sink.snapshot("");
            trace.http_requests.len() == requests && trace.http_requests.iter().all(ended)
        })
        .await;
        self.sink.snapshot("")
    }
}

#[tokio::test]
async fn requests_are_read_as_a_layer_around_the_service_would_see_them() {
    for h2 in [false, true] {
        let version = if h2 { nettrace::client::HttpVersion::Http2Only } else { Default::default() };
        let mut seen = Vec::new();
        for has_layer in [false, true] {
            let server = Server::start(has_layer).await;
            let client = Client::builder(&TraceSink::disabled()).http_version(version).build().unwrap();
            for body in ["", "some bytes", &"x".repeat(100_000)] {
                let request =
                    Request::post(server.url()).body(Full::new(Bytes::from(body.to_owned()))).unwrap();
                let response = client.clone().oneshot(request).await.unwrap();
                assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), body.len());
            }
            drop(client);
            let trace = server.finished(3).await;
            assert!(trace.http_requests.iter().all(|request| request.seen_on_wire != has_layer));
            let facts = |request: &HttpReqTrace| {
                assert!(request.accepted && request.req_url == server.url());
                assert_eq!(request.tcp_conn, trace.tcp_conns[0].trace_id);
                assert!(request.resp_recv_at >= request.req_body_end_at);
                (
                    request.proto_major,
                    request.req_content_len,
                    request.resp_content_len,
                    request.resp_status_code,
                )
            };
            seen.push(trace.http_requests.iter().map(facts).collect::<Vec<_>>());
        }
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[0].len(), 3);
    }
}

#[tokio::test]
async fn a_request_is_in_the_trace_while_it_is_answered() {
    let server = Server::start(false).await;
    server.gate.acquire().await.unwrap().forget();
    let mut client = TcpStream::connect(server.addr).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody").await.unwrap();
    let is_there =
        || server.sink.snapshot("").http_requests.iter().any(|request| request.req_content_len == 4);
    wait::until("the request is seen", is_there).await;
    let trace = server.sink.snapshot("");
    assert_eq!((trace.http_requests[0].resp_status_code, &trace.http_requests[0].end_reason), (0, &None));
    drop(client);
    let trace = server.finished(1).await;
    assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::PeerClosed));
}

#[tokio::test]
async fn what_is_no_http_is_answered_as_before() {
    let server = Server::start(false).await;
    let mut client = TcpStream::connect(server.addr).await.unwrap();
    client.write_all(b"hello\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let trace = server.sink.snapshot("");
    assert!(trace.http_requests.is_empty());
    let wire = trace.tcp_conns[0].wire.as_deref().unwrap();
    assert_eq!(wire.stop_reason, Some(nettrace::record::WireStop::NotHttp));
}
