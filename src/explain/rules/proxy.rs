//! Causes at proxies.

use super::http::{is_known, ran_out, sent_request};
use crate::{
    explain::{
        case::{Case, peer},
        found::{Found, Stage},
        usual::Phase,
    },
    readable::duration,
    record::{EndReason, Failure, HttpReqTrace, SocksTrace, TcpConnTrace, Text, Timestamp},
};

/// Returns the request of a case that used a proxy, with the proxy.
fn proxied<'a>(case: &Case<'a>) -> Option<(&'a HttpReqTrace, &'a Text)> {
    let request = sent_request(case).filter(|request| !request.network_proxy.is_empty())?;
    Some((request, &request.network_proxy))
}

/// How a proxy was asked to open a tunnel.
enum Asked<'a> {
    Connect(&'a HttpReqTrace),
    Socks(&'a TcpConnTrace, &'a SocksTrace),
}

impl<'a> Asked<'a> {
    /// Returns how the proxy was asked over the last connection of the case.
    fn of(case: &Case<'a>) -> Option<Self> {
        let conn = case.conn?;
        let connect = case.graph.connects_of(conn).last().map(|connect| Asked::Connect(connect));
        connect.or_else(|| conn.socks.as_deref().map(|socks| Asked::Socks(conn, socks)))
    }

    fn span(&self) -> (Timestamp, Timestamp) {
        match self {
            Asked::Connect(connect) => (connect.req_sent_at, connect.end_at),
            Asked::Socks(_, socks) => (socks.handshake_begin_at, socks.handshake_end_at),
        }
    }

    fn end_reason(&self) -> Option<&'a EndReason> {
        match self {
            Asked::Connect(connect) => connect.end_reason.as_ref(),
            Asked::Socks(_, socks) => socks.end_reason.as_ref(),
        }
    }

    /// Adds how it ended as evidence.
    fn shown_by(&self, found: Found) -> Found {
        let reason = self.end_reason().map_or("", EndReason::as_str);
        match self {
            Asked::Connect(connect) => found.shows_at(*connect, "endReason", reason, connect.end_at),
            Asked::Socks(conn, socks) => {
                found.shows_at(*conn, "socks.endReason", reason, socks.handshake_end_at)
            }
        }
    }
}

/// No connection to the proxy could be made. A name of the proxy that cannot be found is a matter of DNS.
pub(super) fn unreachable(case: &Case<'_>) -> Option<Found> {
    let (_, proxy) = proxied(case)?;
    let dial = case.dials.last().copied().filter(|dial| dial.established_conn.is_undefined())?;
    let attempt =
        case.attempts.last().copied().filter(|_| case.attempts.iter().all(|conn| !conn.connected))?;
    let time = case.between(attempt.handshake_begin_at, attempt.handshake_end_at);
    let (address, failure) = (peer(attempt), attempt.failure.as_ref()?);
    let found = match failure {
        // The pool gives a dial up, too, when it needs it no more.
        Failure::Interrupted if !ran_out(case) => return None,
        Failure::Interrupted => {
            let sentence =
                format!("The proxy {proxy} did not answer at {address} within {}.", duration(time, false));
            Found::degraded(Stage::Proxy, proxy.clone(), sentence)
        }
        Failure::ConnectionRefused => {
            let sentence = format!("Nothing listens at {address}, where the proxy {proxy} is to be.");
            Found::failure(Stage::Proxy, proxy.clone(), sentence)
        }
        failure if failure.is_timeout() => {
            let sentence =
                format!("The proxy {proxy} did not answer at {address} within {}.", duration(time, false));
            Found::failure(Stage::Proxy, proxy.clone(), sentence)
        }
        failure => {
            let sentence = format!("The proxy {proxy} cannot be reached at {address} ({failure}).");
            Found::failure(Stage::Proxy, proxy.clone(), sentence)
        }
    };
    let found = found
        .check(format!(
            "Check that {proxy} is the right proxy and runs, and that this host may connect to {address}."
        ))
        .costs(time);
    let found = found.shows_at(attempt, "failure", failure, attempt.handshake_end_at);
    Some(found.shows_at(dial, "dstAddress", &*dial.dst_address, dial.dial_begin_at))
}

pub(super) fn auth_required(case: &Case<'_>) -> Option<Found> {
    let (request, proxy) = proxied(case)?;
    let is_failure = request.failure == Some(Failure::ProxyAuthenticationRequired);
    if !is_failure && request.resp_status_code != PROXY_AUTHENTICATION_REQUIRED {
        return None;
    }
    let (sentence, suggestion) = match proxy.contains('@') {
        false => (
            format!("The proxy {proxy} wants a user name and a password, and was sent none."),
            "Set the user name and the password in the proxy's URL.",
        ),
        true => (
            format!("The proxy {proxy} does not accept the user name and the password that it was sent."),
            "Correct the user name and the password in the proxy's URL.",
        ),
    };
    let found = match is_failure {
        true => Found::failure(Stage::Proxy, proxy.clone(), sentence),
        false => Found::degraded(Stage::Proxy, proxy.clone(), sentence).costs(case.duration()),
    };
    let found = found.check(suggestion);
    Some(match Asked::of(case) {
        Some(Asked::Connect(connect)) => {
            found.shows_at(connect, "respStatusCode", connect.resp_status_code, connect.resp_recv_at)
        }
        Some(Asked::Socks(conn, socks)) => {
            found.shows_at(conn, "socks.handshakeErr", &**socks.handshake_err, socks.handshake_end_at)
        }
        None => found.shows_at(request, "respStatusCode", request.resp_status_code, request.resp_recv_at),
    })
}

const PROXY_AUTHENTICATION_REQUIRED: u16 = 407;

pub(super) fn refused_connect(case: &Case<'_>) -> Option<Found> {
    let (request, proxy) = proxied(case)?;
    let Asked::Connect(connect) = Asked::of(case)? else { return None };
    if request.failure != Some(Failure::ProxyRefused) || connect.resp_status_code == 0 {
        return None;
    }
    let (target, status) = (case.origin(), connect.resp_status_code);
    let (why, suggestion) = match status {
        403 | 405 => ("its rules forbid it", format!("Allow {target} and its port in the rules of {proxy}.")),
        404 | 500 | 502 | 503 => (
            "it could not reach it",
            format!("Check from the host of {proxy} that {target} resolves and accepts connections."),
        ),
        504 => (
            "it waited for it in vain",
            format!("Check from the host of {proxy} that {target} accepts connections."),
        ),
        _ => ("it says no more", format!("Look into the log of {proxy} for {target}.")),
    };
    let sentence =
        format!("The proxy {proxy} refused to connect to {target} with the status {status}: {why}.");
    let found = Found::failure(Stage::Proxy, proxy.clone(), sentence)
        .check(suggestion)
        .costs(case.between(connect.req_sent_at, connect.end_at));
    let found = found.shows_at(connect, "respStatusCode", status, connect.resp_recv_at);
    Some(found.shows_at(connect, "reqError", &**connect.req_error, connect.end_at))
}

pub(super) fn socks_error(case: &Case<'_>) -> Option<Found> {
    let (_, proxy) = proxied(case)?;
    let Asked::Socks(conn, socks) = Asked::of(case)? else { return None };
    let target = &socks.target;
    let (sentence, suggestion) = match socks.failure.as_ref()? {
        Failure::ProxyRefused => {
            let (_, why) = socks.handshake_err.split_once(&*format!("did not connect to {target}: "))?;
            (
                format!("The SOCKS proxy {proxy} did not connect to {target}: {why}."),
                format!(
                    "Check from the host of {proxy} that {target} can be reached, and that its rules allow it."
                ),
            )
        }
        Failure::SocksProtocolError => (
            format!("{} does not speak SOCKS5 as it should.", peer(conn)),
            format!("Check that {proxy} is a SOCKS5 proxy, and not one for HTTP."),
        ),
        Failure::EofError => (
            format!("The SOCKS proxy {proxy} closed the connection before it had connected to {target}."),
            format!("Check that {proxy} is a SOCKS5 proxy, and look into its log."),
        ),
        _ => return None,
    };
    let found = Found::failure(Stage::Proxy, proxy.clone(), sentence)
        .check(suggestion)
        .costs(case.between(socks.handshake_begin_at, socks.handshake_end_at));
    Some(found.shows_at(conn, "socks.handshakeErr", &**socks.handshake_err, socks.handshake_end_at))
}

/// The proxy took longer for a tunnel than it usually does, or had not opened it when time ran out.
pub(super) fn slow_tunnel(case: &Case<'_>) -> Option<Found> {
    let (request, proxy) = proxied(case)?;
    let is_own = case.conn.is_some_and(|conn| case.attempts.iter().any(|own| std::ptr::eq(*own, conn)));
    let asked = Asked::of(case).filter(|_| is_own)?;
    let (begin, end) = asked.span();
    let time = case.between(begin, end);
    let target = case.origin();
    let found = |sentence: String| {
        let found = Found::degraded(Stage::Proxy, proxy.clone(), sentence).costs(time).check(format!(
            "Check from the host of {proxy} how fast {target} resolves and accepts connections, and the proxy's load."
        ));
        asked.shown_by(found)
    };
    match asked.end_reason()? {
        EndReason::Timeout | EndReason::Cancelled if !is_known(request.conn_acquired_at) => Some(found(
            format!("The proxy {proxy} had not connected to {target} after {}.", duration(time, false)),
        )),
        EndReason::Closed => {
            let address = &case.dials.last()?.dst_address;
            let usual = case.usual.of(Phase::Tunnel, address, Some(time))?;
            let sentence = format!(
                "The proxy {proxy} needed {} to connect to {target}, where half of its tunnels take at most {}.",
                duration(time, false),
                duration(usual.median, false)
            );
            usual.is_exceeded_by(time).then(|| found(sentence).compares(&usual, "endAt"))
        }
        _ => None,
    }
}
