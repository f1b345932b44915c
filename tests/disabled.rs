//! Layers whose sink is off add no allocation. That they read no clock is shown by the unit tests in `src/off.rs`,
//! which can count the readings.
#![cfg(feature = "client")]

#[path = "support/alloc.rs"]
mod alloc;

use std::{
    convert::Infallible,
    future::ready,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, dns::Name},
    rt::TokioIo,
};
use nettrace::{
    ResponseExt, TraceSink,
    connect::TraceConnectLayer,
    request::{TraceBody, TraceRequestLayer},
    resolve::TraceResolveLayer,
    tls::TraceTlsLayer,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tower::{Layer, Service, service_fn};

#[global_allocator]
static COUNTING: alloc::Counting = alloc::Counting;

/// Every way in which a sink can be off.
fn sinks() -> [(&'static str, TraceSink); 3] {
    let [off, closed] = [TraceSink::new(), TraceSink::new()];
    off.set_enabled(false);
    closed.close();
    [("disabled", TraceSink::disabled()), ("switched off", off), ("closed", closed)]
}

/// What a second run of `f` allocates: the first one may set up what is there once.
fn allocations<R>(mut f: impl FnMut() -> R) -> u64 {
    f();
    let before = alloc::calls();
    f();
    alloc::calls() - before
}

#[track_caller]
fn now<F: Future>(future: F) -> F::Output {
    future.now_or_never().expect("nothing here waits")
}

/// Gives zeros without end, and takes everything.
#[derive(Clone, Copy, Debug)]
struct Zeros;

impl AsyncRead for Zeros {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        buf.put_slice(&[0; 100]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Zeros {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Connection for Zeros {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

type Body = Full<Bytes>;

fn request() -> Request<Body> {
    Request::new(Body::from("question"))
}

fn answer<B>(_: Request<B>) -> std::future::Ready<Result<Response<Body>, Infallible>> {
    ready(Ok(Response::new(Body::from("answer"))))
}

#[test]
fn the_request_layer() {
    let mut bare = service_fn(answer::<Body>);
    let unlayered = allocations(|| now(now(bare.call(request())).unwrap().into_body().collect()).unwrap());
    for (how, sink) in sinks() {
        let mut layered = TraceRequestLayer::new(&sink).layer(service_fn(answer::<TraceBody<Body>>));
        let with_layer = allocations(|| {
            let response = now(layered.call(request())).unwrap();
            assert!(response.request_handle().is_none());
            now(response.into_body().collect()).unwrap()
        });
        assert_eq!(with_layer, unlayered, "{how}");
    }
}

/// Both take a boxed body, which costs what it costs.
#[test]
fn the_request_layer_over_boxed_bodies() {
    type Boxed = http_body_util::combinators::BoxBody<Bytes, Infallible>;
    let mut bare = service_fn(answer::<Boxed>);
    let unlayered = allocations(|| now(bare.call(request().map(Boxed::new))).unwrap());
    for (how, sink) in sinks() {
        let layer = TraceRequestLayer::new(&sink).boxed(|body: TraceBody<Body>| Boxed::new(body));
        let mut layered = layer.layer(service_fn(answer::<Boxed>));
        assert_eq!(allocations(|| now(layered.call(request())).unwrap()), unlayered, "{how}");
    }
}

fn uri() -> Uri {
    Uri::from_static("http://example.test:80/")
}

fn connect(_: Uri) -> std::future::Ready<io::Result<TokioIo<Zeros>>> {
    ready(Ok(TokioIo::new(Zeros)))
}

async fn exchange(stream: impl hyper::rt::Read + hyper::rt::Write + Unpin) {
    let (mut stream, mut buffer) = (TokioIo::new(stream), [0; 100]);
    stream.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut buffer).await.unwrap();
    stream.shutdown().await.unwrap();
}

#[test]
fn the_connect_layer_and_its_streams() {
    let mut bare = service_fn(connect);
    let unlayered = allocations(|| {
        let stream = now(bare.call(uri())).unwrap();
        stream.connected();
        now(exchange(stream));
    });
    for (how, sink) in sinks() {
        let mut layered = TraceConnectLayer::new(&sink).layer(service_fn(connect));
        let with_layer = allocations(|| {
            let stream = now(layered.call(uri())).unwrap();
            assert!(stream.conn_ref().is_none());
            stream.connected();
            now(exchange(stream));
        });
        assert_eq!(with_layer, unlayered, "{how}");
    }
}

/// As long as no TLS is asked for; else it is TLS that allocates.
#[test]
fn the_tls_layer() {
    let mut bare = service_fn(connect);
    let unlayered = allocations(|| now(exchange(now(bare.call(uri())).unwrap())));
    for (how, sink) in sinks() {
        let layer = TraceTlsLayer::builder(&sink).danger_accept_invalid_certs().build();
        let mut layered = layer.layer(service_fn(connect));
        let with_layer = allocations(|| now(exchange(now(layered.call(uri())).unwrap())));
        assert_eq!(with_layer, unlayered, "{how}");
    }
}

#[test]
fn the_resolve_layer() {
    let resolve = |_: Name| ready(Ok::<_, Infallible>(None::<SocketAddr>.into_iter()));
    let name: Name = "example.test".parse().unwrap();
    let mut bare = service_fn(resolve);
    let unlayered = allocations(|| now(bare.call(name.clone())).unwrap());
    let mut layered = TraceResolveLayer::new().layer(service_fn(resolve));
    assert_eq!(allocations(|| now(layered.call(name.clone())).unwrap()), unlayered);
}

/// The counter counts.
#[test]
fn a_sink_that_is_on_allocates() {
    let sink = TraceSink::new();
    let mut layered = TraceRequestLayer::new(&sink).layer(service_fn(answer::<TraceBody<Body>>));
    let mut bare = service_fn(answer::<Body>);
    let unlayered = allocations(|| now(bare.call(request())).unwrap());
    assert!(allocations(|| now(layered.call(request())).unwrap()) > unlayered);
    assert!(alloc::live() != 0);
}
