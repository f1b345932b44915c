//! One handshake while it runs: its tap, its verifier's slot, its time limit and its record.

use std::{
    cell::Cell,
    error::Error,
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt;
use hyper_util::{client::legacy::connect::Connection, rt::TokioIo};
use rustls::{
    AlertDescription, CertificateError, CommonState, HandshakeKind,
    pki_types::{CertificateDer, ServerName},
};
use tokio::time::{Sleep, sleep};
use tokio_rustls::{TlsConnector, client::FallibleConnect, client::TlsStream as RustlsStream};

use super::{
    certificate::ChainCache, handshake_inspector::HandshakeInspector, handshake_tap::HandshakeTap,
    iana_names, layer::LayerConfig, stream::TlsStream,
};
use crate::{
    error::{
        FailureDetail, NoRuntime, TlsError,
        classify::io_failure,
        rustls::{alert_name, carried},
    },
    record::{EndReason, Failure, Text},
    scoped,
    sink::{ConnRef, PeerChain, TlsFacts, TlsRecorder},
};

/// What becomes known of a handshake while it runs, for the record of one that fails.
#[derive(Debug)]
pub(crate) struct HandshakeObservation {
    chains: Arc<ChainCache>,
    state: Mutex<ObservationState>,
}

#[derive(Debug, Default)]
struct ObservationState {
    inspector: HandshakeInspector,
    peer_certs: Option<PeerChain>,
}

impl ObservationState {
    /// Returns `true` if the server's own certificate names itself as its issuer.
    fn is_self_signed(&self) -> bool {
        let Some(certs) = self.peer_certs.as_ref().map(PeerChain::certs) else { return false };
        certs.first().is_some_and(|own| !own.subject.is_empty() && own.subject == own.issuer)
    }
}

impl HandshakeObservation {
    pub(crate) fn new(chains: Arc<ChainCache>) -> Self {
        HandshakeObservation { chains, state: Mutex::default() }
    }

    /// Gives the inspector to `read`; the tap calls it with the bytes that pass.
    pub(crate) fn inspect<R>(&self, read: impl FnOnce(&mut HandshakeInspector) -> R) -> R {
        read(&mut self.state().inspector)
    }

    /// Returns what the error does not say, and people want to know.
    fn hint(&self, error: Option<&rustls::Error>) -> &'static str {
        let state = self.state();
        let inspector = &state.inspector;
        let unknown_issuer = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        if inspector.is_plain_http() {
            " (the server answered in plain HTTP)"
        } else if inspector.asked_for_certificate() && matches!(error, Some(rustls::Error::AlertReceived(_)))
        {
            " (the server had asked for a client certificate)"
        } else if error == Some(&unknown_issuer) && state.is_self_signed() {
            " (self-signed certificate)"
        } else {
            ""
        }
    }

    fn state(&self) -> MutexGuard<'_, ObservationState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    /// The handshake that is being polled on this thread.
    static POLLED: Cell<Option<Arc<HandshakeObservation>>> = const { Cell::new(None) };
}

/// Told by the verifier what the peer presented.
pub(crate) fn on_peer_certificates(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) {
    if let Some(observation) = scoped::current(&POLLED) {
        let chain = observation.chains.describe(std::iter::once(end_entity).chain(intermediates));
        observation.state().peer_certs = Some(chain);
    }
}

/// Runs `f` with the handshake as the one that is being polled.
pub(crate) fn scope<R>(observation: Option<&Arc<HandshakeObservation>>, f: impl FnOnce() -> R) -> R {
    match observation {
        Some(observation) => scoped::scope(&POLLED, observation.clone(), f),
        None => f(),
    }
}

/// A running handshake; dropped before its end, it is recorded as given up, with what was known by then.
pub(super) struct Handshake<IO> {
    /// None when there is nothing to record; taken when the handshake ends.
    record: Option<HandshakeRecorder>,
    connect: FallibleConnect<HandshakeTap<TokioIo<IO>>>,
    /// The timer of the time limit, created when the handshake has to wait for the first time.
    timer: Option<Pin<Box<Sleep>>>,
    name: ServerName<'static>,
    layer: Arc<LayerConfig>,
}

/// What is written down of a handshake while it runs, on either side.
pub(crate) struct HandshakeRecorder {
    pub(crate) recorder: TlsRecorder,
    pub(crate) observation: Arc<HandshakeObservation>,
}

impl HandshakeRecorder {
    /// `None` when there is nothing to record.
    pub(crate) fn begin(recorder: TlsRecorder, chains: &Arc<ChainCache>) -> Option<Self> {
        recorder.is_on().then(|| HandshakeRecorder {
            recorder,
            observation: Arc::new(HandshakeObservation::new(chains.clone())),
        })
    }

    pub(crate) fn established(self, connection: &CommonState) -> TlsRecorder {
        let HandshakeRecorder { mut recorder, observation } = self;
        recorder.established(negotiated(connection, &observation));
        recorder
    }

    /// Records the end of a failed handshake. `fault` returns what went wrong and the alert about it.
    fn failed(self, reason: EndReason, fault: impl FnOnce(&HandshakeObservation) -> (FailureDetail, String)) {
        let HandshakeRecorder { recorder, observation } = self;
        let (fault, alert) = fault(&observation);
        recorder.failed(TlsFacts { alert: alert.into(), ..partial(&observation) }, fault, reason);
    }

    /// Records that the handshake failed with this error.
    pub(crate) fn failed_with(self, error: &TlsError) {
        let rustls = error.source().and_then(carried);
        self.failed(EndReason::Failed, |observation| {
            let alert = observation.inspect(|inspector| alert(rustls, inspector));
            (FailureDetail::new(error.failure(), error.cause()), alert)
        });
    }

    pub(crate) fn timed_out(self, error: &TlsError) {
        self.failed(EndReason::Timeout, |_| {
            (FailureDetail::new(error.failure(), error.cause()), String::new())
        });
    }

    pub(crate) fn given_up(self) {
        let fault = FailureDetail::new(Failure::Interrupted, "the handshake was given up");
        self.failed(EndReason::Cancelled, |_| (fault, String::new()));
    }
}

impl<IO> Handshake<IO>
where
    IO: rt::Read + rt::Write + Connection + Unpin,
{
    /// Builds the ClientHello; nothing is sent before the first poll.
    pub(super) fn begin(
        io: IO,
        name: ServerName<'static>,
        layer: Arc<LayerConfig>,
        connector: TlsConnector,
    ) -> Self {
        let conn = layer.sink.is_enabled().then(|| ConnRef::of(&io)).flatten();
        let recorder = layer.sink.tls(conn.as_ref(), || sent_name(&name, &connector));
        let record = HandshakeRecorder::begin(recorder, &layer.chains);
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
        stream.get_mut().0.stop();
        let recorder = self.record.take().map(|record| record.established(stream.get_ref().1));
        let own_conn = recorder.as_ref().and_then(TlsRecorder::own_conn);
        TlsStream::new(stream, recorder, own_conn)
    }
}

impl<IO> Handshake<IO> {
    /// Resolves when the handshake may not go on: its time is over, or there is no timer to measure it.
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
        let hint = record.as_ref().map_or("", |record| record.observation.hint(rustls_error(&error)));
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

/// The code of an error of the handshake; any alert means that it failed.
fn handshake_failure(error: &io::Error) -> Failure {
    match io_failure(error) {
        Failure::TlsAlert => Failure::SslFailedHandshake,
        failure => failure,
    }
}

pub(crate) fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    carried(error)
}

/// What an established connection agreed on.
pub(super) fn negotiated(connection: &CommonState, observation: &HandshakeObservation) -> TlsFacts {
    // A resumed session shows no certificates to the verifier; rustls remembers those of the first.
    let peer_certs = observation.state().peer_certs.take();
    let peer_certs = peer_certs
        .unwrap_or_else(|| observation.chains.describe(connection.peer_certificates().unwrap_or_default()));
    TlsFacts {
        tls_version: connection
            .protocol_version()
            .map(|version| iana_names::version(version.into()))
            .unwrap_or_default(),
        cipher_suite: connection.negotiated_cipher_suite().map_or(0, |suite| suite.suite().into()),
        key_exchange_group: connection
            .negotiated_key_exchange_group()
            .map(|group| iana_names::group(group.name().into()))
            .unwrap_or_default(),
        negotiated_proto: connection.alpn_protocol().map(iana_names::protocol).unwrap_or_default(),
        did_resume: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        peer_certs,
        ..TlsFacts::default()
    }
}

/// What was said in the clear before a handshake ended without success.
fn partial(observation: &HandshakeObservation) -> TlsFacts {
    let mut state = observation.state();
    let peer_certs = state.peer_certs.take().unwrap_or_default();
    let Some(hello) = state.inspector.server_hello() else {
        return TlsFacts { peer_certs, ..TlsFacts::default() };
    };
    TlsFacts {
        tls_version: iana_names::version(hello.version),
        cipher_suite: hello.cipher_suite,
        key_exchange_group: hello.group.map(iana_names::group).unwrap_or_default(),
        negotiated_proto: hello.alpn.as_deref().map(iana_names::protocol).unwrap_or_default(),
        peer_certs,
        ..TlsFacts::default()
    }
}

/// The alert that ended the handshake, and who sent it.
fn alert(error: Option<&rustls::Error>, inspector: &HandshakeInspector) -> String {
    let name = |code: u8| alert_name(code.into());
    if let Some(rustls::Error::AlertReceived(alert)) = error {
        return format!("received {}", alert_name(*alert));
    }
    if let Some(code) = inspector.received_alert() {
        return format!("received {}", name(code));
    }
    if let Some(code) = inspector.sent_alert() {
        return format!("sent {}", name(code));
    }
    // TLS 1.3 encrypts what is sent by now; rustls has one alert for each of these.
    let sent = match error {
        Some(rustls::Error::InvalidCertificate(error)) => error.clone().into(),
        Some(rustls::Error::NoCertificatesPresented) if inspector.is_server() => {
            AlertDescription::CertificateRequired
        }
        Some(rustls::Error::NoApplicationProtocol) => AlertDescription::NoApplicationProtocol,
        _ => return String::new(),
    };
    if inspector.sent_last() { format!("sent {}", alert_name(sent)) } else { String::new() }
}

/// The name in the ClientHello (RFC 6066 §3): none for an IP address.
fn sent_name(name: &ServerName<'_>, connector: &TlsConnector) -> Text {
    match name {
        ServerName::DnsName(name) if connector.config().enable_sni => {
            name.as_ref().trim_end_matches('.').into()
        }
        _ => Text::EMPTY,
    }
}
