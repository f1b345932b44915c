//! Requests that come over accepted connections.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::service::service_fn;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use nettrace::{
    Client, TraceSink,
    record::{EndReason, HttpReqTrace, NetTrace},
    server::{ConnInfo, TraceListener, TraceServerLayer},
    wire::WireListener,
};
use std::{convert::Infallible, future::IntoFuture as _, net::SocketAddr, sync::Arc};
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
async fn a_request_without_a_response_is_recorded_when_its_connection_ends() {
    let server = Server::start(false).await;
    server.gate.acquire().await.unwrap().forget();
    let mut client = TcpStream::connect(server.addr).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    wait::until("it is read", || {
        server.sink.snapshot("").tcp_conns.iter().any(|conn| conn.total_recv_bytes > 0)
    })
    .await;
    drop(client);
    let trace = server.finished(1).await;
    assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::PeerClosed));
    assert!(trace.http_requests[0].seen_on_wire);
}

#[tokio::test]
async fn a_response_may_end_with_the_connection() {
    let sink = TraceSink::new();
    let listener = TraceListener::new(&sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addr = listener.local_addr().unwrap();
    let mut listener = WireListener::new(&sink, listener);
    let mut client = TcpStream::connect(addr).await.unwrap();
    let (mut io, _) = listener.accept().await.unwrap();
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    io.read_exact(&mut [0; 18]).await.unwrap();
    io.write_all(b"HTTP/1.0 200 OK\r\n\r\nall of it").await.unwrap();
    io.shutdown().await.unwrap();
    drop(io);
    let trace = sink.snapshot("");
    let request = &trace.http_requests[0];
    assert_eq!((request.resp_content_len, request.end_reason.clone()), (9, Some(EndReason::Closed)));
}

/// Routers call the layer only after the request was read, and read on in between.
#[tokio::test]
async fn requests_of_axum_have_one_record() {
    for (h2, has_layer) in [(false, false), (false, true), (true, false), (true, true)] {
        let sink = TraceSink::new();
        let listener = TraceListener::new(&sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let listener = WireListener::new(&sink, listener);
        let app = axum::Router::new().fallback(async || "hello");
        let app = if has_layer {
            app.layer(TraceServerLayer::new(&sink).boxed(axum::body::Body::new))
        } else {
            app
        };
        let app = app.into_make_service_with_connect_info::<ConnInfo>();
        let serving = tokio::spawn(axum::serve(listener, app).into_future());
        let client: legacy::Client<_, Empty<Bytes>> =
            legacy::Client::builder(TokioExecutor::new()).http2_only(h2).build_http();
        for _ in 0..3 {
            client.get(url.parse().unwrap()).await.unwrap().into_body().collect().await.unwrap();
        }
        drop(client);
        let ended = |request: &HttpReqTrace| request.end_reason.is_some();
        wait::until("the requests have ended", || {
            let trace = sink.snapshot("");
            trace.http_requests.len() >= 3 && trace.http_requests.iter().all(ended)
        })
        .await;
        let trace = sink.snapshot("");
        assert_eq!(trace.http_requests.len(), 3, "{h2} {has_layer}");
        assert!(trace.http_requests.iter().all(|request| request.seen_on_wire != has_layer));
        serving.abort();
    }
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
