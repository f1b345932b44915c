//! Causes in the certificates of servers.

use super::{address, failed, failure, name};
use crate::{
    explain::{case::Case, found::Found, hosts::is_not_yet_valid},
    record::{Failure, PeerCert, Timestamp, TlsTunnelTrace},
};

/// Returns the tunnel that failed with this code, and its server's certificate.
fn refused<'a>(case: &Case<'a>, failure: Failure) -> Option<(&'a TlsTunnelTrace, &'a PeerCert)> {
    let tunnel = failed(case).filter(|tunnel| tunnel.failure == Some(failure))?;
    Some((tunnel, tunnel.peer_certs.first()?))
}

/// A certificate of the chain that has expired, the server's own first.
pub(in crate::explain::rules) fn expired(case: &Case<'_>) -> Option<Found> {
    let (tunnel, own) = refused(case, Failure::SslInvalidCertificate)?;
    let seen = case.at(tunnel.handshake_begin_at)?;
    let is_over = |certificate: &&PeerCert| case.at(certificate.not_after).is_some_and(|end| end < seen);
    let certificate = tunnel.peer_certs.iter().find(is_over)?;
    let (name, day) = (name(case, tunnel), date(certificate.not_after));
    let (sentence, suggestion) = if certificate == own {
        (
            format!("The certificate of {name} expired on {day}."),
            format!("Renew the certificate of {name}, issued by {}.", certificate.issuer),
        )
    } else {
        let issuer = &certificate.subject;
        (
            format!("The certificate of {issuer}, with which that of {name} was issued, expired on {day}."),
            format!("Let {name} send the current certificate of {issuer}, or have its own one issued anew."),
        )
    };
    let found = failure(case, tunnel, name.as_str(), sentence, suggestion);
    Some(found.shows(tunnel, "peerCerts.notAfter", certificate.not_after))
}

pub(in crate::explain::rules) fn not_yet_valid(case: &Case<'_>) -> Option<Found> {
    let (tunnel, certificate) = early(case)?;
    if case.hosts.tls().not_yet_valid.len() > 1 {
        return None; // this is rather about the clock
    }
    let name = name(case, tunnel);
    let sentence = format!(
        "The certificate of {name} is valid only from {}, which is after this host's time.",
        certificate.not_before
    );
    let suggestion = format!("Check the clock of this host, and when the certificate of {name} was issued.");
    let found = failure(case, tunnel, name.as_str(), sentence, suggestion);
    Some(found.shows_at(tunnel, "peerCerts.notBefore", certificate.not_before, tunnel.handshake_begin_at))
}

pub(in crate::explain::rules) fn own_clock_wrong(case: &Case<'_>) -> Option<Found> {
    let (tunnel, certificate) = early(case)?;
    let others = &case.hosts.tls().not_yet_valid;
    let other = others.iter().find(|other| other.server_name != tunnel.server_name)?;
    let sentence = format!(
        "The clock of this host is behind: the certificates of {} servers are not yet valid, that of {} until {}.",
        others.len(),
        name(case, tunnel),
        certificate.not_before
    );
    let suggestion = "Set the clock of this host, and check that it is kept by NTP.";
    let found = failure(case, tunnel, "the clock of this host", sentence, suggestion);
    let found =
        found.shows_at(tunnel, "peerCerts.notBefore", certificate.not_before, tunnel.handshake_begin_at);
    let not_before = other.peer_certs.first()?.not_before;
    Some(found.shows_at(*other, "peerCerts.notBefore", not_before, other.handshake_begin_at))
}

fn early<'a>(case: &Case<'a>) -> Option<(&'a TlsTunnelTrace, &'a PeerCert)> {
    refused(case, Failure::SslInvalidCertificate).filter(|(tunnel, _)| is_not_yet_valid(case.graph, tunnel))
}

/// Words in the certificates of products that intercept TLS connections.
const INSPECTORS: [&str; 20] = [
    "zscaler",
    "netskope",
    "fortinet",
    "fortigate",
    "palo alto",
    "blue coat",
    "bluecoat",
    "cisco umbrella",
    "checkpoint",
    "check point",
    "sophos",
    "forcepoint",
    "mcafee web gateway",
    "barracuda",
    "eset ssl filter",
    "kaspersky anti-virus",
    "mitmproxy",
    "charles proxy",
    "portswigger",
    "do_not_trust_fiddlerroot",
];

/// A certificate that something on the way has issued: another issuer than the host has elsewhere in the trace, or the
/// name of an inspection product.
pub(in crate::explain::rules) fn intercepted(case: &Case<'_>) -> Option<Found> {
    let (tunnel, own) = refused(case, Failure::SslUnknownAuthority)?;
    let (name, issuer) = (name(case, tunnel), own.issuer.as_str());
    let lower = issuer.to_lowercase();
    let is_inspector = INSPECTORS.iter().any(|product| lower.contains(product));
    let genuine = case.hosts.tls().of(&tunnel.server_name).and_then(|host| host.accepted);
    let genuine = genuine.and_then(|other| Some((other, other.peer_certs.first()?)));
    let genuine = genuine.filter(|(_, certificate)| certificate.issuer != issuer && issuer != own.subject);
    if !is_inspector && genuine.is_none() {
        return None;
    }
    let sentence = match (is_inspector, genuine) {
        (false, Some((_, certificate))) => format!(
            "The connection to {name} may be intercepted: its certificate was issued by {issuer}, elsewhere in this \
             trace by {}.",
            certificate.issuer
        ),
        _ => format!("The connection to {name} is intercepted: {issuer} issued the certificate."),
    };
    let suggestion = format!(
        "Add the authority {issuer} to the trusted roots if the interception is wanted, or exempt {name} from it."
    );
    let found = failure(case, tunnel, name.as_str(), sentence, suggestion);
    let found = found.shows(tunnel, "peerCerts.issuer", issuer);
    Some(match genuine {
        Some((other, certificate)) => found.shows(other, "peerCerts.issuer", &certificate.issuer),
        None => found,
    })
}

/// The server sent its own certificate alone, and the issuer of it is not trusted, so that it is no root.
pub(in crate::explain::rules) fn missing_intermediate(case: &Case<'_>) -> Option<Found> {
    let (tunnel, own) = untrusted(case)?;
    if tunnel.peer_certs.len() != 1 || own.issuer == own.subject {
        return None;
    }
    let (name, issuer) = (name(case, tunnel), &own.issuer);
    let sentence =
        format!("{name} sent its certificate without that of its issuer {issuer}, which is no trusted root.");
    let suggestion = format!(
        "If {issuer} is an intermediate authority, let {name} send its certificate too. If it is a root of your own, add it \
         to those that the client trusts (`Roots`, or `--cacert` of the command)."
    );
    let found = failure(case, tunnel, name.as_str(), sentence, suggestion);
    Some(found.shows(tunnel, "peerCerts.issuer", issuer).shows(tunnel, "peerCerts", "one certificate"))
}

pub(in crate::explain::rules) fn unknown_authority(case: &Case<'_>) -> Option<Found> {
    let (tunnel, own) = untrusted(case)?;
    let last = tunnel.peer_certs.last()?;
    let is_self_signed = own.issuer == own.subject;
    if tunnel.peer_certs.len() == 1 && !is_self_signed {
        return None;
    }
    let (name, issuer) = (name(case, tunnel), &last.issuer);
    let (sentence, suggestion) = match is_self_signed {
        true => (
            format!("The certificate of {name} is self-signed ({issuer}), and not among the trusted roots."),
            format!("Add the certificate to the trusted roots, or give {name} one of a trusted authority."),
        ),
        false => (
            format!("The certificate of {name} leads to the authority {issuer}, which is not trusted."),
            format!(
                "Add {issuer} to the trusted roots, or give {name} a certificate of a trusted authority."
            ),
        ),
    };
    let found = failure(case, tunnel, name.as_str(), sentence, suggestion);
    Some(found.shows(tunnel, "peerCerts.issuer", issuer))
}

/// Returns the tunnel whose authority is not trusted, for no reason that another rule knows.
fn untrusted<'a>(case: &Case<'a>) -> Option<(&'a TlsTunnelTrace, &'a PeerCert)> {
    let known = intercepted(case).or_else(|| default_certificate(case));
    refused(case, Failure::SslUnknownAuthority).filter(|_| known.is_none())
}

pub(in crate::explain::rules) fn wrong_name(case: &Case<'_>) -> Option<Found> {
    let (tunnel, own) = refused(case, Failure::SslInvalidHostname)?;
    let name = name(case, tunnel);
    if is_unrelated(&own.sans, &name) {
        return None;
    }
    let names = names(&own.sans);
    let sentence =
        format!("The certificate that {} sent is not for {name}: it is for {names}.", address(case, tunnel));
    let suggestion = format!("Use one of its names in the URL, or issue a certificate for {name} too.");
    let found = failure(case, tunnel, name.as_str(), sentence, suggestion);
    Some(found.shows(tunnel, "peerCerts.sans", names))
}

/// The server does not know the name: it sent the certificate of other sites, or an alert.
pub(in crate::explain::rules) fn default_certificate(case: &Case<'_>) -> Option<Found> {
    let tunnel = failed(case)?;
    let (name, address) = (name(case, tunnel), address(case, tunnel));
    let suggestion = format!(
        "Check that {name} is to lead to {address}, and that a site with a certificate for {name} is set up there."
    );
    if &**tunnel.alert == "received unrecognized_name" {
        let sentence = format!("The server at {address} does not know the name {name} (unrecognized_name).");
        return Some(failure(case, tunnel, name.as_str(), sentence, suggestion));
    }
    let own = match tunnel.failure {
        Some(Failure::SslInvalidHostname | Failure::SslUnknownAuthority) => tunnel.peer_certs.first()?,
        _ => return None,
    };
    if !is_unrelated(&own.sans, &name) {
        return None;
    }
    let names = names(&own.sans);
    let sentence = format!("The server at {address} has no certificate for {name}: it sent that of {names}.");
    let found = failure(case, tunnel, name.as_str(), sentence, suggestion);
    Some(found.shows(tunnel, "peerCerts.sans", names))
}

/// Returns `true` if a name is a DNS name, and none of the names of a certificate has its last two labels.
fn is_unrelated(sans: &[String], name: &str) -> bool {
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    let domain = |name: &str| {
        let mut labels = name.trim_end_matches('.').rsplit('.');
        let (top, second) = (labels.next().map(str::to_lowercase), labels.next().map(str::to_lowercase));
        (top, second)
    };
    !is_address && !sans.is_empty() && sans.iter().all(|san| domain(san) != domain(name))
}

/// Returns the first names of a certificate.
fn names(sans: &[String]) -> String {
    const MAX_NAMES: usize = 4;
    match sans.len() {
        0 => "no host".into(),
        count if count <= MAX_NAMES => sans.join(", "),
        count => format!("{} and {} more", sans[..MAX_NAMES].join(", "), count - MAX_NAMES),
    }
}

/// Returns the day of a time: the text before the hour.
fn date(time: Timestamp) -> String {
    let text = time.to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}
