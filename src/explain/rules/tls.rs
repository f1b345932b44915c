//! Causes in TLS handshakes.
//!
//! What an alert says about a certificate, it says about that of the side that receives it.

use super::http::{acknowledged, ran_out};
use crate::{
    explain::{
        case::{Case, peer},
        found::{Found, Stage},
        hosts::is_not_yet_valid,
    },
    readable::duration,
    record::{Failure, PeerCert, TcpConnTrace, TcpInfoEvent, Text, Timestamp, TlsTunnelTrace},
};

/// Returns the tunnel of this side that failed.
fn failed<'a>(case: &Case<'a>) -> Option<&'a TlsTunnelTrace> {
    let is_failed = |tunnel: &&TlsTunnelTrace| tunnel.failure.is_some() || !tunnel.handshake_err.is_empty();
    case.tunnels.iter().copied().filter(|tunnel| !tunnel.accepted).find(is_failed)
}

/// Returns the tunnel that failed with this code, and its server's certificate.
fn refused<'a>(case: &Case<'a>, failure: Failure) -> Option<(&'a TlsTunnelTrace, &'a PeerCert)> {
    let tunnel = failed(case).filter(|tunnel| tunnel.failure == Some(failure))?;
    Some((tunnel, tunnel.peer_certs.first()?))
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

pub(super) fn not_tls(case: &Case<'_>) -> Option<Found> {
    let tunnel = failed(case).filter(|tunnel| tunnel.failure == Some(Failure::TlsNotTls))?;
    let address = address(case, tunnel);
    let is_http = tunnel.handshake_err.contains("plain HTTP");
    let what = if is_http { "plain HTTP" } else { "another protocol" };
    let suggestion = match is_http {
        true => format!("Use http:// for {address}, or the port of {} that has TLS.", name(case, tunnel)),
        false => format!("Check what listens on {address}, and which port of it has TLS."),
    };
    let sentence = format!("{address} does not speak TLS: it answered with {what}.");
    Some(failure(case, tunnel, address.as_str(), sentence, suggestion))
}

/// A certificate of the chain that has expired, the server's own first.
pub(super) fn expired(case: &Case<'_>) -> Option<Found> {
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

pub(super) fn not_yet_valid(case: &Case<'_>) -> Option<Found> {
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

pub(super) fn own_clock_wrong(case: &Case<'_>) -> Option<Found> {
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

/// What the certificates of products say that open TLS connections to look into them.
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
pub(super) fn intercepted(case: &Case<'_>) -> Option<Found> {
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
pub(super) fn missing_intermediate(case: &Case<'_>) -> Option<Found> {
    let (tunnel, own) = untrusted(case)?;
    if tunnel.peer_certs.len() != 1 || own.issuer == own.subject {
        return None;
    }
    let (name, issuer) = (name(case, tunnel), &own.issuer);
    let sentence =
        format!("{name} sent its certificate without that of its issuer {issuer}, which is no trusted root.");
    let suggestion = format!(
        "Let {name} send the certificate of {issuer} too; if that is a root, add it to the trusted ones."
    );
    let found = failure(case, tunnel, name.as_str(), sentence, suggestion);
    Some(found.shows(tunnel, "peerCerts.issuer", issuer).shows(tunnel, "peerCerts", "one certificate"))
}

pub(super) fn unknown_authority(case: &Case<'_>) -> Option<Found> {
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

pub(super) fn wrong_name(case: &Case<'_>) -> Option<Found> {
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
pub(super) fn default_certificate(case: &Case<'_>) -> Option<Found> {
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

const ASKED_FOR_CERTIFICATE: &str = "asked for a client certificate";

pub(super) fn no_common_version_or_suite(case: &Case<'_>) -> Option<Found> {
    let tunnel = failed(case).filter(|tunnel| !tunnel.handshake_err.contains(ASKED_FOR_CERTIFICATE))?;
    let name = name(case, tunnel);
    let what = match &**tunnel.alert {
        "received protocol_version" => "no version of TLS in common",
        "received handshake_failure" | "received insufficient_security" => {
            "no cipher suite, key exchange group or signature algorithm in common"
        }
        "received inappropriate_fallback" => "a higher version of TLS, and refuses this one",
        _ if tunnel.handshake_err.contains("peer is incompatible: ") => "no parameters of TLS in common",
        _ => return None,
    };
    let sentence = format!("{name} has {what} with this client.");
    let suggestion =
        format!("Compare the versions and cipher suites that {name} allows with the client's TLS settings.");
    Some(failure(case, tunnel, name.as_str(), sentence, suggestion))
}

pub(super) fn no_common_protocol(case: &Case<'_>) -> Option<Found> {
    let tunnel = failed(case).filter(|tunnel| &**tunnel.alert == "received no_application_protocol")?;
    let name = name(case, tunnel);
    let sentence = format!("{name} speaks none of the protocols that this client offers by ALPN.");
    let suggestion = format!("Compare the HTTP versions that the client offers with those of {name}.");
    Some(failure(case, tunnel, name.as_str(), sentence, suggestion))
}

pub(super) fn client_certificate(case: &Case<'_>) -> Option<Found> {
    let tunnel = failed(case)?;
    let is_wanted = tunnel.failure == Some(Failure::TlsClientCertificateRequired);
    if !is_wanted && !tunnel.handshake_err.contains(ASKED_FOR_CERTIFICATE) {
        return None;
    }
    let name = name(case, tunnel);
    let alert = tunnel.alert.strip_prefix("received ").unwrap_or_default();
    let (sentence, suggestion) = match alert {
        "unknown_ca" => (
            format!("{name} does not trust the authority that issued this client's certificate."),
            format!("Use a client certificate of an authority that {name} trusts, and send its whole chain."),
        ),
        "certificate_expired" => (
            format!("{name} says that this client's certificate has expired."),
            "Renew the client certificate.".into(),
        ),
        "bad_certificate" | "unsupported_certificate" | "certificate_revoked" | "certificate_unknown" => (
            format!("{name} rejects this client's certificate ({alert})."),
            format!("Look into the log of {name} for what is wrong with the client certificate."),
        ),
        _ => (
            format!("{name} wants a client certificate, and was sent none that it accepts."),
            format!("Configure a client certificate that {name} accepts."),
        ),
    };
    Some(failure(case, tunnel, name.as_str(), sentence, suggestion))
}

/// Every handshake of TLS 1.2 with the server is a full one, which takes a round trip more than a resumed one. In TLS
/// 1.3 both take the same number.
pub(super) fn never_resumes(case: &Case<'_>) -> Option<Found> {
    const MIN_COUNT: usize = 3;
    let is_own = |tunnel: &&&TlsTunnelTrace| {
        case.attempts.iter().any(|conn| conn.trace_id == tunnel.tcp_conn) && tunnel.handshake_err.is_empty()
    };
    let tunnel = *case.tunnels.iter().find(is_own)?;
    let host = case.hosts.tls().of(&tunnel.server_name)?;
    let before = host.full_before(case.at(tunnel.handshake_begin_at)?);
    if &*tunnel.tls_version != "TLSv1.2" || host.resumed > 0 || before.len() < MIN_COUNT {
        return None;
    }
    let (_, last) = before.last()?;
    let name = name(case, tunnel);
    let time = case.between(tunnel.handshake_begin_at, tunnel.handshake_end_at);
    let sentence = format!(
        "TLS sessions with {name} are never resumed: each of {} connections needed a full handshake, this one {}.",
        before.len() + 1,
        duration(time, false)
    );
    let found = Found::degraded(Stage::Tls, name.as_str(), sentence)
        .check(format!(
            "Let {name} keep sessions or issue tickets that all of its servers know, and share one TLS configuration \
             in the client."
        ))
        .costs(time / 2);
    let found = found.shows_at(tunnel, "didResume", false, tunnel.handshake_end_at);
    Some(found.shows_at(*last, "didResume", false, last.handshake_end_at))
}

/// Returns the tunnel whose handshake failed before its connection had received a single byte, with the connection.
fn unanswered<'a>(case: &Case<'a>) -> Option<(&'a TlsTunnelTrace, &'a TcpConnTrace)> {
    let tunnel = failed(case).filter(|tunnel| tunnel.cipher_suite == 0 && tunnel.alert.is_empty())?;
    let conn = case.trace().tcp_conns.get(&tunnel.tcp_conn)?;
    (conn.total_recv_bytes == 0 && conn.total_sent_bytes > 0 && !conn.bytes_unobserved)
        .then_some((tunnel, conn))
}

/// The ClientHello is longer than a segment, and was neither acknowledged nor answered.
pub(super) fn large_hello_dropped(case: &Case<'_>) -> Option<Found> {
    let (tunnel, conn) = unanswered(case)?;
    let info = conn.tcp_info.last().filter(|info| info.event == TcpInfoEvent::Closing)?;
    let (mss, unacked, sent_again) = (info.snd_mss?, info.unacked?, info.total_retrans?);
    if unacked == 0 || sent_again == 0 || conn.total_sent_bytes <= u64::from(mss) {
        return None;
    }
    let (name, bytes) = (name(case, tunnel), conn.total_sent_bytes);
    let sentence = format!(
        "The ClientHello to {name} has {bytes} bytes, more than a segment of {mss}, and is lost on the way however \
         often it is sent."
    );
    let found = Found::failure(Stage::Tls, name.as_str(), sentence)
        .check(format!(
            "Look for a firewall before {} that drops a ClientHello in several segments, or for a path with a smaller \
             MTU; a client without post-quantum key exchange sends a shorter one.",
            peer(conn)
        ))
        .costs(case.between(tunnel.handshake_begin_at, tunnel.handshake_end_at));
    let found = found.shows_at(conn, "totalSentBytes", bytes, tunnel.handshake_begin_at);
    let found = found.shows_at(conn, "tcpInfo.sndMss", mss, info.at);
    let found = found.shows_at(conn, "tcpInfo.unacked", unacked, info.at);
    Some(found.shows_at(conn, "tcpInfo.totalRetrans", sent_again, info.at))
}

/// The server accepted the connection, and said nothing in the handshake or closed it.
pub(super) fn no_answer(case: &Case<'_>) -> Option<Found> {
    let (tunnel, conn) = unanswered(case).filter(|_| large_hello_dropped(case).is_none())?;
    let (address, name) = (peer(conn), name(case, tunnel));
    let time = case.between(tunnel.handshake_begin_at, tunnel.handshake_end_at);
    let found = match tunnel.failure.as_ref()? {
        Failure::EofError => Found::failure(
            Stage::Tls,
            address.as_str(),
            format!("{address} closed the connection when it got the ClientHello for {name}."),
        ),
        // The pool gives a dial up, too, when it needs it no more.
        Failure::Interrupted if !ran_out(case) => return None,
        Failure::GenericTimeoutError | Failure::Interrupted => Found::degraded(
            Stage::Tls,
            address.as_str(),
            format!(
                "{address} accepted the connection, but did not answer the ClientHello within {}.",
                duration(time, false)
            ),
        ),
        _ => return None,
    };
    let found = found
        .check(format!(
            "Check that {address} serves TLS for {name}, is not overloaded, and that nothing before it blocks the name."
        ))
        .costs(time)
        .shows_at(tunnel, "failure", tunnel.failure.as_ref()?, tunnel.handshake_end_at)
        .shows_at(conn, "totalRecvBytes", 0, tunnel.handshake_end_at);
    Some(match acknowledged(conn) {
        Some((info, acked)) => found.shows_at(conn, "tcpInfo.bytesAcked", acked, info.at),
        None if !conn.tcp_info.is_empty() => found,
        None => found.not_seen("whether the ClientHello arrived: TcpInfoProbe was off"),
    })
}

/// Returns the day of a time: the text before the hour.
fn date(time: Timestamp) -> String {
    let text = time.to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}
