//! A gRPC server for greetings, and assertions about calls to it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use nettrace::record::{HttpReqTrace, NetTrace, TcpConnTrace};
use nettrace::tonic::Channel;
use nettrace::{RequestHandle, TraceSink};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request};

use crate::greeter::{GreeterClient, GreeterServer, Greetings, Name};
use test_support::background::Background;
use test_support::lab::Ns;
use test_support::wait;

/// A listening port that stays reserved while no server runs on it.
pub(crate) struct ReservedPort {
    listener: TcpListener,
}

/// A running server. Its connections are cut when it is dropped.
pub(crate) struct RunningServer {
    stop: Option<oneshot::Sender<()>>,
    background: Background,
}

impl ReservedPort {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("non-blocking mode");
        ReservedPort { listener }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.listener.local_addr().expect("a local address")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(self.url()).expect("a URL")
    }

    pub(crate) fn serve(&self) -> RunningServer {
        self.serve_with(Server::builder())
    }

    /// Serves over tokio-rustls, since tonic's own TLS needs a process-wide crypto provider if two are compiled in.
    pub(crate) fn serve_tls(&self, mut tls: ServerConfig) -> RunningServer {
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        self.serve_on(Server::builder(), move |listener| {
            incoming(listener).filter_map(move |accepted| {
                let acceptor = acceptor.clone();
                async move { Some(acceptor.accept(accepted.ok()?).await).filter(Result::is_ok) }
            })
        })
    }

    pub(crate) fn serve_with(&self, server: Server) -> RunningServer {
        self.serve_on(server, incoming)
    }

    fn serve_on<S, Conn>(
        &self,
        mut server: Server,
        incoming: impl FnOnce(TcpListener) -> S + Send + 'static,
    ) -> RunningServer
    where
        S: Stream<Item = io::Result<Conn>> + Send + 'static,
        Conn: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let listener = self.listener.try_clone().expect("a duplicate of the listener");
        let (stop, stopped) = oneshot::channel();
        let background = Background::start(&Ns::here(), move || async move {
            let server = server.add_service(GreeterServer::new(Greetings));
            let stopped = async { drop(stopped.await) };
            server.serve_with_incoming_shutdown(incoming(listener), stopped).await.expect("no server error");
        });
        RunningServer { stop: Some(stop), background }
    }
}

impl RunningServer {
    /// Accepts no more calls, and waits until those in progress have completed.
    pub(crate) fn shut_down(mut self) {
        drop(self.stop.take());
        self.background.join();
    }
}

fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> + Send + use<> {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listening socket");
    stream::unfold(listener, async |listener| Some((listener.accept().await.map(|(io, _)| io), listener)))
}

/// Creates a call that carries a handle.
pub(crate) fn call<T>(message: T) -> (RequestHandle, Request<T>) {
    let handle = RequestHandle::new();
    let mut request = Request::new(message);
    request.extensions_mut().insert(handle.clone());
    (handle, request)
}

/// Makes one call. Returns the client port that the server saw, or the status code.
pub(crate) async fn greet(client: &GreeterClient<Channel>, name: &str) -> (RequestHandle, Result<u16, Code>) {
    let (handle, request) = call(Name::of(name));
    let answer = client.clone().greet(request).await;
    (handle, answer.map(|answer| answer.into_inner().port as u16).map_err(|status| status.code()))
}

/// Returns the record of the call and the record of its connection.
#[track_caller]
pub(crate) fn link<'a>(
    trace: &'a NetTrace,
    call: &RequestHandle,
) -> (&'a HttpReqTrace, Option<&'a TcpConnTrace>) {
    let record = trace.http_requests.get(call.id()).expect("a record of the call");
    let conn = (!record.tcp_conn.is_undefined())
        .then(|| trace.tcp_conns.get(&record.tcp_conn).expect("the connection that the call refers to"));
    (record, conn)
}

/// Asserts that the call is linked to the connection whose port the server saw, both in the whole trace and in the
/// trace of the handle.
#[track_caller]
pub(crate) fn assert_linked<'a>(trace: &'a NetTrace, call: &RequestHandle, port: u16) -> &'a HttpReqTrace {
    let (record, conn) = link(trace, call);
    let conn = conn.expect("a connection");
    assert_eq!(conn.addr_tuple.src_port, port, "{} over {}", record.trace_id, conn.trace_id);
    let part = call.trace();
    assert_eq!(link(&part, call).1.expect("a connection").trace_id, conn.trace_id);
    assert!(!record.conn_acquired_at.is_undefined());
    record
}

/// Waits until every dial and connection of the sink has ended, and returns the trace.
pub(crate) async fn closed(sink: &TraceSink) -> NetTrace {
    let ended = |trace: &NetTrace| {
        trace.tcp_conns.iter().all(|conn| conn.end_reason.is_some())
            && trace.dials.iter().all(|dial| dial.end_reason.is_some())
    };
    wait::until_some("the end of all dials and connections", || Some(sink.snapshot("")).filter(ended)).await
}
