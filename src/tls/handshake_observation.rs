//! The observations of one handshake while it runs.
//!
//! A failed handshake leaves no connection that could be asked. So the bytes are inspected as they pass
//! (`HandshakeTap`), and the verifier reports the certificates that it is shown. One verifier serves all handshakes,
//! because rustls resumes a session only with the verifier that it began with: whose handshake it is asked about is
//! known from a thread-local that is set while that handshake is polled.

use std::{
    cell::Cell,
    sync::{Arc, Mutex, MutexGuard},
};

use rustls::{CertificateError, Error, pki_types::CertificateDer};

use super::{certificate::ChainCache, handshake_inspector::HandshakeInspector};
use crate::{scoped, sink::PeerChain, sync::IgnorePoison};

/// The observations of a handshake so far: its unencrypted messages and the peer's certificates.
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

    /// Calls `f` with the inspector of the bytes that have passed.
    pub(crate) fn inspect<R>(&self, f: impl FnOnce(&mut HandshakeInspector) -> R) -> R {
        f(&mut self.state().inspector)
    }

    /// Takes the description of the certificates that the verifier was shown. Returns `None` if it was not asked, as
    /// when a session is resumed.
    pub(super) fn take_peer_certs(&self) -> Option<PeerChain> {
        self.state().peer_certs.take()
    }

    /// Describes a chain, or finds the description of an equal one.
    pub(super) fn describe_chain(&self, chain: &[CertificateDer<'_>]) -> PeerChain {
        self.chains.describe(chain)
    }

    /// Returns what explains the failure but is not part of the error, in parentheses; empty if nothing is known.
    pub(super) fn hint(&self, error: Option<&Error>) -> &'static str {
        let state = self.state();
        let inspector = &state.inspector;
        let unknown_issuer = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        if inspector.is_http_response() {
            " (the server answered in plain HTTP)"
        } else if inspector.requested_certificate() && matches!(error, Some(Error::AlertReceived(_))) {
            " (the server had asked for a client certificate)"
        } else if error == Some(&unknown_issuer) && state.is_self_signed() {
            " (self-signed certificate)"
        } else {
            ""
        }
    }

    fn state(&self) -> MutexGuard<'_, ObservationState> {
        self.state.lock().ignore_poison()
    }
}

thread_local! {
    /// The handshake that is being polled on this thread.
    static POLLED: Cell<Option<Arc<HandshakeObservation>>> = const { Cell::new(None) };
}

/// Runs `f` with the handshake as the one that is being polled, if there is one to observe.
pub(crate) fn scope<R>(observation: Option<&Arc<HandshakeObservation>>, f: impl FnOnce() -> R) -> R {
    match observation {
        Some(observation) => scoped::scope(&POLLED, observation.clone(), f),
        None => f(),
    }
}

/// Records the certificates that the peer presented in the handshake that is being polled. Called by the verifiers.
pub(crate) fn on_peer_certificates(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) {
    if let Some(observation) = scoped::current(&POLLED) {
        let chain = observation.chains.describe(std::iter::once(end_entity).chain(intermediates));
        observation.state().peer_certs = Some(chain);
    }
}
