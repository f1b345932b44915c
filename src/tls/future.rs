use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::Connection;
use pin_project_lite::pin_project;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::{handshake::Handshake, layer_config::LayerConfig, stream::MaybeTlsStream};
use crate::error::{BoxError, TlsError};

pin_project! {
    /// The future of [`TraceTls`](super::TraceTls): connects, then performs the TLS handshake if there is one.
    pub struct TraceTlsFuture<F, IO> {
        #[pin]
        state: State<F, IO>,
    }
}

/// A handshake that begins once the connection is there.
pub(super) struct PendingHandshake {
    pub(super) name: ServerName<'static>,
    pub(super) connector: TlsConnector,
    pub(super) layer: Arc<LayerConfig>,
}

pin_project! {
    #[project = StateProjection]
    enum State<F, IO> {
        Connecting { #[pin] connect: F, pending: Option<PendingHandshake> },
        // Boxed, because the state of a rustls handshake takes several kilobytes.
        Handshaking { handshake: Box<Handshake<IO>> },
        Failed { error: TlsError },
        Done,
    }
}

impl<F, IO> TraceTlsFuture<F, IO> {
    pub(super) fn connecting(connect: F, pending: Option<PendingHandshake>) -> Self {
        TraceTlsFuture { state: State::Connecting { connect, pending } }
    }

    pub(super) fn failed(error: TlsError) -> Self {
        TraceTlsFuture { state: State::Failed { error } }
    }
}

impl<F, IO, E> Future for TraceTlsFuture<F, IO>
where
    F: Future<Output = Result<IO, E>>,
    IO: Read + Write + Connection + Unpin,
    E: Into<BoxError>,
{
    type Output = Result<MaybeTlsStream<IO>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let result = loop {
            match state.as_mut().project() {
                StateProjection::Connecting { connect, pending } => {
                    match (ready!(connect.poll(cx)), pending.take()) {
                        (Ok(io), Some(PendingHandshake { name, connector, layer })) => {
                            let handshake = Box::new(Handshake::begin(io, name, layer, connector));
                            state.set(State::Handshaking { handshake });
                        }
                        (Ok(io), None) => break Ok(MaybeTlsStream::Plain(io)),
                        (Err(error), _) => break Err(error.into()),
                    }
                }
                StateProjection::Handshaking { handshake } => {
                    break ready!(handshake.poll(cx)).map(MaybeTlsStream::Tls).map_err(Into::into);
                }
                StateProjection::Failed { error } => break Err(error.duplicate().into()),
                StateProjection::Done => panic!("`TraceTlsFuture` polled after completion"),
            }
        };
        state.set(State::Done);
        Poll::Ready(result)
    }
}

impl<F, IO> fmt::Debug for TraceTlsFuture<F, IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Connecting { .. } => "connecting",
            State::Handshaking { .. } => "handshaking",
            State::Failed { .. } => "failed",
            State::Done => "done",
        };
        f.debug_struct("TraceTlsFuture").field("state", &state).finish()
    }
}
