//! PostgreSQL: tokio-postgres over traced connections to Debian's server.

use std::{error::Error, future::ready, io, net::SocketAddr};

use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use nettrace::{
    Failure, NetTrace, TraceSink,
    connect::{TcpConnector, TraceConnectLayer, TracedIo},
    record::EndReason,
    tls::{MaybeTlsStream, Roots, TraceTlsLayer},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixStream},
    task::JoinHandle,
};
use tokio_postgres::{
    Client, Connection, NoTls, SimpleQueryMessage, config::SslMode, error::SqlState, tls::ChannelBinding,
    tls::TlsConnect, tls::TlsStream,
};
use tower::{Layer as _, ServiceExt as _, service_fn};

use test_support::delegate_io;
use test_support::{
    check,
    pki::Authority,
    postgres::{PASSWORD, Postgres},
    require::require_tool,
};

type Driver = JoinHandle<Result<(), tokio_postgres::Error>>;

async fn connect(sink: &TraceSink, postgres: &Postgres) -> (Client, Driver) {
    let stream = TcpConnector::new(sink).connect(postgres.addr.to_string()).await.unwrap();
    drive(postgres.config().connect_raw(stream, NoTls).await.unwrap())
}

fn drive<S, T>((client, driver): (Client, Connection<S, T>)) -> (Client, Driver)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    (client, tokio::spawn(driver))
}

async fn query_number(client: &Client, query: &str) -> i32 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_session_is_traced() {
    require_tool!("initdb", "postgres");
    let postgres = Postgres::start(None);
    let sink = TraceSink::new();
    let (client, driver) = connect(&sink, &postgres).await;
    assert_eq!(query_number(&client, "SELECT 1 + 1").await, 2);
    let port =
        query_number(&client, "SELECT client_port FROM pg_stat_activity WHERE pid = pg_backend_pid()").await;
    let large = client.query_one("SELECT repeat('x', 1000000)", &[]).await.unwrap();
    assert_eq!(large.get::<_, &str>(0).len(), 1_000_000);
    let error = client.query_one("SELECT 1 / 0", &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO));
    check::running(&sink.snapshot("in the session"));
    drop(client);
    driver.await.unwrap().unwrap();

    let trace = sink.snapshot("after it");
    check::finished(&trace);
    let [conn] = &trace.tcp_conns[..] else { panic!("not one connection") };
    assert_eq!(i32::from(conn.addr_tuple.src_port), port, "as the server sees it");
    assert_eq!(conn.addr_tuple.dst_port, postgres.addr.port());
    assert_eq!(trace.dials[0].established_conn, conn.trace_id);
    assert_eq!(trace.dials[0].dst_address, postgres.addr.to_string());
    assert!(conn.total_recv_bytes > 1_000_000);
    assert_eq!(conn.failure, None);
    assert!(!serde_json::to_string(&trace).unwrap().contains(PASSWORD));
}

#[tokio::test]
async fn the_server_can_end_the_session() {
    require_tool!("initdb", "postgres");
    let postgres = Postgres::start(None);
    let (sink, other) = (TraceSink::new(), TraceSink::new());
    let (client, driver) = connect(&sink, &postgres).await;
    let (killer, _driver) = connect(&other, &postgres).await;
    // Not `query_one`, which closes its prepared statement afterwards: the server's error would be the reply to that.
    let messages = client.simple_query("SELECT pg_backend_pid()").await.unwrap();
    let pid = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse::<i32>().ok(),
        _ => None,
    });
    let pid = pid.expect("a number");
    let row = killer.query_one("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    let error = driver.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::ADMIN_SHUTDOWN));
    let trace = sink.snapshot("");
    check::finished(&trace);
    assert_eq!((trace.tcp_conns.len(), trace.tcp_conns[0].failure.clone()), (1, None));
}

#[tokio::test]
async fn a_refused_connection_is_recorded() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let sink = TraceSink::new();
    let error = TcpConnector::new(&sink).connect(free.to_string()).await.unwrap_err();
    assert_eq!(error.failure(), Failure::ConnectionRefused);
    let trace = sink.snapshot("");
    check::finished(&trace);
    assert_eq!(trace.dials[0].failure, Some(Failure::ConnectionRefused));
    assert_eq!(trace.tcp_conns[0].failure, Some(Failure::ConnectionRefused));
}

#[tokio::test]
async fn a_session_over_a_unix_socket_is_traced() {
    require_tool!("initdb", "postgres");
    let postgres = Postgres::start(None);
    let (sink, path) = (TraceSink::new(), postgres.socket());
    let socket = path.clone();
    let connector = service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let connector = TraceConnectLayer::new(&sink).layer(connector);
    let stream = connector.oneshot("postgresql://localhost:5432".parse().unwrap()).await.unwrap();
    let (client, driver) = drive(postgres.config().connect_raw(TokioIo::new(stream), NoTls).await.unwrap());
    assert_eq!(query_number(&client, "SELECT 2 + 2").await, 4);
    drop(client);
    driver.await.unwrap().unwrap();
    let trace = sink.snapshot("");
    check::finished(&trace);
    let [conn] = &trace.tcp_conns[..] else { panic!("not one connection") };
    assert_eq!(conn.unix_path, socket.to_str().unwrap());
    assert!(conn.total_recv_bytes > 0 && conn.from_dial == trace.dials[0].trace_id);
}

/// A TLS connector for tokio-postgres that passes the stream to the layer. It is called after the server has accepted
/// TLS.
struct Tls<'a>(&'a TraceTlsLayer);

type Traced = TracedIo<TcpStream>;
struct Secured(TokioIo<MaybeTlsStream<TokioIo<Traced>>>);

impl TlsConnect<Traced> for Tls<'_> {
    type Stream = Secured;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Secured, Self::Error>>;

    fn connect(self, stream: Traced) -> Self::Future {
        let mut stream = Some(TokioIo::new(stream));
        let none = || io::Error::from(io::ErrorKind::NotConnected);
        let tls = self.0.layer(service_fn(move |_: http::Uri| ready(stream.take().ok_or_else(none))));
        let handshake = tls.oneshot("https://localhost".parse().expect("a URI"));
        Box::pin(async { Ok(Secured(TokioIo::new(handshake.await?))) })
    }
}

impl TlsStream for Secured {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

delegate_io!(Secured);

async fn connect_tls(
    sink: &TraceSink,
    addr: SocketAddr,
    postgres: &Postgres,
    trusted: &Authority,
) -> Result<(Client, Driver), tokio_postgres::Error> {
    let layer = TraceTlsLayer::builder(sink).roots(Roots::from_pem(trusted.pem()).unwrap()).build();
    let stream = TcpConnector::new(sink).connect(addr.to_string()).await.unwrap();
    let mut config = postgres.config();
    config.ssl_mode(SslMode::Require).connect_raw(stream, Tls(&layer)).await.map(drive)
}

/// Returns the only tunnel of the trace, after asserting that it is over the only connection.
fn only_tunnel(trace: &NetTrace) -> &nettrace::record::TlsTunnelTrace {
    check::finished(trace);
    let ([tunnel], [conn]) = (&trace.tls_tunnels[..], &trace.tcp_conns[..]) else {
        panic!("not one tunnel and one connection")
    };
    assert_eq!(tunnel.tcp_conn, conn.trace_id);
    tunnel
}

#[tokio::test]
async fn tls_after_a_plaintext_message_is_traced() {
    require_tool!("initdb", "postgres");
    let authority = Authority::new("nettrace test CA");
    let leaf = authority.issue(&["localhost"]);
    let postgres = Postgres::start(Some((&leaf.pem, &leaf.key_pem())));

    let sink = TraceSink::new();
    let (client, driver) = connect_tls(&sink, postgres.addr, &postgres, &authority).await.unwrap();
    let ssl = "SELECT version || ' ' || cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let session: String = client.query_one(ssl, &[]).await.unwrap().get(0);
    drop(client);
    driver.await.unwrap().unwrap();
    let trace = sink.snapshot("");
    let tunnel = only_tunnel(&trace);
    let suite =
        if tunnel.cipher_suite == 0x1302 { "TLS_AES_256_GCM_SHA384" } else { "TLS_AES_128_GCM_SHA256" };
    assert_eq!(session, format!("{} {suite}", tunnel.tls_version), "as the server sees it");
    assert_eq!(tunnel.peer_certs[0].sans, ["localhost"]);
    let first = trace.tcp_conns[0].socket_trace.as_ref().unwrap().socket_ops.iter().next().unwrap();
    assert_eq!(first.data_len, 8, "the message SSLRequest");

    let sink = TraceSink::new();
    let stranger = Authority::new("another");
    connect_tls(&sink, postgres.addr, &postgres, &stranger).await.map(drop).unwrap_err();
    let trace = sink.snapshot("");
    let tunnel = only_tunnel(&trace);
    assert_eq!(tunnel.failure, Some(Failure::SslUnknownAuthority));
    assert_eq!((&tunnel.end_reason, tunnel.peer_certs.len()), (&Some(EndReason::Failed), 2));
}
