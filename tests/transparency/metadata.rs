//! The metadata that a connector gives to a connection reaches the pool and the caller.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::{
    self,
    connect::{Connected, Connection, HttpConnector, HttpInfo, capture_connection},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nettrace::connect::{TcpConnector, TraceConnectLayer};
use nettrace::request::{TraceBody, TraceRequestLayer};
use nettrace::{ConnRef, ResponseExt as _, TraceSink};
use tokio::net::TcpStream;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use crate::clients::{empty, variants};
use test_support::web::{Web, reply};

/// A connection with an extra, and with metadata that `configure` adds.
struct TaggedStream {
    stream: TokioIo<TcpStream>,
    configure: fn(Connected) -> Connected,
}

#[derive(Clone, Debug, PartialEq)]
struct Mark(&'static str);

impl Connection for TaggedStream {
    fn connected(&self) -> Connected {
        (self.configure)(self.stream.connected().extra(Mark("mine")))
    }
}

impl Read for TaggedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for TaggedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

type Traced<B = Empty<Bytes>> =
    nettrace::request::TraceRequest<legacy::Client<nettrace::connect::TraceConnect<Connector>, TraceBody<B>>>;
type Connector = tower::util::BoxCloneSyncService<Uri, TaggedStream, io::Error>;

fn connector(configure: fn(Connected) -> Connected) -> Connector {
    Connector::new(service_fn(move |uri: Uri| async move {
        let stream = TcpStream::connect(uri.authority().expect("an authority").as_str()).await?;
        Ok(TaggedStream { stream: TokioIo::new(stream), configure })
    }))
}

fn client(sink: &TraceSink, configure: fn(Connected) -> Connected) -> Traced {
    let connector = TraceConnectLayer::new(sink).layer(connector(configure));
    let client = legacy::Client::builder(TokioExecutor::new()).build(connector);
    TraceRequestLayer::new(sink).layer(client)
}

fn get(url: String) -> Request<Empty<Bytes>> {
    Request::get(url).body(Empty::new()).unwrap()
}

async fn body<B: http_body::Body<Error: std::fmt::Debug>>(response: http::Response<B>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Starts a server that answers with the version and the target of the request.
fn web() -> Web {
    Web::start(async |request| reply(format!("{:?} {}", request.version, request.uri)))
}

#[tokio::test]
async fn negotiated_http2_is_used() {
    let (web, sink) = (web(), TraceSink::new());
    let mut client = client(&sink, Connected::negotiated_h2);
    let response = client.call(get(web.url("/x"))).await.unwrap();
    assert_eq!(body(response).await, format!("HTTP/2.0 {}", web.url("/x")));
}

/// A TCP stream asks the kernel for its addresses each time, so the layer and the first caller share one answer.
#[tokio::test]
async fn the_first_caller_gets_the_description_that_the_layer_has_read() {
    thread_local!(static ASKED: Cell<u32> = const { Cell::new(0) });
    let count: fn(Connected) -> Connected = |connected| {
        ASKED.set(ASKED.get() + 1);
        connected.negotiated_h2()
    };
    let (web, sink) = (web(), TraceSink::new());
    let connector = TraceConnectLayer::new(&sink).layer(connector(count));
    let connect = || connector.clone().oneshot(web.url("/").parse().unwrap());

    let mut io = connect().await.unwrap();
    for asked in [1, 2] {
        let connected = io.connected();
        let mut extras = http::Extensions::new();
        connected.get_extras(&mut extras);
        assert_eq!(ASKED.get(), asked);
        assert!(connected.is_negotiated_h2() && extras.get() == Some(&Mark("mine")));
        assert!(extras.get::<HttpInfo>().is_some() && ConnRef::from_extensions(&extras).is_some());
    }
    io = connect().await.unwrap();
    assert_eq!(ASKED.get(), 3);
    // Whoever has the stream may change what it answers.
    io.get_mut().configure = |connected| connected;
    assert!(!io.connected().is_negotiated_h2());
}

#[tokio::test]
async fn requests_to_a_proxy_are_in_absolute_form() {
    let (web, sink) = (web(), TraceSink::new());
    for (configure, form) in [
        ((|connected| connected.proxy(true)) as fn(Connected) -> Connected, web.url("/x")),
        (|connected| connected, "/x".into()),
    ] {
        let response = client(&sink, configure).call(get(web.url("/x"))).await.unwrap();
        assert_eq!(body(response).await, format!("HTTP/1.1 {form}"));
    }
}

#[tokio::test]
async fn extras_are_in_the_extensions_of_the_response() {
    let (web, sink) = (web(), TraceSink::new());
    let response = client(&sink, |connected| connected).call(get(web.url("/"))).await.unwrap();
    assert_eq!(response.extensions().get(), Some(&Mark("mine")));
    let info = response.extensions().get::<HttpInfo>().expect("the addresses");
    let conn = ConnRef::from_extensions(response.extensions()).expect("the connection");
    assert_eq!((conn.local_addr(), conn.peer_addr()), (Some(info.local_addr()), Some(web.addr())));
    assert_eq!(conn.id(), sink.snapshot("").tcp_conns[0].trace_id);
    assert_eq!(response.request_handle().unwrap().id(), sink.snapshot("").http_requests[0].trace_id);
}

/// The extensions of a response are the same for every client, except for those of this crate.
#[tokio::test]
async fn responses_have_no_further_extensions() {
    let web = web();
    for variant in variants(false) {
        let request = Request::get(web.url("/")).body(empty()).unwrap();
        let mut response = variant.client.clone().oneshot(request).await.unwrap();
        assert_eq!(response.request_handle().is_some(), variant.has_request_layer(), "{}", variant.name);
        assert_eq!(
            ConnRef::from_extensions(response.extensions()).is_some(),
            variant.is_traced(),
            "{}",
            variant.name
        );
        let extensions = response.extensions_mut();
        assert_eq!(extensions.remove::<HttpInfo>().expect("the addresses").remote_addr(), web.addr());
        // hyper adds this only if the response can be upgraded.
        assert!(extensions.remove::<hyper::upgrade::OnUpgrade>().is_none());
        assert_eq!(extensions.len(), usize::from(variant.is_traced()), "{}", variant.name);
    }
}

#[tokio::test]
async fn a_poisoned_connection_is_not_reused() {
    let (web, sink) = (web(), TraceSink::new());
    let mut client = client(&sink, |connected| connected);
    let mut ports = Vec::new();
    for poison in [false, true, false] {
        let mut request = get(web.url("/"));
        let captured = capture_connection(&mut request);
        let response = client.call(request).await.unwrap();
        if poison {
            captured.connection_metadata().as_ref().expect("a connection").poison();
        }
        ports.push(response.headers()["x-peer"].clone());
        body(response).await;
    }
    assert!(ports[0] == ports[1] && ports[1] != ports[2], "{ports:?}");
}

/// A layer without `capture_connection` leaves the caller's capture in place.
#[tokio::test]
async fn the_connection_capture_of_the_caller_is_kept() {
    let web = web();
    for variant in variants(false) {
        let mut request = Request::get(web.url("/")).body(empty()).unwrap();
        let captured = capture_connection(&mut request);
        variant.client.clone().oneshot(request).await.unwrap();
        let listens = matches!(variant.name, "layers that listen" | "preset");
        assert_eq!(captured.connection_metadata().is_some(), !listens, "{}", variant.name);
    }
}

#[tokio::test]
async fn the_error_of_a_connector_is_returned_unchanged() {
    let sink = TraceSink::new();
    let connector = service_fn(|_: Uri| async { Err::<TaggedStream, _>(io::Error::other("no variant")) });
    let connector = TraceConnectLayer::new(&sink).layer(connector);
    let error = connector.oneshot(Uri::from_static("http://web.test/")).await.err().expect("no connection");
    let error = error.downcast::<io::Error>().expect("the connector's error");
    assert_eq!(error.to_string(), "no variant");
    let dials = sink.snapshot("").dials;
    assert_eq!((dials[0].dst_address.as_str(), dials[0].dial_err.as_str()), ("web.test:80", "no variant"));
}

/// A service that is ready, or fails, at the third poll.
#[derive(Clone)]
struct Busy {
    polls: usize,
    fails: bool,
}

impl<R> Service<R> for Busy {
    type Response = http::Response<Empty<Bytes>>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.polls += 1;
        match self.polls {
            1 | 2 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ if self.fails => Poll::Ready(Err(io::Error::other("broken"))),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _: R) -> Self::Future {
        assert!(self.polls >= 3, "called before it was ready");
        std::future::ready(Ok(http::Response::new(Empty::new())))
    }
}

#[tokio::test]
async fn readiness_and_its_errors_are_passed_on() {
    let sink = TraceSink::new();
    let service = |fails| TraceRequestLayer::new(&sink).layer(Busy { polls: 0, fails });
    let mut ready = service(false);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    for _ in 0..2 {
        assert!(Service::<Request<Empty<Bytes>>>::poll_ready(&mut ready, &mut cx).is_pending());
    }
    ready.oneshot(get("http://web.test/".into())).await.unwrap();
    let error = service(true).oneshot(get("http://web.test/".into())).await.unwrap_err();
    assert_eq!(error.to_string(), "broken");

    /// A connector that becomes ready in the same way.
    #[derive(Clone)]
    struct Slow(Busy);
    impl Service<Uri> for Slow {
        type Response = TaggedStream;
        type Error = io::Error;
        type Future = std::future::Pending<io::Result<TaggedStream>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Service::<()>::poll_ready(&mut self.0, cx)
        }

        fn call(&mut self, _: Uri) -> Self::Future {
            std::future::pending()
        }
    }
    for fails in [false, true] {
        let mut connector = TraceConnectLayer::new(&sink).layer(Slow(Busy { polls: 0, fails }));
        assert!(connector.poll_ready(&mut cx).is_pending() && connector.poll_ready(&mut cx).is_pending());
        assert_eq!(connector.ready().await.is_err(), fails);
    }
    assert!(sink.snapshot("").dials.is_empty(), "`poll_ready` records no dial");
}

#[tokio::test]
async fn connections_over_unix_sockets_are_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let service = hyper::service::service_fn(async |request: Request<hyper::body::Incoming>| {
            let all = request.into_body().collect().await.unwrap().to_bytes();
            Ok::<_, Infallible>(http::Response::new(http_body_util::Full::new(all)))
        });
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let conn =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(conn);
        }
    });
    let sink = TraceSink::new();
    let at = path.clone();
    let connector = service_fn(move |_: Uri| {
        let path = at.clone();
        Box::pin(async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) })
    });
    let connector = TraceConnectLayer::new(&sink).layer(connector);
    let client: legacy::Client<_, TraceBody<http_body_util::Full<Bytes>>> =
        legacy::Client::builder(TokioExecutor::new()).build(connector);
    let mut client = TraceRequestLayer::new(&sink).layer(client);
    for _ in 0..2 {
        let request = Request::post("http://localhost/").body("over a file".into()).unwrap();
        assert_eq!(body(client.call(request).await.unwrap()).await, "over a file");
    }
    let trace = sink.snapshot("");
    let [conn] = &trace.tcp_conns[..] else { panic!("expected one connection") };
    assert_eq!(conn.unix_path, path.to_str().unwrap());
    assert_eq!((conn.addr_tuple.src_ip.as_str(), conn.addr_tuple.dst_port), ("", 0));
    assert!(conn.connected && conn.total_recv_bytes > 0);
    assert!(trace.http_requests.iter().all(|request| request.tcp_conn == conn.trace_id));
}

/// Both give the same metadata, [`HttpInfo`] included.
#[tokio::test]
async fn tcp_connector_gives_the_metadata_of_http_connector() {
    let (web, sink) = (web(), TraceSink::new());
    let uri: Uri = web.url("/").parse().unwrap();
    let ours = TcpConnector::new(&sink).oneshot(uri.clone()).await.unwrap();
    let theirs = HttpConnector::new().oneshot(uri).await.unwrap();
    let (ours, theirs) = (ours.connected(), theirs.connected());
    let info = |connected: &Connected| {
        let mut extras = http::Extensions::new();
        connected.get_extras(&mut extras);
        extras.get::<HttpInfo>().map(HttpInfo::remote_addr)
    };
    assert_eq!((info(&ours), info(&theirs)), (Some(web.addr()), Some(web.addr())));
    assert_eq!((ours.is_negotiated_h2(), ours.is_proxied()), (false, false));
}
