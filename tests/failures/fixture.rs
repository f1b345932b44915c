//! The parts that the tests share: clients, a nameserver, scripted servers, and the recorded outcome.

use std::error::Error;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use nettrace::client::{Body, Client, ClientBuilder, ClientError};
use nettrace::record::{
    DialTrace, DnsQueryTrace, EndReason, Failure, HttpReqTrace, NetTrace, Record, TcpConnTrace,
    TlsTunnelTrace, TraceList, UdpConnTrace,
};
use nettrace::resolve::{StubResolver, StubResolverBuilder};
use nettrace::tls::Roots;
use nettrace::{RequestHandle, TraceSink};
use rustls::ServerConfig;
use tokio::sync::Notify;
use tokio::time;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use test_support::check;
use test_support::dns::DnsServer;
use test_support::pki::Authority;
use test_support::raw::{Conn, Server, Stream};

/// A timeout far longer than any test; a test makes it expire with [`expire`].
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A sink, a nameserver, and an authority that the clients trust.
pub(crate) struct Fixture {
    pub(crate) sink: TraceSink,
    pub(crate) nameserver: DnsServer,
    pub(crate) authority: Authority,
}

impl Fixture {
    /// Creates a fixture whose nameserver resolves every name to 127.0.0.1.
    pub(crate) async fn new() -> Self {
        Self::with(DnsServer::answering(&["127.0.0.1"]).await)
    }

    pub(crate) fn with(nameserver: DnsServer) -> Self {
        Self { sink: TraceSink::new(), nameserver, authority: Authority::new("nettrace test CA") }
    }

    pub(crate) fn builder(&self) -> ClientBuilder {
        Client::builder(&self.sink)
            .resolver(self.resolver().build().expect("nothing to read"))
            .roots(Roots::from_pem(self.authority.pem()).expect("a certificate"))
    }

    pub(crate) fn client(&self) -> Client {
        self.builder().build().expect("nothing to read")
    }

    pub(crate) fn http(&self, server: &Server) -> String {
        format!("http://web.test:{}/", server.addr().port())
    }

    pub(crate) fn https(&self, server: &Server) -> String {
        format!("https://web.test:{}/", server.addr().port())
    }

    /// Returns a resolver that asks the fixture's nameserver and reads no file.
    pub(crate) fn resolver(&self) -> StubResolverBuilder {
        StubResolver::builder(&self.sink)
            .nameservers([self.nameserver.addr()])
            .resolv_conf(None)
            .hosts_file(None)
            .search([""; 0])
            .timeout(LONG)
    }
}

/// Makes a request that must fail, before its response or in its body.
pub(crate) async fn failed(client: &Client, url: impl AsRef<str>) -> Failed {
    let error = match client.get(url).await {
        Err(error) => error,
        Ok(response) => match response.into_body().bytes().await {
            Err(error) => error,
            Ok(body) => panic!("a response with {} bytes", body.len()),
        },
    };
    Failed::of(client, error).await
}

/// Makes a request that must succeed. Returns the body of its response, and the handle of the request.
pub(crate) async fn fetched(client: &Client, url: impl AsRef<str>) -> (Vec<u8>, RequestHandle) {
    let (request, handle) = request(url);
    let response = client.request(request).await.expect("a response");
    let body = response.into_body().bytes().await.expect("a body");
    (body.into(), handle)
}

/// Creates a request with a handle that identifies it in the trace.
pub(crate) fn request(url: impl AsRef<str>) -> (Request<Body>, RequestHandle) {
    let handle = RequestHandle::new();
    let request = Request::get(url.as_ref()).extension(handle.clone()).body(Body::empty());
    (request.expect("a request"), handle)
}

/// Starts a server that answers one request on each connection.
pub(crate) fn hello() -> Server {
    hello_on(TcpListener::bind("127.0.0.1:0").expect("a free port"))
}

pub(crate) fn hello_on(listener: TcpListener) -> Server {
    Server::on(listener, async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await?;
        conn.read_to_end().await
    })
}

/// Starts a server that runs `begin` on each connection, notifies the test, and then hangs.
pub(crate) fn stuck_after(
    begin: impl AsyncFn(&mut Conn) -> io::Result<()> + Send + 'static,
) -> (Server, Arc<Notify>) {
    let done = Arc::new(Notify::new());
    let notify = done.clone();
    let server = Server::start(async move |mut conn| {
        begin(&mut conn).await?;
        notify.notify_one();
        conn.hang().await
    });
    (server, done)
}

/// Starts a server that runs the script over TLS.
pub(crate) fn tls_server(
    config: ServerConfig,
    script: impl AsyncFn(Conn) -> io::Result<()> + Send + 'static,
) -> Server {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Server::start(async move |conn| script(conn.upgrade(|stream| accept(&acceptor, stream)).await?).await)
}

async fn accept(acceptor: &TlsAcceptor, stream: Box<dyn Stream>) -> io::Result<TlsStream<Box<dyn Stream>>> {
    match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, mut stream)) => {
            // Closing a socket with unread bytes resets the connection, and the client may lose the alert.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
            Err(error)
        }
    }
}

/// Waits until a snapshot of the sink satisfies the condition.
pub(crate) async fn reached(sink: &TraceSink, condition: impl Fn(&NetTrace) -> bool) {
    while !condition(&sink.snapshot("on the way")) {
        tokio::task::yield_now().await;
    }
}

/// Makes a timeout of this length expire now. Whatever must happen before the timeout must have happened already.
pub(crate) async fn expire(limit: Duration) {
    time::pause();
    time::advance(limit + Duration::from_millis(1)).await;
    time::resume();
}

/// The error of a failed request, and its recorded outcome.
pub(crate) struct Failed {
    pub(crate) error: ClientError,
    pub(crate) outcome: Outcome,
}

impl Failed {
    /// Closes the client. Asserts that the error has the failure code and the message of the record.
    pub(crate) async fn of(client: &Client, error: ClientError) -> Self {
        let outcome = Outcome::of(client, error.request()).await;
        let text = error.to_string();
        assert_eq!(Some(error.failure()), outcome.request.failure, "{text}");
        assert_eq!(outcome.request.req_error, text);
        assert!(!text.is_empty() && !text.contains('\n'), "{text}");
        assert!(!text.contains("client error"), "the error does not say what failed: {text}");
        assert!(!matches!(error.failure(), Failure::Unknown(_)), "unknown code: {}", error.failure());
        Self { error, outcome }
    }

    /// Returns the first error of this type among the sources.
    #[track_caller]
    pub(crate) fn cause<E: Error + 'static>(&self) -> &E {
        let mut next = self.error.source();
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return found;
            }
            next = error.source();
        }
        panic!("no {} in {:?}", std::any::type_name::<E>(), self.error)
    }
}

/// The trace of a closed client, and the record of one of its requests.
pub(crate) struct Outcome {
    pub(crate) trace: NetTrace,
    pub(crate) request: HttpReqTrace,
}

impl Outcome {
    /// Closes the client, so that every record ends, and takes a snapshot.
    pub(crate) async fn of(client: &Client, handle: &RequestHandle) -> Self {
        client.close().await;
        Self::taken(client.sink().snapshot("all"), handle)
    }

    /// Returns the outcome of a request from a trace in which every record has ended.
    #[track_caller]
    pub(crate) fn taken(trace: NetTrace, handle: &RequestHandle) -> Self {
        check::finished(&trace);
        let request = trace.http_requests.get(handle.id()).expect("the request is recorded").clone();
        assert_same(&trace, &request, &handle.trace());
        Self { trace, request }
    }

    /// Returns the only dial.
    #[track_caller]
    pub(crate) fn dial(&self) -> &DialTrace {
        only(&self.trace.dials)
    }

    /// Returns the attempts to connect to the server, without the resolver's connections.
    pub(crate) fn attempts(&self) -> Vec<&TcpConnTrace> {
        self.trace.tcp_conns.iter().filter(|conn| !conn.from_resolver).collect()
    }

    /// Returns the only attempt to connect.
    #[track_caller]
    pub(crate) fn conn(&self) -> &TcpConnTrace {
        let attempts = self.attempts();
        assert_eq!(attempts.len(), 1, "attempts");
        attempts[0]
    }

    /// Returns the only tunnel.
    #[track_caller]
    pub(crate) fn tunnel(&self) -> &TlsTunnelTrace {
        only(&self.trace.tls_tunnels)
    }

    /// Asserts that the request used this connection, and that the request's own dial opened it.
    #[track_caller]
    pub(crate) fn assert_on(&self, conn: &TcpConnTrace) {
        assert_eq!(self.request.tcp_conn, conn.trace_id, "the request's connection");
        let dial = self.trace.dials.get(&conn.from_dial).expect("a dial");
        assert_eq!(dial.triggered_by, self.request.trace_id, "the dial's request");
        assert_eq!(dial.established_conn, conn.trace_id, "the dial's connection");
        assert_eq!(ended(dial), ("closed", ""));
    }

    /// Asserts that the request has no connection, and that its only dial ended with the same reason and failure code.
    #[track_caller]
    pub(crate) fn assert_dial_failed(&self, reason: &str, failure: &str) {
        assert_eq!(ended(&self.request), (reason, failure));
        assert_eq!(ended(self.dial()), (reason, failure));
        assert_eq!(self.dial().triggered_by, self.request.trace_id);
        let linked = [&self.request.tcp_conn, &self.request.tls_tunnel, &self.dial().established_conn];
        assert!(linked.iter().all(|id| id.is_undefined()), "{linked:?}");
        assert!(self.request.conn_acquired_at.is_undefined());
    }
}

#[track_caller]
fn only<T>(records: &[T]) -> &T {
    assert_eq!(records.len(), 1, "records");
    &records[0]
}

/// Asserts that the records of the request's own trace are the same in the whole trace.
#[track_caller]
fn assert_same(all: &NetTrace, request: &HttpReqTrace, own: &NetTrace) {
    check::finished(own);
    assert_eq!(own.http_requests.get(&request.trace_id), Some(request));
    let mut dials = own.dials.clone();
    for (dial, known) in dials.iter_mut().zip(own.dials.iter().map(|dial| all.dials.get(&dial.trace_id))) {
        // If another request triggered the dial, the request's own trace has neither that request nor its ID.
        let other = known.map(|known| &known.triggered_by).filter(|id| own.http_requests.get(id).is_none());
        dial.triggered_by = other.unwrap_or(&dial.triggered_by).clone();
    }
    assert_part(&dials, &all.dials);
    assert_part(&own.tcp_conns, &all.tcp_conns);
    assert_part(&own.udp_conns, &all.udp_conns);
    assert_part(&own.dns_queries, &all.dns_queries);
    assert_part(&own.tls_tunnels, &all.tls_tunnels);
    assert_part(&own.http_requests, &all.http_requests);
    let sliced = all.slice(&request.trace_id);
    assert_part(&sliced.dials, &dials);
    assert_part(&sliced.tcp_conns, &own.tcp_conns);
    assert_part(&sliced.tls_tunnels, &own.tls_tunnels);
}

/// Asserts that the records of `part` are the same in `whole`.
#[track_caller]
fn assert_part<T: Record + PartialEq + std::fmt::Debug>(part: &TraceList<T>, whole: &TraceList<T>) {
    for record in part {
        assert_eq!(whole.get(record.trace_id()), Some(record));
    }
}

/// Returns the end reason of a record, and its failure code or an empty string.
#[track_caller]
pub(crate) fn ended<R: Ended>(record: &R) -> (&str, &str) {
    let (reason, failure) = record.end();
    let reason = reason.as_ref().expect("the record has ended");
    (reason.as_str(), failure.as_ref().map_or("", Failure::as_str))
}

pub(crate) trait Ended {
    fn end(&self) -> (&Option<EndReason>, &Option<Failure>);
}

macro_rules! ended {
    ($($record:ty)+) => {
        $(impl Ended for $record {
            fn end(&self) -> (&Option<EndReason>, &Option<Failure>) {
                (&self.end_reason, &self.failure)
            }
        })+
    };
}

ended!(DialTrace TcpConnTrace UdpConnTrace DnsQueryTrace TlsTunnelTrace HttpReqTrace);
