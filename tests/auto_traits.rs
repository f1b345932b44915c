//! Wrappers are `Send`, `Sync` and `Unpin` exactly if the wrapped type is. Other types have the traits that clients
//! need.
#![cfg(feature = "client")]

use std::{
    cell::Cell,
    fmt::Debug,
    io,
    marker::{PhantomData, PhantomPinned},
    pin::Pin,
    sync::MutexGuard,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use nettrace::{
    Client, ConnRef, Failure, FinishedRecord, HeaderCapture, IdFormat, NetTrace, NotTraced, Probe,
    ProbeEvent, RequestHandle, Retention, Subscriber, Timestamp, Timings, TraceId, TraceSink,
    TraceSinkBuilder,
    client::{ClientBuilder, ClientClosed, ClientError, ResponseBody, ResponseFuture, TimedOut},
    connect::{
        ConnectAttempt, ConnectError, Target, TcpConnectFuture, TcpConnector, TraceConnect,
        TraceConnectFuture, TraceConnectLayer, TracedIo,
    },
    proxy::{
        InvalidProxy, Proxy, ProxyConnectFuture, ProxyConnector, ProxyError, ProxyLayer, ProxySelector,
        ProxyStream,
    },
    request::{
        Boxed, OnConnection, OnConnectionFuture, TraceBody, TraceHead, TraceHeadFuture, TraceHeadLayer,
        TraceRequest, TraceRequestFuture, TraceRequestLayer, TraceResponseBody, Typed,
    },
    resolve::{
        Addresses, LookupFuture, ResolveError, StubResolver, StubResolverBuilder, TraceResolve,
        TraceResolveFuture, TraceResolveLayer,
    },
    tls::{MaybeTlsStream, TlsError, TlsStream, TraceTls, TraceTlsFuture, TraceTlsLayer, TraceVerifier},
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

/// A body that has all three traits, or lacks one of them, depending on `T`.
struct Wrapped<T>(PhantomData<T>);

impl<T> Body for Wrapped<T> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(None)
    }
}

type All = Wrapped<()>;
/// `Sync`, but not `Send`.
type NotSend = Wrapped<MutexGuard<'static, ()>>;
type NotSync = Wrapped<Cell<()>>;
type NotUnpin = Wrapped<PhantomPinned>;

assert_impl_all!(All: Send, Sync, Unpin);
assert_impl_all!(NotSend: Sync, Unpin);
assert_impl_all!(NotSync: Send, Unpin);
assert_impl_all!(NotUnpin: Send, Sync);
assert_not_impl_any!(NotSend: Send);
assert_not_impl_any!(NotSync: Sync);
assert_not_impl_any!(NotUnpin: Unpin);

macro_rules! exactly_as_wrapped {
    ($($wrapper:ident),*) => {$(
        assert_impl_all!($wrapper<All>: Send, Sync, Unpin);
        assert_impl_all!($wrapper<NotSend>: Sync, Unpin);
        assert_impl_all!($wrapper<NotSync>: Send, Unpin);
        assert_impl_all!($wrapper<NotUnpin>: Send, Sync);
        assert_not_impl_any!($wrapper<NotSend>: Send);
        assert_not_impl_any!($wrapper<NotSync>: Sync);
        assert_not_impl_any!($wrapper<NotUnpin>: Unpin);
    )*};
}

exactly_as_wrapped!(TracedIo, TraceConnect, TraceConnectFuture, TcpConnector);
exactly_as_wrapped!(TraceRequest, TraceRequestFuture, TraceBody, TraceResponseBody, Boxed);
exactly_as_wrapped!(TraceHead, TraceHeadFuture);
exactly_as_wrapped!(TraceResolve, TraceResolveFuture, TraceTls);
exactly_as_wrapped!(ProxyConnector, ProxyStream);
exactly_as_wrapped!(OnConnection, OnConnectionFuture);

#[cfg(feature = "wire")]
mod wire {
    use super::*;
    use nettrace::wire::{TraceWire, TraceWireFuture, TraceWireLayer, WireIo};

    exactly_as_wrapped!(WireIo, TraceWire, TraceWireFuture);
    assert_impl_all!(TraceWireLayer: Send, Sync, Unpin, Clone, Debug);
}

#[cfg(feature = "server")]
mod server {
    use super::*;
    use nettrace::server::{
        Accept, ConnInfo, Incoming, ResponseBody, TlsListener, TlsStream, TraceListener, TraceServer,
        TraceServerFuture, TraceServerLayer, TraceTlsAccept, TraceTlsAcceptor, TracedStream,
    };
    use tokio::net::TcpListener;

    exactly_as_wrapped!(TraceServer, TraceServerFuture, ResponseBody);
    exactly_as_wrapped!(TraceListener, TlsStream, TraceTlsAccept, Incoming);

    type Listener = TraceListener<TcpListener>;
    assert_impl_all!(TraceServerLayer: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(TraceTlsAcceptor: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(Listener: Send, Sync, Unpin, Debug, Accept);
    assert_impl_all!(TlsListener<Listener>: Send, Unpin, Debug, Accept);
    assert_impl_all!(ConnInfo: Send, Sync, Unpin, Clone, Debug, Default);
    assert_impl_all!(TracedIo<TcpListener>: TracedStream);
}

/// For types that box the handshake: a box is always `Unpin`.
macro_rules! as_wrapped_but_for_unpin {
    ($($wrapper:ident),*) => {$(
        assert_impl_all!($wrapper<All>: Send, Sync, Unpin);
        assert_impl_all!($wrapper<NotSend>: Sync);
        assert_impl_all!($wrapper<NotSync>: Send);
        assert_not_impl_any!($wrapper<NotSend>: Send);
        assert_not_impl_any!($wrapper<NotSync>: Sync);
    )*};
}

type Handshaking<T> = TraceTlsFuture<T, All>;
type HandshakingOver<T> = TraceTlsFuture<All, T>;

as_wrapped_but_for_unpin!(TlsStream, MaybeTlsStream, Handshaking, HandshakingOver);
assert_not_impl_any!(MaybeTlsStream<NotUnpin>: Unpin);
assert_not_impl_any!(Handshaking<NotUnpin>: Unpin);

assert_impl_all!(TraceSink: Send, Sync, Unpin, Clone, Debug, Default);
assert_impl_all!(TraceSinkBuilder: Send, Sync, Unpin, Debug, Default);
assert_impl_all!(nettrace::Slice: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(nettrace::Dump: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(nettrace::SliceFilter: Send, Sync, Unpin, Copy, Debug, PartialEq);
assert_impl_all!(ConnRef: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(RequestHandle: Send, Sync, Unpin, Clone, Debug, Default);
assert_impl_all!(FinishedRecord: Send, Sync, Unpin, Clone, Debug, PartialEq);
assert_impl_all!(NetTrace: Send, Sync, Unpin, Clone, Debug, Default, PartialEq);
assert_impl_all!(Timings: Send, Sync, Unpin, Copy, Debug, Default, Eq);
assert_impl_all!(TraceId: Send, Sync, Unpin, Clone, Debug, Default, Eq, std::hash::Hash);
assert_impl_all!(Timestamp: Send, Sync, Unpin, Copy, Debug, Default, Eq);
assert_impl_all!(Failure: Send, Sync, Unpin, Clone, Debug, Eq, std::hash::Hash);
assert_impl_all!(IdFormat: Send, Sync, Unpin, Clone, Debug, Default);
assert_impl_all!(HeaderCapture: Send, Sync, Copy, Debug, Default, Eq);
assert_impl_all!(Retention: Send, Sync, Copy, Debug, Default, Eq);
assert_impl_all!(ProbeEvent: Send, Sync, Copy, Debug, Eq);
assert_impl_all!(dyn Probe: Send, Sync);
assert_impl_all!(dyn Subscriber: Send, Sync);

assert_impl_all!(TraceConnectLayer: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(TraceRequestLayer<Typed>: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(TraceHeadLayer<Typed>: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(Proxy: Send, Sync, Unpin, Clone, Debug, Eq, std::hash::Hash);
assert_impl_all!(ProxySelector: Send, Sync, Unpin, Clone, Debug, Default);
assert_impl_all!(ProxyLayer: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(ProxyConnectFuture<All, All>: Send, Unpin, Debug);
assert_not_impl_any!(ProxyConnectFuture<NotSend, All>: Send);
assert_not_impl_any!(ProxyConnectFuture<NotUnpin, All>: Unpin);
assert_impl_all!(TraceResolveLayer: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(TraceTlsLayer: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(TraceVerifier: Send, Sync, Unpin, Debug);
assert_impl_all!(StubResolver: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(StubResolverBuilder: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(LookupFuture: Send, Unpin, Debug);
assert_impl_all!(Addresses: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(TcpConnectFuture: Send, Unpin, Debug);
assert_impl_all!(Target: Send, Sync, Unpin, Clone, Debug, Eq);

assert_impl_all!(Client: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(ClientBuilder: Send, Unpin, Debug);
assert_impl_all!(ResponseFuture: Send, Unpin, Debug);
// Also `Sync`, which the AWS SDK and octocrab require of bodies.
assert_impl_all!(ResponseBody: Send, Sync, Unpin, Debug);
assert_impl_all!(TraceResponseBody<hyper::body::Incoming>: Send, Sync, Unpin, Debug);

assert_impl_all!(ClientError: Send, Sync, Unpin, std::error::Error);
assert_impl_all!(ClientClosed: Send, Sync, Unpin, std::error::Error);
assert_impl_all!(TimedOut: Send, Sync, Unpin, std::error::Error);
assert_impl_all!(ConnectError: Send, Sync, Unpin, std::error::Error);
assert_impl_all!(ConnectAttempt: Send, Sync, Unpin, Clone, Debug);
assert_impl_all!(ResolveError: Send, Sync, Unpin, std::error::Error);
assert_impl_all!(ProxyError: Send, Sync, Unpin, std::error::Error);
assert_impl_all!(InvalidProxy: Send, Sync, Unpin, Clone, Eq, std::error::Error);
assert_impl_all!(TlsError: Send, Sync, Unpin, std::error::Error);
assert_impl_all!(NotTraced: Send, Sync, Copy, std::error::Error, Eq);

#[cfg(feature = "debug-page")]
mod of_debug_page {
    use super::*;
    use nettrace::debug_page::{DebugPage, DebugPageBody, DebugPageFuture, Metrics};

    assert_impl_all!(DebugPage: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(Metrics: Send, Sync, Unpin, Clone, Debug, Subscriber);
    assert_impl_all!(DebugPageBody: Send, Sync, Unpin, Debug);
    assert_impl_all!(DebugPageFuture: Send, Sync, Unpin, Debug);
}

#[cfg(feature = "tonic")]
mod of_tonic {
    use super::*;
    use nettrace::tonic::{
        BoxChannel, Channel, LinkBody, LinkConnect, LinkConnectFuture, LinkExecutor, LinkIo, LinkLayer, Scope,
    };

    exactly_as_wrapped!(LinkConnect, LinkConnectFuture, LinkIo, LinkExecutor, Scope);

    assert_impl_all!(Channel: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(BoxChannel: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(LinkLayer: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(LinkBody: Send, Sync, Copy, Debug, Default);
}

#[cfg(all(feature = "store-jsonl", unix))]
mod store {
    use super::*;
    use nettrace::store::{Error, JsonLines, JsonLinesBuilder, Reader, SliceCounts, TornLine};

    assert_impl_all!(JsonLines: Send, Sync, Unpin, Debug);
    assert_impl_all!(JsonLinesBuilder: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(SliceCounts: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(Reader: Send, Sync, Unpin, Debug);
    assert_impl_all!(TornLine: Send, Sync, Unpin, Clone, Eq, Debug);
    assert_impl_all!(Error: Send, Sync, Unpin, std::error::Error);
}
