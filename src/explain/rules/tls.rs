//! Causes in TLS handshakes.

use crate::{
    explain::{
        case::Case,
        found::{Found, Stage},
    },
    record::{Failure, Timestamp, TlsTunnelTrace},
};

/// Returns the tunnel whose handshake failed.
fn failed<'a>(case: &Case<'a>) -> Option<&'a TlsTunnelTrace> {
    case.tunnels.iter().copied().find(|tunnel| tunnel.failure.is_some() || !tunnel.handshake_err.is_empty())
}

pub(super) fn expired(case: &Case<'_>) -> Option<Found> {
    let tunnel = failed(case)?;
    if tunnel.failure != Some(Failure::SslInvalidCertificate) {
        return None;
    }
    let certificate = tunnel.peer_certs.first()?;
    let (end, seen) = (case.at(certificate.not_after)?, case.at(tunnel.handshake_begin_at)?);
    if end >= seen {
        return None;
    }
    let name = if tunnel.server_name.is_empty() { case.host() } else { tunnel.server_name.clone() };
    let sentence = format!("The certificate of {name} expired on {}.", date(certificate.not_after));
    let found = Found::failure(Stage::Tls, name.as_str(), sentence)
        .check(format!("Renew the certificate of {name}, issued by {}.", certificate.issuer))
        .costs(case.between(tunnel.handshake_begin_at, tunnel.handshake_end_at));
    Some(found.shows(tunnel, "peerCerts.notAfter", certificate.not_after).shows_at(
        tunnel,
        "handshakeErr",
        &**tunnel.handshake_err,
        tunnel.handshake_end_at,
    ))
}

/// Returns the day of a time: the text before the hour.
fn date(time: Timestamp) -> String {
    let text = time.to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}
