//! The record of one handshake, on either side of it: from its observation to what the trace shows.

use std::{error::Error, sync::Arc};

use rustls::{AlertDescription, CommonState, HandshakeKind};

use super::{
    certificate::ChainCache, handshake_inspector::HandshakeInspector,
    handshake_observation::HandshakeObservation, iana_names,
};
use crate::{
    error::{
        FailureDetail, TlsError,
        rustls::{alert_name, find_rustls_error},
    },
    record::{EndReason, Failure},
    sink::{TlsFacts, TlsRecorder},
};

/// The tunnel's recorder and the observation of its handshake, until the handshake ends.
pub(crate) struct HandshakeRecorder {
    pub(crate) recorder: TlsRecorder,
    pub(crate) observation: Arc<HandshakeObservation>,
    /// Whether this side, the client, offers HTTP/2.
    pub(super) offers_http2: bool,
}

impl HandshakeRecorder {
    /// Returns `None` if nothing is to be recorded.
    pub(crate) fn begin(recorder: TlsRecorder, chains: &Arc<ChainCache>) -> Option<Self> {
        recorder.is_on().then(|| HandshakeRecorder {
            recorder,
            observation: Arc::new(HandshakeObservation::new(chains.clone())),
            offers_http2: false,
        })
    }

    /// Records a successful handshake. The tunnel's recorder is returned, since the tunnel goes on.
    pub(crate) fn established(self, connection: &CommonState) -> TlsRecorder {
        let HandshakeRecorder { mut recorder, observation, offers_http2 } = self;
        recorder
            .established(TlsFacts { offered_http2: offers_http2, ..negotiated(connection, &observation) });
        recorder
    }

    /// Records that the handshake failed with this error.
    pub(crate) fn failed_with(self, error: &TlsError) {
        let rustls = error.source().and_then(find_rustls_error);
        self.failed(EndReason::Failed, |observation| {
            let alert = observation.inspect(|inspector| alert(rustls, inspector));
            (FailureDetail::new(error.failure(), error.cause()), alert)
        });
    }

    /// Records that the handshake took too long.
    pub(crate) fn timed_out(self, error: &TlsError) {
        self.failed(EndReason::Timeout, |_| {
            (FailureDetail::new(error.failure(), error.cause()), String::new())
        });
    }

    /// Records that the future of the handshake was dropped.
    pub(crate) fn given_up(self) {
        let detail = FailureDetail::new(Failure::Interrupted, "the handshake was given up");
        self.failed(EndReason::Cancelled, |_| (detail, String::new()));
    }

    /// Records the end of a failed handshake. `describe` returns what went wrong and the alert about it.
    fn failed(
        self,
        reason: EndReason,
        describe: impl FnOnce(&HandshakeObservation) -> (FailureDetail, String),
    ) {
        let HandshakeRecorder { recorder, observation, offers_http2 } = self;
        let (detail, alert) = describe(&observation);
        let facts = TlsFacts { alert: alert.into(), offered_http2: offers_http2, ..partial(&observation) };
        recorder.failed(facts, detail, reason);
    }
}

/// Returns what an established connection has negotiated.
pub(super) fn negotiated(connection: &CommonState, observation: &HandshakeObservation) -> TlsFacts {
    // When a session is resumed the verifier sees no certificates; rustls keeps those of the first handshake.
    let peer_certs = observation
        .take_peer_certs()
        .unwrap_or_else(|| observation.describe_chain(connection.peer_certificates().unwrap_or_default()));
    TlsFacts {
        tls_version: connection.protocol_version().map(iana_names::version).unwrap_or_default(),
        cipher_suite: connection.negotiated_cipher_suite().map_or(0, |suite| suite.suite().into()),
        key_exchange_group: connection
            .negotiated_key_exchange_group()
            .map(|group| iana_names::group(group.name()))
            .unwrap_or_default(),
        negotiated_proto: connection.alpn_protocol().map(iana_names::protocol).unwrap_or_default(),
        did_resume: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        peer_certs,
        ..observation.inspect(|inspector| client_hello_facts(inspector))
    }
}

/// Returns what a failed handshake had said unencrypted by then.
fn partial(observation: &HandshakeObservation) -> TlsFacts {
    let peer_certs = observation.take_peer_certs().unwrap_or_default();
    TlsFacts { peer_certs, ..observation.inspect(|inspector| hello_facts(inspector)) }
}

/// Returns what is known of the ClientHello, and whether the server wanted another one.
fn client_hello_facts(inspector: &HandshakeInspector) -> TlsFacts {
    TlsFacts {
        client_hello_len: inspector.client_hello_len().unwrap_or_default(),
        hello_retry_request: inspector.is_retried(),
        ..TlsFacts::default()
    }
}

/// Returns what both sides said in their unencrypted messages.
pub(super) fn hello_facts(inspector: &HandshakeInspector) -> TlsFacts {
    let Some(hello) = inspector.server_hello() else { return client_hello_facts(inspector) };
    TlsFacts {
        tls_version: iana_names::version(hello.version),
        cipher_suite: hello.cipher_suite.into(),
        key_exchange_group: hello.group.map(iana_names::group).unwrap_or_default(),
        negotiated_proto: hello.alpn.as_deref().map(iana_names::protocol).unwrap_or_default(),
        ..client_hello_facts(inspector)
    }
}

/// Returns the alert that ended the handshake and which side sent it; empty if there was none.
pub(super) fn alert(error: Option<&rustls::Error>, inspector: &HandshakeInspector) -> String {
    if let Some(rustls::Error::AlertReceived(alert)) = error {
        return format!("received {}", alert_name(*alert));
    }
    if let Some(alert) = inspector.received_alert() {
        return format!("received {}", alert_name(alert));
    }
    if let Some(alert) = inspector.sent_alert() {
        return format!("sent {}", alert_name(alert));
    }
    // By now TLS 1.3 encrypts what is sent, so the inspector cannot read the alert. rustls has exactly one for each of
    // these errors.
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
