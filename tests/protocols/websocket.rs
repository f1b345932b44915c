//! WebSockets (RFC 6455): tokio-tungstenite over a connection that the preset upgraded.

use std::{convert::Infallible, future::poll_fn, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::{body::Incoming, service::service_fn, upgrade::Upgraded};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use nettrace::{
    Client, NetTrace, TraceSink,
    client::Body,
    record::{EndReason, HttpReqTrace, TcpConnTrace},
    request::TraceBody,
    server::{Accept, TraceListener, TraceServerLayer, TraceTlsAcceptor, TracedStream},
    tls::Roots,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::ProtocolError,
        handshake::{client::generate_key, derive_accept_key},
        protocol::Role,
    },
};
use tower::Layer as _;

use test_support::{check, pki::Authority, wait};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A server that echoes messages, and drops the connection when it receives `bye`. Dropping it stops the server.
struct Echo {
    sink: TraceSink,
    addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Echo {
    async fn start() -> Self {
        let sink = TraceSink::new();
        let listener = TraceListener::new(&sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
        Self::on(sink, listener)
    }

    fn on<A>(sink: TraceSink, mut listener: A) -> Self
    where
        A: Accept<Addr = SocketAddr> + Send + 'static,
        A::Io: AsyncRead + AsyncWrite + TracedStream + Unpin + Send + 'static,
    {
        let (addr, mut tasks) = (listener.local_addr().unwrap(), JoinSet::new());
        let requests = TraceServerLayer::new(&sink);
        tasks.spawn(async move {
            let mut conns = JoinSet::new();
            while let Ok((io, _)) = poll_fn(|cx| listener.poll_accept(cx)).await {
                let service = requests.clone().conn(io.conn_ref()).layer(service_fn(switch));
                conns.spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    server.serve_connection_with_upgrades(TokioIo::new(io), service).await.unwrap();
                });
            }
        });
        Echo { sink, addr, _tasks: tasks }
    }

    /// Waits until the only connection has ended, and returns the trace.
    async fn finished(&self) -> NetTrace {
        ended(&self.sink).await
    }
}

/// Waits until every connection has ended, and returns the trace, in which every record must have ended.
async fn ended(sink: &TraceSink) -> NetTrace {
    let ended = wait::until_some("the end of all connections", || {
        let trace = sink.snapshot("");
        trace.tcp_conns.iter().all(|conn| conn.end_reason.is_some()).then_some(trace)
    });
    let trace = ended.await;
    check::finished(&trace);
    trace
}

async fn switch(mut request: Request<TraceBody<Incoming>>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let io = TokioIo::new(upgrade.await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message == Message::text("bye") {
                return; // without a close frame
            }
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let key = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    let response = response.header("connection", "upgrade").header("upgrade", "websocket");
    Ok(response.header("sec-websocket-accept", key).body(Empty::new()).unwrap())
}

async fn open(client: &Client, url: &str) -> Socket {
    let key = generate_key();
    let request = Request::get(url).header("connection", "upgrade").header("upgrade", "websocket");
    let request = request.header("sec-websocket-version", "13").header("sec-websocket-key", &key);
    let response = client.request(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-accept"], derive_accept_key(key.as_bytes()));
    let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    WebSocketStream::from_raw_socket(io, Role::Client, None).await
}

async fn talk(socket: &mut Socket) {
    for message in [Message::text("hello"), Message::binary(vec![7; 100_000]), Message::text("")] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.send(Message::Ping("!".into())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("!".into()));
}

/// Returns the only request and its connection.
fn only(trace: &NetTrace) -> (&HttpReqTrace, &TcpConnTrace) {
    let ([request], [conn]) = (&trace.http_requests[..], &trace.tcp_conns[..]) else {
        panic!("not one request and one connection")
    };
    assert_eq!(request.tcp_conn, conn.trace_id);
    assert_eq!((request.resp_status_code, &request.end_reason), (101, &Some(EndReason::Closed)));
    assert!(request.end_at <= conn.conn_close_at && request.resp_content_len == 0);
    (request, conn)
}

#[tokio::test]
async fn bytes_after_the_upgrade_are_counted_at_both_ends() {
    let echo = Echo::start().await;
    let sink = TraceSink::new();
    let client = Client::builder(&sink).build().unwrap();
    let mut socket = open(&client, &format!("http://{}/chat", echo.addr)).await;
    let before = sink.snapshot("upgraded");
    check::running(&before);
    assert_eq!(before.http_requests[0].end_reason, Some(EndReason::Closed), "the upgraded request has ended");
    assert_eq!(before.tcp_conns[0].end_reason, None, "the connection is open");

    talk(&mut socket).await;
    socket.close(None).await.unwrap();
    assert!(matches!(socket.next().await, None | Some(Ok(Message::Close(_)))));
    while socket.next().await.is_some() {}
    drop(socket);
    client.close().await;

    let [client, server] = [ended(&sink).await, echo.finished().await];
    let ((_, client), (_, server)) = (only(&client), only(&server));
    assert_eq!(client.addr_tuple, server.addr_tuple.reversed());
    assert_eq!(client.total_sent_bytes, server.total_recv_bytes);
    assert_eq!(client.total_recv_bytes, server.total_sent_bytes);
    assert!(client.total_sent_bytes > before.tcp_conns[0].total_sent_bytes + 100_000);
    assert!(client.total_recv_bytes > before.tcp_conns[0].total_recv_bytes + 100_000);
}

#[tokio::test]
async fn a_websocket_over_tls_is_traced() {
    let authority = Authority::new("nettrace test CA");
    let sink = TraceSink::new();
    let listener = TraceListener::new(&sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let config = authority.issue(&["localhost"]).server();
    let echo = Echo::on(sink.clone(), listener.tls(TraceTlsAcceptor::new(&sink, Arc::new(config))));

    let sink = TraceSink::new();
    let roots = Roots::from_pem(authority.pem()).unwrap();
    let client = Client::builder(&sink).roots(roots).build().unwrap();
    let mut socket = open(&client, &format!("https://localhost:{}/chat", echo.addr.port())).await;
    talk(&mut socket).await;
    assert_eq!(sink.snapshot("").tls_tunnels[0].end_reason, None, "the tunnel stays open after the upgrade");
    drop(socket); // without a close frame
    client.close().await;

    for trace in [ended(&sink).await, echo.finished().await] {
        let established: Vec<_> = trace.tcp_conns.iter().filter(|conn| conn.connected).collect();
        assert_eq!((established.len(), trace.tls_tunnels.len()), (1, 1));
        assert_eq!(trace.http_requests[0].tls_tunnel, trace.tls_tunnels[0].trace_id);
        assert!(established[0].total_recv_bytes > 100_000 && established[0].total_sent_bytes > 100_000);
        assert!(trace.tls_tunnels[0].end_reason.is_some());
    }
}

#[tokio::test]
async fn a_server_that_drops_the_connection_is_no_failure() {
    let echo = Echo::start().await;
    let sink = TraceSink::new();
    let client = Client::builder(&sink).build().unwrap();
    let mut socket = open(&client, &format!("http://{}/chat", echo.addr)).await;
    socket.send(Message::text("bye")).await.unwrap();
    let end = socket.next().await.unwrap().unwrap_err();
    assert!(matches!(end, Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)), "{end}");
    drop(socket);
    client.close().await;
    let trace = ended(&sink).await;
    let (_, conn) = only(&trace);
    assert_eq!((&conn.end_reason, &conn.failure), (&Some(EndReason::PeerClosed), &None));
}
