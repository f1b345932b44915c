use super::ProxyStream;
use crate::error::BoxError;
use futures_util::future::BoxFuture;
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

type ViaProxy<IO> = BoxFuture<'static, Result<ProxyStream<IO>, BoxError>>;

pin_project! {
    /// The future of [`ProxyConnector`](super::ProxyConnector): connects, directly or through a proxy.
    pub struct ProxyConnectFuture<F, IO> {
        #[pin]
        state: State<F, IO>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, IO> {
        Direct { #[pin] connect: F },
        ViaProxy { connect: ViaProxy<IO> },
        Failed { error: Option<BoxError> },
    }
}

impl<F, IO> ProxyConnectFuture<F, IO> {
    pub(super) fn direct(connect: F) -> Self {
        ProxyConnectFuture { state: State::Direct { connect } }
    }

    pub(super) fn via_proxy(connect: ViaProxy<IO>) -> Self {
        ProxyConnectFuture { state: State::ViaProxy { connect } }
    }

    pub(super) fn failed(error: BoxError) -> Self {
        ProxyConnectFuture { state: State::Failed { error: Some(error) } }
    }
}

impl<F, IO, E> Future for ProxyConnectFuture<F, IO>
where
    F: Future<Output = Result<IO, E>>,
    E: Into<BoxError>,
{
    type Output = Result<ProxyStream<IO>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().state.project() {
            StateProjection::Direct { connect } => {
                ready!(connect.poll(cx)).map(ProxyStream::direct).map_err(Into::into)
            }
            StateProjection::ViaProxy { connect } => ready!(connect.as_mut().poll(cx)),
            StateProjection::Failed { error } => {
                Err(error.take().expect("`ProxyConnectFuture` polled after completion"))
            }
        })
    }
}

impl<F, IO> fmt::Debug for ProxyConnectFuture<F, IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Direct { .. } => "direct",
            State::ViaProxy { .. } => "through a proxy",
            State::Failed { .. } => "failed",
        };
        f.debug_struct("ProxyConnectFuture").field("state", &state).finish()
    }
}
