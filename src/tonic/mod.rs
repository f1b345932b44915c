//! Traces gRPC calls of tonic: each call is an HTTP request that is linked to its connection, across reconnects.
//!
//! [`connect`] makes a channel for any generated client. Only the function's name differs from tonic's:
//!
//! ```no_run
//! # struct GreeterClient<T>(T);
//! # impl<T> GreeterClient<T> { fn new(channel: T) -> Self { GreeterClient(channel) } }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use nettrace::TraceSink;
//! use tonic::transport::Endpoint;
//!
//! let sink = TraceSink::new();
//! let endpoint = Endpoint::from_static("http://greeter.internal:50051");
//! let channel = nettrace::tonic::connect(&sink, endpoint).await?; // or connect_lazy
//! let greeter = GreeterClient::new(channel);
//! # Ok(()) }
//! ```
//!
//! # What is recorded of a call
//!
//! A call is recorded as an HTTP request with the gRPC status
//! ([`grpcStatus`](crate::record::HttpReqTrace::grpc_status)), which is in the trailers, or in the header of a response
//! without a body. The message of a status ([`grpcMessage`](crate::record::HttpReqTrace::grpc_message)) is a header
//! value, so it is recorded with [`HeaderCapture::Values`](crate::HeaderCapture::Values) only. A status other than zero
//! is an answer, and not a failure of the request. A request that ends without a status was cut off by a timeout of the
//! endpoint or the call (`timeout`), by its caller (`cancelled`) or by an error (`failed`). It keeps the link to its
//! connection.
//!
//! The handle of a call is in the extensions of its response ([`ResponseExt`] is implemented for `tonic::Response`). To
//! have it before the call ends, or when it fails, put a [`RequestHandle`] into the extensions of the `tonic::Request`.
//!
//! # TLS
//!
//! tonic's own TLS (`Endpoint::tls_config`) is above the traced connection: the connection's operations and bytes are
//! those of the ciphertext, and the tunnel is not recorded. `tls::TraceTlsLayer` records the tunnel. The endpoint's URL
//! is then `http://`, and its origin is the URL that the server is told:
//!
#![cfg_attr(all(feature = "tls", any(feature = "ring", feature = "aws-lc-rs")), doc = "```no_run")]
#![cfg_attr(not(all(feature = "tls", any(feature = "ring", feature = "aws-lc-rs"))), doc = "```ignore")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use nettrace::{TraceSink, connect::TcpConnector, tls::{Roots, TraceTlsLayer}};
//! use tonic::transport::Endpoint;
//! use tower::Layer;
//!
//! let sink = TraceSink::new();
//! let roots = Roots::from_pem_file("authority.pem")?;
//! let tls = TraceTlsLayer::builder(&sink).roots(roots).alpn(["h2"]).always().build();
//! let connector = tls.layer(TcpConnector::new(&sink));
//! let endpoint = Endpoint::from_static("http://greeter.internal:443").origin("https://greeter.internal".parse()?);
//! let channel = nettrace::tonic::connect_with_connector(&sink, endpoint, connector).await?;
//! # Ok(()) }
//! ```
//!
//! The recorded URL of a call is the one that the server is told: that of `Endpoint::origin`, or of a client made
//! `with_origin`. The origin of an endpoint with tonic's own TLS cannot be read, so its calls are recorded with the
//! endpoint's URL.
//!
//! # How a call is linked to its connection
//!
//! tonic passes a call to a task, which passes it to the task of the connection, and neither reports which connection
//! that is. A channel therefore needs three parts, which [`connect`] combines. [`LinkExecutor`] gives the tasks of
//! the channel a context. [`LinkLayer`] makes connections store themselves in the context of the task that writes to them:
//! that task makes a connection, begins HTTP/2 on it and, in the same poll, starts the task that takes its calls, which
//! inherits the context. [`layer`] makes the body of a call read the context when its task polls it. Links rely on
//! identity only, never on addresses or times.
//!
//! The dial of a channel begins in a task of its own. It is attributed (`triggeredBy`) to the first call that it serves
//! or fails, if that call was waiting when it began. A call that was dropped before the dial ended is not linked to it.
//!
//! # Which calls are linked
//!
//! | channel | calls | their connection |
//! |---|---|---|
//! | [`connect`], [`connect_lazy`] and those with a connector | all | always |
//! | tower's `Balance` over such channels | all | always |
//! | tonic's `Channel::balance_list` and `balance_channel`, inside [`layer`] | all | none: tonic makes their connections itself |
//! | a client of hyper-util inside a [layer of its own](crate::request::TraceRequestLayer) | all | always, see [`request`](crate::request) |

mod body;
mod connector;
mod executor;
mod origin;
mod task_context;

pub use self::{
    body::LinkBody,
    connector::{LinkConnect, LinkConnectFuture, LinkIo, LinkLayer},
    executor::{LinkExecutor, Scope, scope},
};

use self::task_context::without_context;
use crate::{
    connect::TcpConnector,
    error::BoxError,
    request::{TraceRequest, TraceRequestLayer},
    sink::{RequestHandle, ResponseExt, TraceSink},
};
use ::tonic::{
    body::Body as TonicBody,
    transport::{self, Endpoint, Error},
};
use http::{Request, Response, Uri};
use hyper::rt::{Read, Write};
use socket2::TcpKeepalive;
use std::time::Duration;
use tower::{ServiceExt, util::BoxCloneSyncService};
use tower_layer::Layer;
use tower_service::Service;

/// A channel whose calls are recorded. Cheap to clone, like tonic's.
pub type Channel = TraceRequest<transport::Channel, LinkBody>;

/// A boxed [`Channel`] with tonic's own body types, for clients that are not generic over their channel, such as
/// `etcd_client::Channel::Custom`.
pub type BoxChannel = BoxCloneSyncService<Request<TonicBody>, Response<TonicBody>, BoxError>;

impl Channel {
    /// Boxes the channel. The error of a call is a [`tonic::transport::Error`](Error).
    pub fn boxed(self) -> BoxChannel {
        let boxed =
            self.map_response(|response: Response<_>| response.map(TonicBody::new)).map_err(Into::into);
        BoxCloneSyncService::new(boxed)
    }
}

/// Connects a channel over a [`TcpConnector`] with the endpoint's options.
///
/// Options that an endpoint does not expose need [`connect_with_connector`]: a local address (see
/// [`TcpConnector::source_ip`]), and the path of a Unix socket (`unix:path`, which is connected to but not recorded).
/// An executor of the endpoint is replaced, see [`LinkExecutor::over`].
///
/// As with tonic's own connector, [`Endpoint::connect_timeout`] limits the TCP handshakes
/// ([`TcpConnector::connect_timeout`]), but neither the name lookup nor TLS.
///
/// With a sink that is off for good, [disabled](TraceSink::disabled) or closed, the channel is tonic's own.
///
/// # Errors
///
/// Returns the errors of [`Endpoint::connect`].
pub async fn connect(sink: &TraceSink, endpoint: Endpoint) -> Result<Channel, Error> {
    if hides_path(&endpoint) || !sink.may_record() {
        return Ok(layer(sink).layer(endpoint.connect().await?));
    }
    let (connector, endpoint) = connector(sink, endpoint);
    connect_with_connector(sink, endpoint, connector).await
}

/// Creates a channel that connects when it is first used. See [`connect`].
pub fn connect_lazy(sink: &TraceSink, endpoint: Endpoint) -> Channel {
    if hides_path(&endpoint) || !sink.may_record() {
        return layer(sink).layer(endpoint.connect_lazy());
    }
    let (connector, endpoint) = connector(sink, endpoint);
    connect_with_connector_lazy(sink, endpoint, connector)
}

/// Connects a channel over any connector that records its connections: a [`TcpConnector`], TLS over it, or a foreign
/// one inside [`TraceConnectLayer`](crate::connect::TraceConnectLayer).
///
/// As with [`Endpoint::connect_with_connector`], [`Endpoint::connect_timeout`] limits everything that the connector
/// does, and tonic's own TLS.
///
/// # Errors
///
/// Returns the errors of [`Endpoint::connect_with_connector`].
pub async fn connect_with_connector<C>(
    sink: &TraceSink,
    endpoint: Endpoint,
    connector: C,
) -> Result<Channel, Error>
where
    C: Service<Uri> + Send + 'static,
    C::Response: Read + Write + Send + Unpin + 'static,
    C::Future: Send,
    BoxError: From<C::Error>,
{
    if !sink.may_record() {
        return Ok(layer(sink).layer(endpoint.connect_with_connector(connector).await?));
    }
    let connector = LinkLayer::new(sink).connect_timeout(endpoint.get_connect_timeout()).layer(connector);
    let endpoint = endpoint.executor(LinkExecutor::new());
    let channel = scope(endpoint.connect_with_connector(connector)).await?;
    Ok(layer(sink).origin(origin(&endpoint)).layer(channel))
}

/// Creates a channel that connects when it is first used. See [`connect_with_connector`].
pub fn connect_with_connector_lazy<C>(sink: &TraceSink, endpoint: Endpoint, connector: C) -> Channel
where
    C: Service<Uri> + Send + 'static,
    C::Response: Read + Write + Send + Unpin + 'static,
    C::Future: Send,
    BoxError: From<C::Error>,
{
    if !sink.may_record() {
        return layer(sink).layer(endpoint.connect_with_connector_lazy(connector));
    }
    let connector = LinkLayer::new(sink).connect_timeout(endpoint.get_connect_timeout()).layer(connector);
    let endpoint = endpoint.executor(LinkExecutor::new());
    // The first task of the channel begins with a context of its own, whichever task creates the channel.
    let channel = without_context(|| endpoint.connect_with_connector_lazy(connector));
    layer(sink).origin(origin(&endpoint)).layer(channel)
}

/// Returns the origin that is recorded with the endpoint's calls.
fn origin(endpoint: &Endpoint) -> Uri {
    origin::of_endpoint(endpoint).unwrap_or_else(|| endpoint.uri().clone())
}

/// Returns the layer that records the calls of a channel. [`connect`] and the other functions apply it.
///
/// A channel adds scheme and authority below the layer. They are recorded if [`origin`](TraceRequestLayer::origin) sets
/// them.
pub fn layer(sink: &TraceSink) -> TraceRequestLayer<LinkBody> {
    TraceRequestLayer::new(sink).mapped(LinkBody)
}

/// Returns a connector that is set up as tonic's own would be, and the endpoint to use it with.
///
/// tonic's own connector applies the connect timeout to the TCP handshakes only, not to the lookup of the name or to
/// TLS. For any other connector tonic applies it to everything, so the returned endpoint has a timeout that is never
/// reached: one that is set cannot be removed.
fn connector(sink: &TraceSink, endpoint: Endpoint) -> (TcpConnector, Endpoint) {
    let (time, interval) = (endpoint.get_tcp_keepalive(), endpoint.get_tcp_keepalive_interval());
    let retries = endpoint.get_tcp_keepalive_retries();
    // Each of the three options enables keep-alive.
    let are_wanted = time.is_some() || interval.is_some() || retries.is_some();
    let probes = time.into_iter().fold(TcpKeepalive::new(), TcpKeepalive::with_time);
    let probes = interval.into_iter().fold(probes, TcpKeepalive::with_interval);
    let probes = retries.into_iter().fold(probes, TcpKeepalive::with_retries);
    let limit = endpoint.get_connect_timeout();
    let connector = TcpConnector::new(sink)
        .nodelay(endpoint.get_tcp_nodelay())
        .keep_alive_probes(are_wanted.then_some(probes))
        .connect_timeout(limit);
    let endpoint = if limit.is_some() { endpoint.connect_timeout(Duration::MAX) } else { endpoint };
    (connector, endpoint)
}

/// Returns `true` for an endpoint of a Unix socket, which does not expose its path.
fn hides_path(endpoint: &Endpoint) -> bool {
    *endpoint.uri() == "http://tonic"
}

impl<T> ResponseExt for ::tonic::Response<T> {
    fn request_handle(&self) -> Option<&RequestHandle> {
        RequestHandle::from_extensions(self.extensions())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::Full;
    use socket2::{Domain, SockRef, Socket, Type};
    use std::{net::SocketAddr, sync::Arc};
    use task_context::{TaskContext, enter_context};
    use tokio::net::TcpListener;

    /// The dial of a call is found through the context of the channel's first task.
    #[tokio::test]
    async fn a_channel_has_a_context_whichever_task_creates_it() {
        // Connections to a socket that does not listen are refused.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let addr = socket.local_addr().unwrap().as_socket().unwrap();
        let sink = TraceSink::new();
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
        let mut task_of_calls = Some(Arc::new(TaskContext { takes_calls: true, ..TaskContext::default() }));
        let channel = {
            let _guard = enter_context(&mut task_of_calls);
            connect_lazy(&sink, endpoint)
        };
        let body = TonicBody::new(Full::new(Bytes::from_static(b"call")));
        assert!(channel.oneshot(Request::post("/").body(body).unwrap()).await.is_err());
        let trace = sink.snapshot("");
        assert_eq!(trace.dials[0].triggered_by, trace.http_requests[0].trace_id);
    }

    /// The same as with tonic's own connector.
    #[tokio::test]
    async fn any_keep_alive_setting_enables_keep_alive() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::from_static("http://a.test");
        let time = Some(Duration::from_secs(7));
        for (endpoint, is_on) in [
            (endpoint.clone(), false),
            (endpoint.clone().tcp_keepalive(time), true),
            (endpoint.clone().tcp_keepalive_interval(time), true),
            (endpoint.tcp_keepalive_retries(Some(3)), true),
        ] {
            let (connector, endpoint) = connector(&TraceSink::disabled(), endpoint);
            let stream = connector.connect(listener.local_addr().unwrap()).await.unwrap();
            assert_eq!(SockRef::from(stream.get_ref()).keepalive().unwrap(), is_on, "{endpoint:?}");
        }
    }
}
