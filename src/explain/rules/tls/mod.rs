//! Causes in TLS handshakes.
//!
//! An alert about a certificate is about that of the side that receives the alert.

mod certificates;
mod closing;
mod hello;
mod negotiation;

pub(super) use self::{
    certificates::{
        default_certificate, expired, intercepted, missing_intermediate, not_yet_valid, own_clock_wrong,
        unknown_authority, wrong_name,
    },
    closing::truncated,
    hello::{hello_retry, large_hello_dropped, no_answer, not_tls},
    negotiation::{
        alpn_fallback, client_certificate, ech_or_early_data_rejected, never_resumes, no_common_protocol,
        no_common_version_or_suite,
    },
};
use crate::{
    explain::{
        case::{Case, peer},
        found::{Found, Stage},
    },
    record::{Text, TlsTunnelTrace},
};

/// Returns the tunnel of this side that failed.
fn failed<'a>(case: &Case<'a>) -> Option<&'a TlsTunnelTrace> {
    let is_failed = |tunnel: &&TlsTunnelTrace| tunnel.failure.is_some() || !tunnel.handshake_err.is_empty();
    case.tunnels.iter().copied().filter(|tunnel| !tunnel.accepted).find(is_failed)
}

/// Returns the name of the server: the one that was sent to it, or else the host that was dialed.
fn name(case: &Case<'_>, tunnel: &TlsTunnelTrace) -> Text {
    if tunnel.server_name.is_empty() { case.host() } else { tunnel.server_name.clone() }
}

/// Returns the address of the server, or of the proxy over which it was reached.
fn address(case: &Case<'_>, tunnel: &TlsTunnelTrace) -> String {
    case.trace().tcp_conns.get(&tunnel.tcp_conn).map(peer).unwrap_or_default()
}

/// Begins a finding about a tunnel that explains a failure, and quotes its error or else its alert.
fn failure(
    case: &Case<'_>,
    tunnel: &TlsTunnelTrace,
    about: impl Into<Text>,
    sentence: String,
    suggestion: impl Into<String>,
) -> Found {
    let found = Found::failure(Stage::Tls, about, sentence)
        .check(suggestion)
        .costs(case.between(tunnel.handshake_begin_at, tunnel.handshake_end_at));
    let found = match tunnel.alert.is_empty() {
        true => found,
        false => found.shows_at(tunnel, "alert", &**tunnel.alert, tunnel.handshake_end_at),
    };
    match (&tunnel.failure, tunnel.handshake_err.is_empty()) {
        (Some(failure), true) => found.shows_at(tunnel, "failure", failure, tunnel.handshake_end_at),
        _ => found.shows_at(tunnel, "handshakeErr", &**tunnel.handshake_err, tunnel.handshake_end_at),
    }
}
