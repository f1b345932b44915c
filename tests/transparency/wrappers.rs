//! Auto traits and sizes of wrappers, and the bounds that hyper's client requires.

use std::future::Ready;
use std::marker::{PhantomData, PhantomPinned};

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use nettrace::client::{Body, ClientError, ClientService, ResponseBody, ResponseFuture};
use nettrace::connect::{
    TcpConnectFuture, TcpConnector, TraceConnect, TraceConnectFuture, TraceConnectLayer, TracedIo,
};
use nettrace::request::{TraceBody, TraceRequest, TraceRequestFuture, TraceRequestLayer, TraceResponseBody};
use nettrace::{Client, ConnRef, RequestHandle, TraceSink};
use static_assertions::{assert_impl_all, assert_not_impl_any};

/// A type that is neither `Send` nor `Sync`.
type Local = PhantomData<*const ()>;
/// A type that is `Send`, but not `Sync`.
type Unshared = PhantomData<std::cell::Cell<()>>;

/// A body with the auto traits of `T`.
struct BodyOf<T>(PhantomData<T>, T);

impl<T> http_body::Body for BodyOf<T> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(None)
    }
}

#[test]
fn wrappers_have_the_auto_traits_of_what_they_wrap() {
    assert_impl_all!(TracedIo<()>: Send, Sync, Unpin);
    assert_not_impl_any!(TracedIo<Local>: Send, Sync);
    assert_impl_all!(TracedIo<Unshared>: Send);
    assert_not_impl_any!(TracedIo<Unshared>: Sync);
    assert_not_impl_any!(TracedIo<PhantomPinned>: Unpin);

    assert_impl_all!(TraceConnect<()>: Send, Sync, Unpin, Clone);
    assert_not_impl_any!(TraceConnect<Local>: Send, Sync);
    assert_impl_all!(TraceConnectFuture<Ready<()>>: Send, Sync, Unpin);
    assert_not_impl_any!(TraceConnectFuture<Local>: Send, Sync);
    assert_not_impl_any!(TraceConnectFuture<PhantomPinned>: Unpin);
    assert_impl_all!(TcpConnector: Send, Sync, Unpin, Clone);
    assert_impl_all!(TcpConnectFuture: Send, Unpin);

    assert_impl_all!(TraceRequest<()>: Send, Sync, Unpin, Clone);
    assert_not_impl_any!(TraceRequest<Local>: Send, Sync);
    assert_impl_all!(TraceRequestFuture<Ready<()>>: Send, Sync, Unpin);
    assert_not_impl_any!(TraceRequestFuture<Local>: Send, Sync);
    assert_not_impl_any!(TraceRequestFuture<PhantomPinned>: Unpin);
    assert_impl_all!(TraceBody<()>: Send, Sync, Unpin);
    assert_not_impl_any!(TraceBody<Local>: Send, Sync);
    assert_not_impl_any!(TraceBody<PhantomPinned>: Unpin);
    assert_impl_all!(TraceResponseBody<BodyOf<()>>: Send, Sync, Unpin);
    assert_not_impl_any!(TraceResponseBody<BodyOf<Local>>: Send, Sync);
    assert_impl_all!(TraceResponseBody<BodyOf<Unshared>>: Send);
    assert_not_impl_any!(TraceResponseBody<BodyOf<PhantomPinned>>: Unpin);
}

#[test]
fn types_that_callers_hold_are_send_and_unpin() {
    assert_impl_all!(TraceSink: Send, Sync, Unpin, Clone, std::fmt::Debug);
    assert_impl_all!(TraceConnectLayer: Send, Sync, Unpin, Clone);
    assert_impl_all!(TraceRequestLayer: Send, Sync, Unpin, Clone);
    assert_impl_all!(ConnRef: Send, Sync, Unpin, Clone, std::fmt::Debug);
    assert_impl_all!(RequestHandle: Send, Sync, Unpin, Clone, std::fmt::Debug);
    assert_impl_all!(Client: Send, Sync, Unpin, Clone, std::fmt::Debug);
    assert_impl_all!(ClientService: Send, Sync, Unpin, Clone);
    assert_impl_all!(ClientError: Send, Sync, Unpin, std::error::Error);
    assert_impl_all!(ResponseFuture: Send, Unpin, std::fmt::Debug);
    assert_impl_all!(Body: Send, Unpin, std::fmt::Debug);
    assert_impl_all!(ResponseBody: Send, Unpin, std::fmt::Debug);
}

/// The body grows by one pointer only, since hyper moves requests many times.
#[test]
fn a_traced_body_is_one_pointer_larger() {
    let size = size_of::<TraceBody<Full<Bytes>>>();
    assert_eq!(size, size_of::<Full<Bytes>>() + size_of::<usize>());
}

/// Traced connectors satisfy the bounds of `legacy::Client`.
#[test]
fn hypers_client_accepts_traced_connectors() {
    fn is_connector<C: legacy::connect::Connect + Clone + Send + Sync + 'static>(_: C) {}
    use tower::Layer as _;
    let sink = TraceSink::disabled();
    is_connector(TraceConnectLayer::new(&sink).layer(HttpConnector::new()));
    is_connector(TcpConnector::new(&sink));
    is_connector(TraceConnectLayer::new(&sink).layer(TcpConnector::new(&sink)));
}
