//! Traced clients of each kind, and assertions about the links of a request.

use std::error::Error;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use nettrace::client::HttpVersion;
use nettrace::connect::TraceConnectLayer;
use nettrace::record::{HttpReqTrace, NetTrace, TcpConnTrace};
use nettrace::request::TraceRequestLayer;
use nettrace::{Client, RequestHandle, TraceSink};
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, Service, ServiceExt as _};

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// A traced client, with its name in assertion messages and its sink.
#[derive(Clone)]
pub(crate) struct Traced {
    pub(crate) name: &'static str,
    pub(crate) client: BoxCloneSyncService<Request<Full<Bytes>>, Answer, BoxError>,
    pub(crate) sink: TraceSink,
}

/// Returns three clients: layers around hyper-util's client, the same with `capture_connection`, and the preset.
pub(crate) fn clients(h2: bool) -> [Traced; 3] {
    let sink = TraceSink::new;
    let (plain, capturing, preset) = (sink(), sink(), sink());
    let version = if h2 { HttpVersion::Http2Only } else { HttpVersion::Auto };
    let client = Client::builder(&preset).http_version(version).build().expect("a client");
    [
        traced("layers", &plain, TraceRequestLayer::new(&plain).layer(pool(h2, &plain))),
        traced(
            "capturing layers",
            &capturing,
            TraceRequestLayer::new(&capturing).capture_connection(true).layer(pool(h2, &capturing)),
        ),
        traced("preset", &preset, client),
    ]
}

pub(crate) fn pool<B>(
    h2: bool,
    sink: &TraceSink,
) -> legacy::Client<nettrace::connect::TraceConnect<HttpConnector>, B>
where
    B: http_body::Body<Data: Send> + Send,
{
    let connector = TraceConnectLayer::new(sink).layer(HttpConnector::new());
    legacy::Client::builder(TokioExecutor::new()).http2_only(h2).build(connector)
}

pub(crate) fn traced<S, B>(name: &'static str, sink: &TraceSink, client: S) -> Traced
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let client = client
        .map_response(|response: Response<B>| response.map(|body| body.map_err(Into::into).boxed_unsync()))
        .map_err(Into::into);
    Traced { name, client: BoxCloneSyncService::new(client), sink: sink.clone() }
}

impl Traced {
    /// Returns `true` if the connection is known as soon as the client has chosen it.
    pub(crate) fn captures(&self) -> bool {
        self.name != "layers"
    }

    /// Makes a request and reads the response. Returns the request's handle, and the client's port that the server saw
    /// or the error.
    pub(crate) async fn get(&self, url: &str) -> (RequestHandle, Result<u16, BoxError>) {
        let handle = RequestHandle::new();
        let mut request = Request::get(url).body(Full::default()).expect("a request");
        request.extensions_mut().insert(handle.clone());
        let outcome = async {
            let response = self.client.clone().oneshot(request).await?;
            let port = response.headers().get("x-peer").map_or("0", |port| port.to_str().expect("a port"));
            let port = port.parse().expect("a port");
            response.into_body().collect().await?;
            Ok(port)
        };
        (handle, outcome.await)
    }

    /// Makes a request that must succeed. Returns its handle and the client's port that the server saw.
    pub(crate) async fn fetch(&self, url: &str) -> (RequestHandle, u16) {
        let (handle, port) = self.get(url).await;
        (handle, port.unwrap_or_else(|error| panic!("{}: {error}", self.name)))
    }
}

/// Returns the record of the request and the record of its connection, if it refers to one.
#[track_caller]
pub(crate) fn link<'a>(
    trace: &'a NetTrace,
    request: &RequestHandle,
) -> (&'a HttpReqTrace, Option<&'a TcpConnTrace>) {
    let record = trace.http_requests.get(request.id()).expect("a record of the request");
    let conn = (!record.tcp_conn.is_undefined())
        .then(|| trace.tcp_conns.get(&record.tcp_conn).expect("the connection that it refers to"));
    (record, conn)
}

/// Asserts that the request is linked to the connection whose port the server saw, in the whole trace and in its slice.
#[track_caller]
pub(crate) fn assert_linked(trace: &NetTrace, request: &RequestHandle, port: u16) -> TcpConnTrace {
    assert_resolves(trace);
    let conn = link(trace, request).1.expect("a connection");
    assert_eq!(conn.addr_tuple.src_port, port, "{} over {}", request.id(), conn.trace_id);
    let part = request.trace();
    assert_resolves(&part);
    assert_eq!(link(&part, request).1.expect("a connection").trace_id, conn.trace_id);
    conn.clone()
}

/// Asserts that every reference in the trace leads to a record.
#[track_caller]
pub(crate) fn assert_resolves(trace: &NetTrace) {
    for request in &trace.http_requests {
        let conns = request.attempts.iter().map(|attempt| &attempt.tcp_conn).chain([&request.tcp_conn]);
        for conn in conns.filter(|id| !id.is_undefined()) {
            assert!(trace.tcp_conns.get(conn).is_some(), "connection {conn} of {}", request.trace_id);
        }
        for hop in [&request.prev_hop].into_iter().filter(|id| !id.is_undefined()) {
            assert!(trace.http_requests.get(hop).is_some(), "hop {hop} before {}", request.trace_id);
        }
    }
    for conn in &trace.tcp_conns {
        let dial = trace.dials.get(&conn.from_dial).expect("the dial of a connection");
        if conn.connected {
            assert_eq!(dial.established_conn, conn.trace_id);
        }
    }
    for dial in trace.dials.iter().filter(|dial| !dial.triggered_by.is_undefined()) {
        assert!(trace.http_requests.get(&dial.triggered_by).is_some(), "{}", dial.triggered_by);
    }
}
