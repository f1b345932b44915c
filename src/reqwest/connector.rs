//! A layer that records the dials of a reqwest client.

use crate::{
    connect::destination,
    connected::with_extras,
    error::{BoxError, classify},
    reqwest::addr_index::{AddrIndex, AddrPair, Origin, addr_pair},
    sink::{DialRecorder, Endpoint, TraceSink},
    tls::foreign_handshakes::{ForeignHandshakes, Outcome, SharedChainCache},
};
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use pin_project_lite::pin_project;
use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// A layer that records the dials of a reqwest client, for
/// [`ClientBuilder::connector_layer`](reqwest::ClientBuilder::connector_layer).
///
/// [`trace`](super::trace) installs it. The connections remain reqwest's, so that reads and writes are not recorded.
/// The layer indexes the connections of all clients that it is installed in, and a [`TraceClient`](super::TraceClient)
/// looks up the connection of a request there.
#[derive(Clone, Debug)]
pub struct TraceConnectorLayer {
    pub(super) sink: TraceSink,
    pub(super) addrs: Arc<AddrIndex>,
    chains: SharedChainCache,
    /// The path of the Unix socket that the client connects to, if any.
    unix_socket: Arc<OnceLock<Box<str>>>,
}

impl TraceConnectorLayer {
    /// Creates a layer that records into `sink`.
    pub fn new(sink: &TraceSink) -> Self {
        TraceConnectorLayer {
            sink: sink.clone(),
            addrs: Arc::default(),
            chains: SharedChainCache::new(),
            unix_socket: Arc::default(),
        }
    }

    /// Returns a copy of the layer for a client whose Unix socket is not known yet.
    pub(super) fn for_client(&self) -> Self {
        TraceConnectorLayer { unix_socket: Arc::default(), ..self.clone() }
    }

    /// Sets the Unix socket that the client connects to.
    pub(super) fn set_unix_socket(&self, unix_socket: Option<Box<str>>) {
        if let Some(path) = unix_socket {
            // The builder of the client sets it once.
            let _ = self.unix_socket.set(path);
        }
    }
}

impl<S> Layer<S> for TraceConnectorLayer {
    type Service = TraceConnector<S>;

    fn layer(&self, inner: S) -> TraceConnector<S> {
        TraceConnector { shared: Arc::new(Shared { inner, layer: self.clone() }), own: None }
    }
}

/// A connector of reqwest whose dials are recorded. Created by [`TraceConnectorLayer`].
///
/// reqwest clones its connector six times per request, even if a connection is reused. So a clone shares the inner
/// connector, and makes its own copy when it is used for the first time.
#[derive(Debug)]
pub struct TraceConnector<S> {
    shared: Arc<Shared<S>>,
    own: Option<S>,
}

/// The state that all clones of a connector share.
#[derive(Debug)]
struct Shared<S> {
    inner: S,
    layer: TraceConnectorLayer,
}

impl<S: Clone> TraceConnector<S> {
    /// Returns the inner connector of this clone, and the layer.
    fn parts(&mut self) -> (&mut S, &TraceConnectorLayer) {
        let TraceConnector { shared, own } = self;
        (own.get_or_insert_with(|| shared.inner.clone()), &shared.layer)
    }
}

impl<S> Clone for TraceConnector<S> {
    fn clone(&self) -> Self {
        TraceConnector { shared: self.shared.clone(), own: None }
    }
}

/// `Q` is a private type of reqwest: a [`Uri`] that only its `Debug` output shows.
impl<S, Q> Service<Q> for TraceConnector<S>
where
    S: Service<Q, Error = BoxError> + Clone,
    S::Response: Connection,
    Q: fmt::Debug,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = TraceConnectorFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.parts().0.poll_ready(cx)
    }

    fn call(&mut self, to: Q) -> Self::Future {
        let (inner, TraceConnectorLayer { sink, addrs, chains, unix_socket }) = self.parts();
        if !sink.is_enabled() {
            let unrecorded = sink.may_record().then(|| addrs.clone());
            return TraceConnectorFuture { inner: inner.call(to), dial: None, unrecorded };
        }
        let uri = uri(&to);
        let recorder = sink.dial(|| destination(&uri));
        let dial = recorder.dial().clone();
        let inner = dial.scope(|| inner.call(to));
        let handshakes = ForeignHandshakes::new(dial, chains);
        let (addrs, unix_socket) = (addrs.clone(), unix_socket.clone());
        let dial = Some(DialInProgress { recorder, handshakes, uri, addrs, unix_socket });
        TraceConnectorFuture { inner, dial, unrecorded: None }
    }
}

/// Parses the `Debug` output `Unnameable(https://a.test/)`.
fn uri(to: &impl fmt::Debug) -> Uri {
    let text = format!("{to:?}");
    let uri = text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(&text);
    uri.parse().unwrap_or_default()
}

pin_project! {
    /// The connect future of [`TraceConnector`].
    #[derive(Debug)]
    pub struct TraceConnectorFuture<F> {
        // The first field: dropping it closes the connection, which ends before its dial.
        #[pin]
        inner: F,
        dial: Option<DialInProgress>,
        // Set if the dial is not recorded: the index is told of its connection, which prevents it from being mistaken
        // for another.
        unrecorded: Option<Arc<AddrIndex>>,
    }
}

/// A recorded dial that is in progress.
#[derive(Debug)]
struct DialInProgress {
    recorder: DialRecorder,
    handshakes: Arc<ForeignHandshakes>,
    uri: Uri,
    addrs: Arc<AddrIndex>,
    unix_socket: Arc<OnceLock<Box<str>>>,
}

impl<F, C> Future for TraceConnectorFuture<F>
where
    F: Future<Output = Result<C, BoxError>>,
    C: Connection,
{
    type Output = Result<C, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(dial) = this.dial else {
            let polled = this.inner.poll(cx);
            if let (Poll::Ready(Ok(conn)), Some(addrs)) = (&polled, this.unrecorded) {
                match addresses_of(&conn.connected()) {
                    Some(addresses) => addrs.add(addresses, None, None),
                    None => addrs.add_unrecorded_unaddressed(),
                }
            }
            return polled;
        };
        let polled = dial.recorder.dial().scope(|| dial.handshakes.scope(|| this.inner.poll(cx)));
        if let Poll::Ready(result) = &polled
            && let Some(dial) = this.dial.take()
        {
            match result {
                Ok(conn) => dial.established(conn),
                Err(error) => dial.failed(&**error),
            }
        }
        polled
    }
}

impl DialInProgress {
    fn established(mut self, conn: &impl Connection) {
        let connected = conn.connected();
        let addresses = addresses_of(&connected);
        let now = self.recorder.dial().now();
        let outcome = Outcome::Established { is_h2: connected.is_negotiated_h2() };
        let tunnels = self.handshakes.take(self.uri.host().unwrap_or_default(), outcome);
        let endpoint = Endpoint {
            local: addresses.map(|(local, _)| local),
            remote: addresses.map(|(_, remote)| remote),
            path: self.unix_socket.get().filter(|_| addresses.is_none()).cloned(),
        };
        let conn = std::mem::take(&mut self.recorder).finish_unobserved(endpoint, tunnels);
        match addresses {
            Some(addresses) => self.addrs.add(addresses, conn, now),
            None => self.addrs.add_unaddressed(Origin::of_uri(&self.uri), conn),
        }
    }

    fn failed(mut self, error: &(dyn Error + 'static)) {
        let recorder = std::mem::take(&mut self.recorder);
        let fault = classify::failure_detail(error);
        // After a successful handshake only a proxy can still refuse.
        let of_tls = rustls_error(error);
        if self.handshakes.have_begun() && (of_tls.is_some() || is_io(error)) {
            let tunnels = self.handshakes.take(self.uri.host().unwrap_or_default(), Outcome::Failed(of_tls));
            recorder.handshake_failed(tunnels, fault);
        } else {
            recorder.failed(|| fault);
        }
    }
}

impl Drop for DialInProgress {
    fn drop(&mut self) {
        if self.recorder.dial().is_on() && self.handshakes.have_begun() {
            let tunnels = self.handshakes.take(self.uri.host().unwrap_or_default(), Outcome::Dropped);
            std::mem::take(&mut self.recorder).handshake_dropped(tunnels);
        }
    }
}

fn addresses_of(connected: &Connected) -> Option<AddrPair> {
    with_extras(connected, addr_pair)
}

/// Returns the error of rustls that an error is or contains. `source` of an I/O error skips the error inside it.
fn rustls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = error.downcast_ref() {
        return Some(error);
    }
    let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match carried {
        Some(carried) => rustls_error(carried),
        None => rustls_error(error.source()?),
    }
}

fn is_io(error: &(dyn Error + 'static)) -> bool {
    error.is::<io::Error>() || error.source().is_some_and(is_io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    #[expect(dead_code, reason = "only `Debug` reads it")]
    struct Unnameable(Uri);

    #[test]
    fn the_uri_is_read_from_the_debug_output() {
        let to = Uri::from_static("https://a.test:8443");
        assert_eq!(uri(&Unnameable(to)).port_u16(), Some(8443));
        assert_eq!(uri(&"no URI at all"), Uri::default());
    }

    #[test]
    fn nested_tls_errors_are_found() {
        let tls = || rustls::Error::General("no".into());
        for error in [
            Box::new(tls()) as BoxError,
            io::Error::other(tls()).into(),
            io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls())).into(),
        ] {
            assert_eq!(rustls_error(&*error), Some(&tls()));
        }
        assert_eq!(rustls_error(&io::Error::other("else")), None);
    }
}
