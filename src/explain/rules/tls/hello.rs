//! Causes in how a server answers the ClientHello.

use super::{address, failed, failure, name};
use crate::{
    explain::{
        case::{Case, peer},
        found::{Found, Stage},
        rules::http::{acknowledged, ran_out},
    },
    readable::duration,
    record::{Failure, TcpConnTrace, TcpInfoEvent, TlsTunnelTrace},
};

pub(in crate::explain::rules) fn not_tls(case: &Case<'_>) -> Option<Found> {
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

/// The server asked for another ClientHello, which took another round trip.
pub(in crate::explain::rules) fn hello_retry(case: &Case<'_>) -> Option<Found> {
    let is_own = |tunnel: &&&TlsTunnelTrace| {
        case.attempts.iter().any(|conn| conn.trace_id == tunnel.tcp_conn) && tunnel.hello_retry_request
    };
    let tunnel = *case.tunnels.iter().find(is_own)?;
    let conn = case.trace().tcp_conns.get(&tunnel.tcp_conn)?;
    // A handshake over TCP takes a round trip.
    let time = case.between(conn.handshake_begin_at, conn.handshake_end_at);
    let (name, group) = (name(case, tunnel), tunnel.key_exchange_group.as_str());
    let sentence = match group {
        "" => format!("{name} asked for another ClientHello, which took another round trip."),
        group => format!(
            "{name} asked for another ClientHello, with a key share for {group}, which took another round trip."
        ),
    };
    let found = Found::degraded(Stage::Tls, name.as_str(), sentence).costs(time).check(match group {
        "" => format!("Compare the key exchange groups of the client with those of {name}."),
        group => format!(
            "Put {group} first among the key exchange groups of the client, or let {name} accept one for which the \
             client sends a key share."
        ),
    });
    Some(found.shows_at(tunnel, "helloRetryRequest", true, tunnel.handshake_end_at).shows_at(
        tunnel,
        "keyExchangeGroup",
        group,
        tunnel.handshake_end_at,
    ))
}

/// Returns the tunnel whose handshake failed before its connection had received a single byte, with the connection.
fn unanswered<'a>(case: &Case<'a>) -> Option<(&'a TlsTunnelTrace, &'a TcpConnTrace)> {
    let tunnel = failed(case).filter(|tunnel| tunnel.cipher_suite == 0 && tunnel.alert.is_empty())?;
    let conn = case.trace().tcp_conns.get(&tunnel.tcp_conn)?;
    (conn.total_recv_bytes == 0 && conn.total_sent_bytes > 0 && !conn.bytes_unobserved)
        .then_some((tunnel, conn))
}

/// The ClientHello is longer than a segment, and was neither acknowledged nor answered.
pub(in crate::explain::rules) fn large_hello_dropped(case: &Case<'_>) -> Option<Found> {
    let (tunnel, conn) = unanswered(case)?;
    let info = conn.tcp_info.last().filter(|info| info.event == TcpInfoEvent::Closing)?;
    let (mss, unacked, sent_again) = (info.snd_mss?, info.unacked?, info.total_retrans?);
    /// The header of a TLS record (RFC 8446 section 5.1).
    const RECORD_HEADER_LEN: u64 = 5;
    // Where the ClientHello was not read, all that was sent is taken for it.
    let hello = tunnel.client_hello_len.map(|len| u64::from(len.get()) + RECORD_HEADER_LEN);
    let (name, bytes) = (name(case, tunnel), hello.unwrap_or(conn.total_sent_bytes));
    if unacked == 0 || sent_again == 0 || bytes <= u64::from(mss) {
        return None;
    }
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
    let found = match tunnel.client_hello_len {
        Some(len) => found.shows_at(tunnel, "clientHelloLen", len, tunnel.handshake_begin_at),
        None => found.shows_at(conn, "totalSentBytes", bytes, tunnel.handshake_begin_at),
    };
    let found = found.shows_at(conn, "tcpInfo.sndMss", mss, info.at);
    let found = found.shows_at(conn, "tcpInfo.unacked", unacked, info.at);
    Some(found.shows_at(conn, "tcpInfo.totalRetrans", sent_again, info.at))
}

/// The server accepted the connection, and said nothing in the handshake or closed it.
pub(in crate::explain::rules) fn no_answer(case: &Case<'_>) -> Option<Found> {
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
