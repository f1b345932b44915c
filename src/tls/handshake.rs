//! The client's side of one handshake while it runs: tokio-rustls's future with its observation, its time limit and its
//! record.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt;
use hyper_util::{client::legacy::connect::Connection, rt::TokioIo};
use rustls::pki_types::ServerName;
use tokio::time::{Sleep, sleep};
use tokio_rustls::{TlsConnector, client::FallibleConnect, client::TlsStream as RustlsStream};

use super::{
    handshake_observation::scope, handshake_recorder::HandshakeRecorder, handshake_tap::HandshakeTap,
    layer_config::LayerConfig, server_name, stream::TlsStream,
};
use crate::{
    error::{NoRuntime, TlsError, classify::io_failure, rustls::find_rustls_error},
    record::{Failure, Text},
    sink::{ConnRef, TlsRecorder},
};

/// A handshake in progress. Dropped before its end, it is recorded as given up, with what was known by then.
pub(super) struct Handshake<IO> {
    /// `None` if nothing is recorded, and once the handshake has ended.
    record: Option<HandshakeRecorder>,
    connect: FallibleConnect<HandshakeTap<TokioIo<IO>>>,
    /// The timer of the time limit. Created when the handshake first has to wait.
    timer: Option<Pin<Box<Sleep>>>,
    name: ServerName<'static>,
    layer: Arc<LayerConfig>,
}

impl<IO> Handshake<IO>
where
    IO: rt::Read + rt::Write + Connection + Unpin,
{
    /// Builds the ClientHello. Nothing is sent before the first poll.
    pub(super) fn begin(
        io: IO,
        name: ServerName<'static>,
        layer: Arc<LayerConfig>,
        connector: TlsConnector,
    ) -> Self {
        let conn = layer.sink.is_enabled().then(|| ConnRef::of(&io)).flatten();
        let recorder = layer.sink.tls(conn.as_ref(), || sent_name(&name, &connector));
        let mut record = HandshakeRecorder::begin(recorder, &layer.chains);
        if let Some(record) = &mut record {
            record.offers_http2 = connector.config().alpn_protocols.iter().any(|protocol| protocol == b"h2");
        }
        let observation = record.as_ref().map(|record| &record.observation);
        let tap = HandshakeTap::new(TokioIo::new(io), observation.cloned());
        let connect = scope(observation, || connector.connect(name.clone(), tap).into_fallible());
        Handshake { record, connect, timer: None, name, layer }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<TlsStream<IO>, TlsError>> {
        let connect = &mut self.connect;
        match scope(self.record.as_ref().map(|record| &record.observation), || Pin::new(connect).poll(cx)) {
            Poll::Ready(Ok(stream)) => Poll::Ready(Ok(self.established(stream))),
            Poll::Ready(Err((error, _io))) => Poll::Ready(Err(self.failed(error))),
            Poll::Pending => self.poll_limit(cx).map(Err),
        }
    }

    fn established(&mut self, mut stream: RustlsStream<HandshakeTap<TokioIo<IO>>>) -> TlsStream<IO> {
        stream.get_mut().0.stop_observing();
        let recorder = self.record.take().map(|record| record.established(stream.get_ref().1));
        let own_conn = recorder.as_ref().and_then(TlsRecorder::own_conn);
        TlsStream::new(stream, recorder, own_conn)
    }
}

impl<IO> Handshake<IO> {
    /// Resolves to an error when the time is over, or when there is no tokio runtime whose timer could measure it.
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<TlsError> {
        let Some(limit) = self.layer.handshake_timeout else { return Poll::Pending };
        let timer = match &mut self.timer {
            Some(timer) => timer,
            None => match NoRuntime::check() {
                Ok(()) => self.timer.insert(Box::pin(sleep(limit))),
                Err(error) => return Poll::Ready(self.no_runtime(error)),
            },
        };
        timer.as_mut().poll(cx).map(|()| self.timed_out(limit))
    }

    fn no_runtime(&mut self, error: NoRuntime) -> TlsError {
        let error = TlsError::no_runtime(self.name.to_str(), error);
        if let Some(record) = self.record.take() {
            record.failed_with(&error);
        }
        error
    }

    fn failed(&mut self, error: io::Error) -> TlsError {
        let failure = handshake_failure(&error);
        let record = self.record.take();
        let hint = record.as_ref().map_or("", |record| record.observation.hint(find_rustls_error(&error)));
        let error = TlsError::handshake(self.name.to_str(), failure, error, hint);
        if let Some(record) = record {
            record.failed_with(&error);
        }
        error
    }

    fn timed_out(&mut self, limit: Duration) -> TlsError {
        let error = TlsError::timeout(self.name.to_str(), limit);
        if let Some(record) = self.record.take() {
            record.timed_out(&error);
        }
        error
    }
}

impl<IO> Drop for Handshake<IO> {
    fn drop(&mut self) {
        self.record.take().into_iter().for_each(HandshakeRecorder::given_up);
    }
}

impl<IO> fmt::Debug for Handshake<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Returns the failure code of a handshake error. Any alert means that the handshake failed.
fn handshake_failure(error: &io::Error) -> Failure {
    match io_failure(error) {
        Failure::TlsAlert => Failure::SslFailedHandshake,
        failure => failure,
    }
}

/// Returns the name in the ClientHello, unless the configuration sends none.
fn sent_name(name: &ServerName<'_>, connector: &TlsConnector) -> Text {
    if connector.config().enable_sni { server_name::sni(name) } else { Text::EMPTY }
}
