//! A gRPC server of tonic with a traced listener.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use hyper_util::rt::TokioIo;
use nettrace::{
    HeaderCapture, TraceSink,
    record::{EndReason, NetTrace},
    server::{TraceListener, TraceServerLayer, TraceTlsAcceptor},
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::oneshot,
    task::JoinHandle,
};
use tonic::{
    Request, Status,
    transport::{
        Certificate, Channel, ClientTlsConfig, Endpoint, Server,
        server::{TcpIncoming, UdsConnectInfo},
    },
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::servers::{conn_of, conns_ended, settled};
use test_support::pki::{self, Authority};

/// A gRPC server that [`finished`](Self::finished) shuts down gracefully.
struct TestServer {
    sink: TraceSink,
    port: u16,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl TestServer {
    async fn start(tls: Option<rustls::ServerConfig>) -> Self {
        let sink = TraceSink::builder().headers(HeaderCapture::Values).build();
        let listener = TraceListener::new(&sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
        let port = listener.local_addr().unwrap().port();
        let (_, health) = tonic_health::server::health_reporter();
        // A service sees the client's address as it does without tracing.
        let check_peer = move |request: Request<()>| match request.remote_addr() {
            Some(peer) if peer.ip().is_loopback() && request.local_addr().unwrap().port() == port => {
                Ok(request)
            }
            peer => Err(Status::internal(format!("{peer:?}"))),
        };
        let router = Server::builder()
            .layer(TraceServerLayer::new(&sink))
            .layer(tonic::service::InterceptorLayer::new(check_peer))
            .add_service(health);
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { stopped.await.unwrap() };
        let server = match tls {
            None => tokio::spawn(router.serve_with_incoming_shutdown(listener.incoming(), stopped)),
            Some(config) => {
                let listener = listener.tls(TraceTlsAcceptor::new(&sink, Arc::new(config)));
                tokio::spawn(router.serve_with_incoming_shutdown(listener.incoming(), stopped))
            }
        };
        TestServer { sink, port, stop, server }
    }

    /// Makes one call for a known service, and one for an unknown service.
    async fn ask(&self, channel: Channel) {
        let mut client = HealthClient::new(channel);
        for (service, known) in [("", true), ("nobody", false)] {
            let asked = client.check(HealthCheckRequest { service: service.into() }).await;
            assert_eq!(asked.is_ok(), known, "{asked:?}");
        }
    }

    /// Shuts the server down, and returns the trace, in which every record must have ended.
    async fn finished(self) -> NetTrace {
        self.stop.send(()).unwrap();
        self.server.await.unwrap().unwrap();
        settled(&self.sink, conns_ended).await
    }
}

fn check(trace: &NetTrace, scheme: &str, port: u16) {
    assert_eq!((trace.http_requests.len(), trace.tcp_conns.len()), (2, 1));
    for request in &trace.http_requests {
        assert!(request.accepted && request.proto_major == 2);
        assert_eq!((request.resp_status_code, &request.end_reason), (200, &Some(EndReason::Closed)));
        assert_eq!(conn_of(trace, request).addr_tuple.src_port, port);
        assert!(request.req_url.ends_with("/grpc.health.v1.Health/Check"), "{}", request.req_url);
        assert!(request.req_url.starts_with(scheme), "{}", request.req_url);
    }
    let [known, unknown] = &trace.http_requests[..] else { unreachable!() };
    assert_eq!(known.trailers.get("grpc-status").unwrap().field_val, "0");
    assert_eq!(unknown.resp_header.get("grpc-status").unwrap().field_val, "5", "a trailers-only response");
}

#[tokio::test]
async fn calls_are_linked_to_their_connection() {
    let site = TestServer::start(None).await;
    let port = site.port;
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    site.ask(endpoint.connect().await.unwrap()).await;
    check(&site.finished().await, "http://", port);
}

#[tokio::test]
async fn calls_over_tls_are_linked_to_their_tunnel() {
    let authority = Authority::new("nettrace test CA");
    let mut config = authority.issue(&["localhost"]).server();
    config.alpn_protocols = vec![b"h2".into()];
    let site = TestServer::start(Some(config)).await;
    let port = site.port;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .domain_name("localhost");
    let endpoint =
        Endpoint::from_shared(format!("https://127.0.0.1:{port}")).unwrap().tls_config(tls).unwrap();
    site.ask(endpoint.connect().await.unwrap()).await;
    let trace = site.finished().await;
    check(&trace, "https://", port);
    assert_eq!((trace.tls_tunnels.len(), trace.tls_tunnels[0].negotiated_proto.as_str()), (1, "h2"));
    assert!(trace.http_requests.iter().all(|request| request.tls_tunnel == trace.tls_tunnels[0].trace_id));
}

#[tokio::test]
async fn calls_over_a_unix_socket_are_linked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let sink = TraceSink::new();
    let listener = TraceListener::new(&sink, UnixListener::bind(&path).unwrap());
    let (_, health) = tonic_health::server::health_reporter();
    let own_pid = std::process::id().cast_signed();
    let check_peer = move |request: Request<()>| {
        let info = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
        let is_own = info.and_then(|peer| peer.pid()) == Some(own_pid);
        if is_own { Ok(request) } else { Err(Status::internal(format!("{info:?}"))) }
    };
    let router = Server::builder()
        .layer(TraceServerLayer::new(&sink))
        .layer(tonic::service::InterceptorLayer::new(check_peer))
        .add_service(health);
    let server = tokio::spawn(router.serve_with_incoming(listener.incoming()));
    let socket = path.clone();
    let connector = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://socket.test");
    let mut client = HealthClient::new(endpoint.connect_with_connector(connector).await.unwrap());
    client.check(HealthCheckRequest { service: String::new() }).await.unwrap();
    drop(client);
    let trace = settled(&sink, conns_ended).await;
    assert_eq!(conn_of(&trace, &trace.http_requests[0]).unix_path, path.to_str().unwrap());
    server.abort();
}

/// Returns the options of an accepted socket: `TCP_NODELAY`, and keep-alive with its time, interval and retries.
fn options(stream: &TcpStream) -> (bool, bool, Duration, Duration, u32) {
    let socket = SockRef::from(stream);
    (
        socket.tcp_nodelay().unwrap(),
        socket.keepalive().unwrap(),
        socket.tcp_keepalive_time().unwrap(),
        socket.tcp_keepalive_interval().unwrap(),
        socket.tcp_keepalive_retries().unwrap(),
    )
}

/// Returns the options of a socket that tonic's own listener accepts.
async fn untraced(set: impl FnOnce(TcpIncoming) -> TcpIncoming) -> (bool, bool, Duration, Duration, u32) {
    let mut incoming = set(TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap());
    let _client = TcpStream::connect(incoming.local_addr().unwrap()).await.unwrap();
    options(&incoming.next().await.unwrap().unwrap())
}

type Listener = TraceListener<TcpListener>;

/// Returns the options of a socket that a traced listener accepts.
async fn traced(set: impl FnOnce(Listener) -> Listener) -> (bool, bool, Duration, Duration, u32) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listener = set(TraceListener::new(&TraceSink::new(), listener));
    let addr = listener.local_addr().unwrap();
    let mut incoming = listener.incoming();
    let _client = TcpStream::connect(addr).await.unwrap();
    options(incoming.next().await.unwrap().unwrap().get_ref())
}

/// The options are those of tonic's own listener, and by default those that `Server::serve` sets.
#[tokio::test]
async fn accepted_sockets_have_the_options_of_tonics_listener() {
    let time = Duration::from_secs;
    assert_eq!(
        traced(|listener| listener).await,
        untraced(|incoming| incoming.with_nodelay(Some(true))).await
    );
    for nodelay in [true, false] {
        let ours = traced(|listener| listener.with_nodelay(nodelay)).await;
        assert_eq!(ours, untraced(|incoming| incoming.with_nodelay(Some(nodelay))).await);
        assert_eq!(ours.0, nodelay);
    }
    let ours = traced(|listener| listener.with_nodelay(None)).await;
    assert_eq!(ours, untraced(|incoming| incoming.with_nodelay(None)).await);
    let ours = traced(|listener| {
        listener
            .with_nodelay(None)
            .with_keepalive(time(77))
            .with_keepalive_interval(time(7))
            .with_keepalive_retries(5)
    });
    let ours = ours.await;
    let theirs = untraced(|incoming| {
        incoming
            .with_keepalive(Some(time(77)))
            .with_keepalive_interval(Some(time(7)))
            .with_keepalive_retries(Some(5))
    });
    assert_eq!(ours, theirs.await);
    assert_eq!(ours, (false, true, time(77), time(7), 5));
}

/// `accept` leaves the socket unchanged. `incoming`, which is made for tonic, sets `TCP_NODELAY`, with TLS as without.
#[tokio::test]
async fn only_incoming_sets_nodelay_by_default() {
    let sink = TraceSink::new();
    let listener = TraceListener::new(&sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addr = listener.local_addr().unwrap();
    let _client = TcpStream::connect(addr).await.unwrap();
    assert!(!listener.accept().await.unwrap().0.get_ref().nodelay().unwrap());

    let authority = Authority::new("nettrace test CA");
    let acceptor = TraceTlsAcceptor::new(&sink, Arc::new(authority.issue(&["localhost"]).server()));
    let mut incoming = listener.tls(acceptor).incoming();
    let config = rustls::ClientConfig::builder_with_provider(pki::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.store())
        .with_no_client_auth();
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(addr).await.unwrap();
    let client = tls.connect("localhost".try_into().unwrap(), stream);
    let (_client, accepted) = tokio::join!(client, incoming.next());
    assert!(accepted.unwrap().unwrap().get_ref().0.get_ref().nodelay().unwrap());
}
