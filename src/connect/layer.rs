//! A layer around any hyper connector.
//!
//! It sees a dial from the outside: when it began and ended, its addresses as far as the stream tells them, and the
//! reads and writes of the stream. Attempts that fail inside the connector are not seen.

use super::TracedIo;
use crate::{
    connected::with_extras,
    error::{BoxError, classify},
    record::Text,
    sink::{ConnRef, DialRecorder, Endpoint, TraceSink, Transport},
};
use http::{Uri, uri::Authority};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpInfo},
    rt::TokioIo,
};
use pin_project_lite::pin_project;
use std::{
    any::Any,
    pin::Pin,
    task::{Context, Poll, ready},
};
#[cfg(unix)]
use tokio::net::UnixStream;
use tower_layer::Layer;
use tower_service::Service;

/// A layer that records the dials of any hyper connector and the connections that they establish.
///
/// A stream is asked for its description ([`Connection::connected`]) when the connector returns it. The first caller of
/// `connected()` on the traced stream gets that answer.
///
/// Wrap the connector below TLS: reads and writes are then those of the socket. For a connector that does TLS itself
/// call [`above_tls`](Self::above_tls): the connection is then marked `layer: "application"`, since the bytes counted
/// there are not those that TCP carried.
///
/// ```
/// use hyper_util::{client::legacy::{Client, connect::HttpConnector}, rt::TokioExecutor};
/// use nettrace::{TraceSink, connect::TraceConnectLayer};
/// use tower_layer::Layer;
///
/// let sink = TraceSink::new();
/// let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
/// let client: Client<_, http_body_util::Empty<bytes::Bytes>> =
///     Client::builder(TokioExecutor::new()).build(connector);
/// ```
#[derive(Clone, Debug)]
pub struct TraceConnectLayer {
    sink: TraceSink,
    above_tls: bool,
}

impl TraceConnectLayer {
    /// Creates a layer that records into `sink`.
    pub fn new(sink: &TraceSink) -> Self {
        TraceConnectLayer { sink: sink.clone(), above_tls: false }
    }

    /// Sets whether the connector does TLS itself. By default it does not.
    pub fn above_tls(mut self, above_tls: bool) -> Self {
        self.above_tls = above_tls;
        self
    }
}

impl<C> Layer<C> for TraceConnectLayer {
    type Service = TraceConnect<C>;

    fn layer(&self, inner: C) -> TraceConnect<C> {
        TraceConnect { inner, sink: self.sink.clone(), above_tls: self.above_tls }
    }
}

/// A connector whose dials are recorded; see [`TraceConnectLayer`].
#[derive(Clone, Debug)]
pub struct TraceConnect<C> {
    inner: C,
    sink: TraceSink,
    above_tls: bool,
}

impl<C> Service<Uri> for TraceConnect<C>
where
    C: Service<Uri>,
    C::Response: Connection + 'static,
    C::Error: Into<BoxError>,
{
    type Response = TracedIo<C::Response>;
    /// The connector's own error, boxed: it is passed on with the same type and source chain.
    type Error = BoxError;
    type Future = TraceConnectFuture<C::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dial = self.sink.dial(|| destination(&uri));
        dial.before_foreign_connect();
        let inner = dial.dial().scope(|| self.inner.call(uri));
        TraceConnectFuture { inner, dial, above_tls: self.above_tls }
    }
}

pin_project! {
    /// The future of [`TraceConnect`]: polls the inner connector on behalf of its dial.
    #[derive(Debug)]
    pub struct TraceConnectFuture<F> {
        #[pin]
        inner: F,
        dial: DialRecorder,
        above_tls: bool,
    }
}

impl<F, T, E> Future for TraceConnectFuture<F>
where
    F: Future<Output = Result<T, E>>,
    T: Connection + 'static,
    E: Into<BoxError>,
{
    type Output = Result<TracedIo<T>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let inner = this.inner;
        let result = ready!(this.dial.dial().scope(|| inner.poll(cx)));
        let dial = std::mem::take(this.dial);
        Poll::Ready(match result {
            Ok(io) => {
                let mut description = None;
                let endpoint = || endpoint(&io, description.insert(io.connected()));
                let conn = dial.adopt(Transport::Tcp, endpoint, *this.above_tls);
                dial.established(conn.conn_ref());
                let is_http2 = description.as_ref().is_some_and(Connected::is_negotiated_h2);
                if let Some(conn) = conn.conn_ref().filter(|_| is_http2) {
                    conn.set_http2();
                }
                conn.foreign_connected();
                Ok(TracedIo::new(io, conn).with_description(description))
            }
            Err(error) => {
                let error = error.into();
                dial.failed(|| classify::failure_detail(&*error));
                Err(error)
            }
        })
    }
}

/// Returns `host:port` of a URI, where the port defaults to that of the scheme.
pub(crate) fn destination(uri: &Uri) -> Text {
    let authority = uri.authority().map_or("", Authority::as_str);
    let without_user_info = authority.rsplit_once('@').map_or(authority, |(_, rest)| rest);
    // The usual case, without the scans of the authority by `Uri::host` and `Uri::port_u16`. `http` accepts brackets
    // that are not around a whole host.
    if let Some((host, port)) = without_user_info.rsplit_once(':')
        && !host.contains(['[', ']'])
        && is_canonical_port(port)
    {
        return without_user_info.into();
    }
    let default = || if matches!(uri.scheme_str(), Some("https" | "wss")) { 443 } else { 80 };
    host_and_port(uri.host().unwrap_or_default(), uri.port_u16().unwrap_or_else(default))
}

/// Returns `true` for a port as it is displayed: without leading zeros.
fn is_canonical_port(text: &str) -> bool {
    text.starts_with(|first: char| matches!(first, '1'..='9')) && text.parse::<u16>().is_ok()
}

/// Returns `host:port`.
pub(super) fn host_and_port(host: &str, port: u16) -> Text {
    Text::concat([host, ":", itoa::Buffer::new().format(port)])
}

/// Returns the addresses that the stream tells: those of a traced connection inside it, or hyper-util's.
fn endpoint<T: Connection + 'static>(io: &T, connected: &Connected) -> Endpoint {
    let (local, remote) = with_extras(connected, |extras| match ConnRef::from_extensions(extras) {
        Some(inner) => (inner.local_addr(), inner.peer_addr()),
        None => {
            let info = extras.get::<HttpInfo>();
            (info.map(HttpInfo::local_addr), info.map(HttpInfo::remote_addr))
        }
    });
    Endpoint { local, remote, path: unix_path(io) }
}

/// Returns the path that a Unix socket is connected to.
#[cfg(unix)]
fn unix_path(io: &dyn Any) -> Option<Box<str>> {
    let io = io.downcast_ref::<TokioIo<UnixStream>>()?;
    Some(io.inner().peer_addr().ok()?.as_pathname()?.to_string_lossy().into())
}

#[cfg(not(unix))]
fn unix_path(_: &dyn Any) -> Option<Box<str>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_has_a_host_and_a_port() {
        for (uri, expected) in [
            ("http://web.test", "web.test:80"),
            ("https://web.test/a:1", "web.test:443"),
            ("http://web.test:8080/a", "web.test:8080"),
            ("http://web.test:080", "web.test:80"),
            ("http://web.test:0", "web.test:0"),
            ("https://web.test:", "web.test:443"),
            ("http://user:12@web.test", "web.test:80"),
            ("http://user:12@web.test:34", "web.test:34"),
            ("https://[::1]", "[::1]:443"),
            ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443"),
            ("http://[::1]x:80", "[::1]:80"),
            ("/a", ":80"),
        ] {
            assert_eq!(destination(&uri.parse().unwrap()), expected, "{uri}");
        }
    }
}
