//! Causes in what both sides of a handshake agree on.

use super::{address, failed, failure, name};
use crate::{
    explain::{
        case::{Case, peer},
        found::{Found, Stage},
        rules::http::{sent_request, url},
    },
    readable::duration,
    record::{Failure, HttpReqTrace, TlsTunnelTrace},
};

const ASKED_FOR_CERTIFICATE: &str = "asked for a client certificate";

pub(in crate::explain::rules) fn no_common_version_or_suite(case: &Case<'_>) -> Option<Found> {
    let has_other_cause = |tunnel: &TlsTunnelTrace| {
        tunnel.handshake_err.contains(ASKED_FOR_CERTIFICATE) || is_ech_rejected(tunnel)
    };
    let tunnel = failed(case).filter(|tunnel| !has_other_cause(tunnel))?;
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

/// The server ignored or could not decrypt the inner ClientHello (RFC 9849 section 6.1.6). The connector sends no early
/// data, so that no record shows a rejection of that.
pub(in crate::explain::rules) fn ech_or_early_data_rejected(case: &Case<'_>) -> Option<Found> {
    let tunnel = failed(case).filter(|tunnel| is_ech_rejected(tunnel))?;
    let (name, address) = (name(case, tunnel), address(case, tunnel));
    let sentence = format!("The server at {address} rejected the Encrypted ClientHello for {name}.");
    let suggestion = format!(
        "Read the ECH configuration of {name} from its HTTPS record again, and check that {address} has the key for it; \
         or switch ECH off in the client, which sends the name in clear text."
    );
    Some(failure(case, tunnel, name.as_str(), sentence, suggestion))
}

/// Returns `true` if the error of rustls says that the server rejected ECH.
fn is_ech_rejected(tunnel: &TlsTunnelTrace) -> bool {
    tunnel.handshake_err.contains("server rejected encrypted client hello")
}

pub(in crate::explain::rules) fn no_common_protocol(case: &Case<'_>) -> Option<Found> {
    let tunnel = failed(case).filter(|tunnel| &**tunnel.alert == "received no_application_protocol")?;
    let name = name(case, tunnel);
    let sentence = format!("{name} speaks none of the protocols that this client offers by ALPN.");
    let suggestion = format!("Compare the HTTP versions that the client offers with those of {name}.");
    Some(failure(case, tunnel, name.as_str(), sentence, suggestion))
}

/// The server did not choose HTTP/2, which it does elsewhere in the trace. What that costs is a connection for a request
/// that could have shared one: another request had one all the while.
pub(in crate::explain::rules) fn alpn_fallback(case: &Case<'_>) -> Option<Found> {
    // Through a proxy, the address of the server is not known.
    let request = sent_request(case).filter(|request| request.network_proxy.is_empty())?;
    let trace = case.trace();
    let fallback_of =
        |request: &HttpReqTrace| trace.tls_tunnels.get(&request.tls_tunnel).filter(|it| is_fallback(it));
    let tunnel = fallback_of(request)?;
    let conn = case.attempts.iter().find(|conn| conn.trace_id == tunnel.tcp_conn)?;
    let other = case.hosts.tls().http2(tunnel, conn)?;
    let (sent, acquired) = (case.at(request.req_sent_at)?, case.at(request.conn_acquired_at)?);
    let holder = case.hosts.holder(request, sent, acquired)?;
    fallback_of(holder)?;
    let time = case.between(case.dials.last()?.dial_begin_at, request.conn_acquired_at);
    let (name, chosen) = match &*tunnel.negotiated_proto {
        "" => (name(case, tunnel), "no protocol"),
        chosen => (name(case, tunnel), chosen),
    };
    let sentence = format!(
        "{name} chose {chosen} by ALPN, although it speaks HTTP/2 on another connection to {}: the request needed a \
         connection of its own, which took {}, since {} {} was using one.",
        peer(conn),
        duration(time, false),
        holder.req_method,
        url(holder)
    );
    let found = Found::degraded(Stage::Tls, name.as_str(), sentence)
        .check(format!(
            "Compare the ALPN settings of all servers and load balancers behind {}: some lack h2.",
            peer(conn)
        ))
        .costs(time)
        .shows_at(tunnel, "offeredHttp2", true, tunnel.handshake_begin_at)
        .shows_at(tunnel, "negotiatedProto", chosen, tunnel.handshake_end_at)
        .shows_at(other, "negotiatedProto", &other.negotiated_proto, other.handshake_end_at);
    Some(found.shows_at(holder, "connAcquiredAt", holder.conn_acquired_at, holder.conn_acquired_at))
}

/// Returns `true` if the client offered HTTP/2, and the server did not choose it.
fn is_fallback(tunnel: &TlsTunnelTrace) -> bool {
    let is_established = tunnel.handshake_err.is_empty() && tunnel.cipher_suite != 0;
    tunnel.offered_http2 && is_established && &*tunnel.negotiated_proto != "h2"
}

pub(in crate::explain::rules) fn client_certificate(case: &Case<'_>) -> Option<Found> {
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
pub(in crate::explain::rules) fn never_resumes(case: &Case<'_>) -> Option<Found> {
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
