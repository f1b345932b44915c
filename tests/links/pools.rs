//! Pools that users compose from hyper-util's `client::pool` and hyper's connections.

use std::collections::HashSet;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::pool::{cache, map::Map, negotiate, singleton::Singleton};
use hyper_util::rt::TokioExecutor;
use nettrace::connect::{TcpConnector, TraceConnectLayer};
use nettrace::record::EndReason;
use nettrace::request::{OnConnection, TraceBody, TraceRequestLayer};
use nettrace::tls::{MaybeTlsStream, Roots, TraceTlsLayer};
use nettrace::{ConnRef, Failure, TraceSink};
use tower::{Layer, Service, ServiceExt, layer::layer_fn, service_fn};

use crate::clients::{BoxError, Traced, assert_linked, link, traced};
use test_support::pki::Authority;
use test_support::raw::Server;
use test_support::wait;
use test_support::web::{Web, reply};

type Body = TraceBody<Full<Bytes>>;
type ResponseFuture = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

/// An HTTP/1 connection of hyper as a tower service.
struct Http1(http1::SendRequest<Body>);

/// An HTTP/2 connection of hyper as a tower service.
#[derive(Clone)]
struct Http2(http2::SendRequest<Body>);

macro_rules! service {
    ($connection:ident) => {
        impl Service<Request<Body>> for $connection {
            type Response = Response<Incoming>;
            type Error = hyper::Error;
            type Future = ResponseFuture;

            fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
                self.0.poll_ready(cx)
            }

            fn call(&mut self, request: Request<Body>) -> ResponseFuture {
                Box::pin(self.0.send_request(request))
            }
        }
    };
}
service!(Http1);
service!(Http2);

/// A stream that hyper accepts as a connection.
trait Io:
    hyper::rt::Read + hyper::rt::Write + hyper_util::client::legacy::connect::Connection + Unpin + Send + 'static
{
}
impl<T> Io for T where
    T: hyper::rt::Read
        + hyper::rt::Write
        + hyper_util::client::legacy::connect::Connection
        + Unpin
        + Send
        + 'static
{
}

async fn handshake_http1(io: impl Io) -> Result<OnConnection<Http1>, BoxError> {
    let conn = ConnRef::of(&io);
    let (sender, connection) = http1::handshake(io).await?;
    tokio::spawn(connection);
    Ok(OnConnection::new(conn, Http1(sender)))
}

async fn handshake_http2(io: impl Io) -> Result<OnConnection<Http2>, BoxError> {
    let conn = ConnRef::of(&io);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
    tokio::spawn(connection);
    Ok(OnConnection::new(conn, Http2(sender)))
}

fn connector(sink: &TraceSink) -> nettrace::connect::TraceConnect<HttpConnector> {
    TraceConnectLayer::new(sink).layer(HttpConnector::new())
}

/// Puts the request target into origin form, as hyper's HTTP/1 connections need it.
fn in_origin_form(mut request: Request<Body>) -> Request<Body> {
    let host = request.uri().authority().expect("an authority").as_str().parse().expect("a host");
    request.headers_mut().insert("host", host);
    *request.uri_mut() = Uri::from(request.uri().path_and_query().expect("a path").clone());
    request
}

/// Returns a traced client that takes a connection from the pool and sends the request over it, after `rewrite`.
fn client_over<P, C>(
    sink: &TraceSink,
    name: &'static str,
    pool: P,
    rewrite: fn(Request<Body>) -> Request<Body>,
) -> Traced
where
    P: Service<Uri, Response = C> + Send + 'static,
    P::Error: Into<BoxError>,
    P::Future: Send + 'static,
    C: Service<Request<Body>, Response = Response<Incoming>> + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send,
{
    let pool = Arc::new(Mutex::new(pool));
    let client = service_fn(move |request: Request<Body>| {
        let connection = pool.lock().unwrap().call(request.uri().clone());
        async move {
            let mut connection = connection.await.map_err(Into::into)?;
            let ready = connection.ready().await.map_err(Into::into)?;
            ready.call(rewrite(request)).await.map_err(Into::<BoxError>::into)
        }
    });
    traced(name, sink, TraceRequestLayer::new(sink).layer(client))
}

/// Makes concurrent requests and a later one, and asserts that all are linked to their connections. Returns the number
/// of connections that were used.
async fn assert_all_linked(client: &Traced, urls: &[String]) -> usize {
    let many: Vec<_> = urls.iter().cycle().take(32).collect();
    let asked = join_all(many.iter().map(|url| client.fetch(url))).await;
    let last = client.fetch(&urls[0]).await;
    let trace = client.sink.snapshot("");
    for (request, port) in asked.iter().chain([&last]) {
        let conn = assert_linked(&trace, request, *port);
        assert!(!link(&trace, request).0.conn_acquired_at.is_undefined(), "{}", client.name);
        let dial = trace.dials.get(&conn.from_dial).unwrap();
        assert!(!dial.triggered_by.is_undefined(), "{}", client.name);
    }
    assert!(requests_on_their_own_dial(&trace) > 0, "{}", client.name);
    let used: HashSet<_> = trace.http_requests.iter().map(|request| request.tcp_conn.clone()).collect();
    used.len()
}

/// Returns the number of requests that used the connection dialled for them.
fn requests_on_their_own_dial(trace: &nettrace::NetTrace) -> usize {
    let is_own = |request: &&nettrace::record::HttpReqTrace| {
        let conn = trace.tcp_conns.get(&request.tcp_conn);
        conn.and_then(|conn| trace.dials.get(&conn.from_dial))
            .is_some_and(|d| d.triggered_by == request.trace_id)
    };
    trace.http_requests.iter().filter(is_own).count()
}

type ConnectFuture<C> = Pin<Box<dyn Future<Output = Result<OnConnection<C>, BoxError>> + Send>>;

/// Returns a service that makes HTTP/1 connections.
fn http1(
    sink: &TraceSink,
) -> impl Service<Uri, Response = OnConnection<Http1>, Error = BoxError, Future = ConnectFuture<Http1>>
+ Clone
+ Send
+ use<> {
    let connector = connector(sink);
    service_fn(move |uri: Uri| -> ConnectFuture<Http1> {
        let connector = connector.clone();
        Box::pin(async move { handshake_http1(connector.oneshot(uri).await?).await })
    })
}

#[tokio::test]
async fn requests_over_a_cache_are_linked() {
    let web = Web::start(async |_| reply("hello"));
    let sink = TraceSink::new();
    let pool = cache::builder().executor(TokioExecutor::new()).build(http1(&sink));
    let client = client_over(&sink, "cache", pool, in_origin_form);
    let [first, second] = [client.fetch(&web.url("/")).await, client.fetch(&web.url("/")).await];
    assert_eq!(first.1, second.1, "the connection is reused");
    assert_all_linked(&client, &[web.url("/")]).await;
}

#[tokio::test]
async fn requests_over_caches_by_destination_are_linked() {
    let webs = [Web::start(async |_| reply("hello")), Web::start(async |_| reply("hello"))];
    let sink = TraceSink::new();
    let make = http1(&sink);
    let mut pools = Map::builder::<Uri>()
        .keys(|uri: &Uri| uri.authority().cloned())
        .values(move |_: &Uri| cache::builder().executor(TokioExecutor::new()).build(make.clone()))
        .build();
    let pool = service_fn(move |uri: Uri| pools.service(&uri).call(uri));
    let client = client_over(&sink, "map", pool, in_origin_form);
    let urls = webs.each_ref().map(|web| web.url("/"));
    assert!(assert_all_linked(&client, &urls).await >= 2);
}

#[tokio::test]
async fn requests_over_a_singleton_http2_connection_are_linked() {
    let web = Web::start(async |_| reply("hello"));
    let sink = TraceSink::new();
    let connector = connector(&sink);
    let make = service_fn(move |uri: Uri| {
        let connector = connector.clone();
        Box::pin(async move { handshake_http2(connector.oneshot(uri).await?).await })
    });
    let client = client_over(&sink, "singleton", Singleton::new(make), |request| request);
    assert_eq!(assert_all_linked(&client, &[web.url("/")]).await, 1);
}

/// ALPN decides whether a connection goes to the cache (HTTP/1.1) or is shared by all requests (HTTP/2).
#[tokio::test]
async fn requests_over_a_pool_chosen_by_alpn_are_linked() {
    let authority = Authority::new("pools");
    for (offered, used) in [("h2", 1), ("http/1.1", 33)] {
        let mut config = authority.issue(&["127.0.0.1"]).server();
        config.alpn_protocols = vec![offered.into()];
        let web = Web::tls(config, async |_| reply("hello"));
        let sink = TraceSink::new();
        let roots = Roots::from_pem(authority.pem()).unwrap();
        let tls = TraceTlsLayer::builder(&sink).roots(roots).alpn(["h2", "http/1.1"]).build();
        let connector = tls.layer(TcpConnector::new(&sink));
        let pool = negotiate::builder()
            .connect(connector)
            .inspect(|io: &MaybeTlsStream<_>| match io {
                MaybeTlsStream::Tls(stream) => stream.alpn_protocol() == Some(b"h2"),
                MaybeTlsStream::Plain(_) => false,
            })
            .fallback(layer_fn(|connect| ServiceExt::<Uri>::and_then(connect, handshake_http1)))
            .upgrade(layer_fn(|inspected| {
                Singleton::new(ServiceExt::<()>::and_then(inspected, handshake_http2))
            }))
            .build::<Uri>();
        let rewrite = if used == 1 { |request| request } else { in_origin_form };
        let client = client_over(&sink, "negotiated", pool, rewrite);
        assert_eq!(assert_all_linked(&client, &[format!("https://{}/", web.addr())]).await, used);
        let trace = sink.snapshot("");
        assert!(trace.http_requests.iter().all(|request| !request.tls_tunnel.is_undefined()));
    }
}

#[tokio::test]
async fn failed_and_dropped_requests_are_recorded() {
    let server = Server::start(async |mut conn| {
        let head = conn.read_head().await?;
        if head.starts_with("GET /cut") {
            return conn.close().await;
        }
        conn.read_to_end().await // never answers
    });
    let sink = TraceSink::new();
    // hyper-util's cache keeps a connection that was cut off until a request fails on it.
    let client = || client_over(&sink, "cache", cache::builder().build(http1(&sink)), in_origin_form);
    let (cut, outcome) = client().get(&format!("http://{}/cut", server.addr())).await;
    outcome.expect_err("no answer");
    let url = format!("http://{}/never", server.addr());
    let client = client();
    {
        let is_received = || server.seen().get(1).is_some_and(|seen| seen.received.ends_with(b"\r\n\r\n"));
        wait::polling_until("the request", pin!(client.get(&url)), is_received).await;
    }
    let trace = sink.snapshot("");
    let seen = server.seen();
    assert_eq!(link(&trace, &cut).0.failure, Some(Failure::EofError));
    assert_linked(&trace, &cut, seen[0].peer.port());
    let dropped = &trace.http_requests[1];
    let conn = trace.tcp_conns.get(&dropped.tcp_conn).expect("the connection of the dropped request");
    assert_eq!(conn.addr_tuple.src_port, seen[1].peer.port());
    assert_eq!(
        (&dropped.end_reason, &dropped.failure),
        (&Some(EndReason::Cancelled), &Some(Failure::Interrupted))
    );
}
