//! Handshakes that a foreign client (reqwest) makes with a configuration whose verifier is ours.
//!
//! Nothing of such a handshake can be wrapped, but rustls calls the verifier at known points: for the list of signature
//! schemes when a ClientHello is built, with the server's certificates, and with the server's signature, whose method
//! tells the version. The calls are attributed to a dial by a thread-local that is set while that dial is polled.

use std::{
    cell::Cell,
    sync::{Arc, Mutex, MutexGuard},
};

use rustls::{
    Error, ProtocolVersion,
    pki_types::{CertificateDer, ServerName},
};

use super::{certificate::ChainCache, iana_names, server_name};
use crate::{
    error::rustls::alert_name,
    record::{BoxedOrEmpty, Text},
    scoped,
    sink::{DialRef, ForeignTunnel, PeerChain, Tick, TlsFacts},
    sync::IgnorePoison,
};

/// The handshakes of one dial.
#[derive(Debug)]
pub(crate) struct ForeignHandshakes {
    dial: DialRef,
    chains: Arc<ChainCache>,
    /// In their order. There are two with an HTTPS proxy.
    seen: Mutex<Vec<ForeignHandshake>>,
}

#[derive(Debug)]
struct ForeignHandshake {
    begin: Tick,
    server_name: Option<Text>,
    peer_certs: Option<PeerChain>,
    version: Option<ProtocolVersion>,
}

/// A cache of described chains that the dials of one client share.
#[derive(Clone, Debug)]
pub(crate) struct SharedChainCache(Arc<ChainCache>);

impl SharedChainCache {
    pub(crate) fn new() -> Self {
        SharedChainCache(Arc::new(ChainCache::new()))
    }
}

impl ForeignHandshakes {
    pub(crate) fn new(dial: DialRef, chains: &SharedChainCache) -> Arc<Self> {
        Arc::new(ForeignHandshakes { dial, chains: chains.0.clone(), seen: Mutex::default() })
    }

    /// Polls the dial with `f`: what the verifier is asked meanwhile is attributed to it.
    pub(crate) fn scope<R>(self: &Arc<Self>, f: impl FnOnce() -> R) -> R {
        scoped::scope(&POLLED, self.clone(), f)
    }

    /// Returns the tunnels of a dial that is over. `host` is its destination, `last` the outcome of the last handshake.
    pub(crate) fn take(&self, host: &str, last: Outcome<'_>) -> Vec<ForeignTunnel> {
        let mut seen = std::mem::take(&mut *self.seen());
        let last_seen = seen.pop();
        let before = seen.into_iter().map(|seen| seen.tunnel(host, Outcome::Established { is_h2: false }));
        let mut tunnels: Vec<_> = before.collect();
        tunnels.extend(last_seen.map(|seen| seen.tunnel(host, last)));
        tunnels
    }

    /// Returns `true` if a ClientHello was built.
    pub(crate) fn have_begun(&self) -> bool {
        !self.seen().is_empty()
    }

    fn seen(&self) -> MutexGuard<'_, Vec<ForeignHandshake>> {
        self.seen.lock().ignore_poison()
    }
}

/// How a handshake ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome<'a> {
    Established { is_h2: bool },
    Failed(Option<&'a Error>),
    Dropped,
}

impl ForeignHandshake {
    fn tunnel(self, host: &str, outcome: Outcome<'_>) -> ForeignTunnel {
        let (mut alert, mut negotiated_proto) = (BoxedOrEmpty::new(), Text::EMPTY);
        match outcome {
            Outcome::Established { is_h2: true } => negotiated_proto = "h2".into(),
            Outcome::Failed(Some(Error::AlertReceived(description))) => {
                alert = format!("received {}", alert_name(*description)).into();
            }
            _ => {}
        }
        // A handshake that resumes a session does not ask about certificates.
        let did_resume = matches!(outcome, Outcome::Established { .. }) && self.peer_certs.is_none();
        ForeignTunnel {
            server_name: self.server_name.unwrap_or_else(|| sent_name(host)),
            begin: self.begin,
            facts: TlsFacts {
                tls_version: self.version.map(iana_names::version).unwrap_or_default(),
                negotiated_proto,
                did_resume,
                peer_certs: self.peer_certs.unwrap_or_default(),
                alert,
                ..TlsFacts::default()
            },
        }
    }
}

/// Returns the name that a ClientHello to this host carries.
fn sent_name(host: &str) -> Text {
    server_name::parse(host).map_or(Text::EMPTY, |name| server_name::sni(&name))
}

thread_local! {
    /// The handshakes of the dial that is being polled on this thread.
    static POLLED: Cell<Option<Arc<ForeignHandshakes>>> = const { Cell::new(None) };
}

fn polled() -> Option<Arc<ForeignHandshakes>> {
    scoped::current(&POLLED)
}

/// Records that a ClientHello is built: the first of a handshake, or the answer to a HelloRetryRequest.
pub(super) fn on_client_hello() {
    let Some(handshakes) = polled() else { return };
    let Some(begin) = handshakes.dial.now() else { return };
    let mut seen = handshakes.seen();
    if seen.last().is_none_or(|last| last.peer_certs.is_some()) {
        seen.push(ForeignHandshake { begin, server_name: None, peer_certs: None, version: None });
    }
}

/// Records the certificates that the server presented.
pub(super) fn on_server_certificates(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    server_name: &ServerName<'_>,
) {
    let Some(handshakes) = polled() else { return };
    let chain = handshakes.chains.describe(std::iter::once(end_entity).chain(intermediates));
    if let Some(last) = handshakes.seen().last_mut() {
        last.peer_certs = Some(chain);
        last.server_name = Some(sent_name(&server_name.to_str()));
    }
}

/// Records that the server signed the handshake, as this version of TLS does.
pub(super) fn on_server_signature(version: ProtocolVersion) {
    let Some(handshakes) = polled() else { return };
    if let Some(last) = handshakes.seen().last_mut() {
        last.version = Some(version);
    }
}
