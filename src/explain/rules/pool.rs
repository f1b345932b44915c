//! Causes in the client's pool of connections.

use super::http::{HEADERS_OFF, is_known, sent_request, url};
use crate::{
    explain::{
        case::{Case, MAX_RELATED, peer},
        finding::Outcome,
        found::{Found, Stage},
        history::MIN_DELAY,
    },
    readable::duration,
    record::{EndReason, HttpReqTrace, NotReused, TcpConnTrace},
};

/// The request waited until another one had ended, and dialed no connection itself.
pub(super) fn wait(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case).filter(|_| case.dials.is_empty() && case.attempts.is_empty())?;
    let (sent, host) = (case.at(request.req_sent_at)?, case.origin());
    let found = |sentence: String, time: i64| {
        Found::degraded(Stage::Http, host.as_str(), sentence).costs(time).check(format!(
            "Look at what takes the requests that hold the connections so long; or raise the limit of the client for \
             connections to {host} (`max_conns_per_host`), or use HTTP/2."
        ))
    };
    if let Some(acquired) = case.at(request.conn_acquired_at) {
        let conn = case.conn.filter(|_| request.proto_major < 2)?; // streams of HTTP/2 share a connection
        let last = case.hosts.last_use(conn, acquired)?;
        let ended = case.at(last.end_at).filter(|end| *end > sent)?;
        let wait = ended.saturating_sub(sent.max(case.at(last.conn_acquired_at)?));
        if wait < MIN_DELAY {
            return None;
        }
        let sentence = format!(
            "The request waited {} for a connection to {host}: all were in use, this one until {} {} had ended.",
            duration(wait, false),
            last.req_method,
            url(last)
        );
        let found = found(sentence, wait).shows_at(last, "endAt", last.end_at, last.end_at);
        let found = shows_checkout(found, request);
        return Some(found.shows_at(
            request,
            "connAcquiredAt",
            request.conn_acquired_at,
            request.conn_acquired_at,
        ));
    }
    let ended = matches!(case.outcome, Outcome::TimedOut | Outcome::GivenUp | Outcome::Failed);
    if !ended || !request.tcp_conn.is_undefined() || !is_known(request.end_at) {
        return None;
    }
    let holder = case.hosts.holder(request, sent, case.at(request.end_at)?)?;
    let wait = case.duration();
    let sentence = format!(
        "The request waited {} for a connection to {host} and got none: all were in use, one the whole time by {} ({} {}).",
        duration(wait, false),
        holder.trace_id,
        holder.req_method,
        url(holder)
    );
    let found =
        found(sentence, wait).shows_at(request, "reqSentAt", request.req_sent_at, request.req_sent_at);
    let found = shows_checkout(found, request);
    Some(found.shows_at(holder, "connAcquiredAt", holder.conn_acquired_at, holder.conn_acquired_at))
}

/// One connection after the other to the same address serves a single request.
pub(super) fn not_reused(case: &Case<'_>) -> Option<Found> {
    const MIN_COUNT: usize = 3;
    // Through a proxy, each target has connections of its own.
    let request = sent_request(case).filter(|request| request.network_proxy.is_empty())?;
    if case.outcome != Outcome::Succeeded {
        return None;
    }
    let conn = case.conn.filter(|conn| case.attempts.iter().any(|own| std::ptr::eq(*own, *conn)))?;
    let (address, dial) = (peer(conn), *case.dials.last()?);
    let closed = case.hosts.closed_conns(&dial.dst_address).filter(|closed| closed.reused == 0)?;
    let (begin, end) = (case.at(request.req_sent_at)?, case.at(request.end_at)?);
    let mut next = begin;
    let earlier = closed.single_before(begin).iter().rev().take(MAX_RELATED);
    let one_by_one = earlier.filter(|(use_end, conn)| {
        let is_closed = case.at(conn.conn_close_at).is_some_and(|closed| closed <= end);
        let is_before = is_closed && *use_end <= next;
        if let Some(begin) = case.at(conn.handshake_begin_at).filter(|_| is_before) {
            next = begin;
        }
        is_before
    });
    let conns: Vec<_> = one_by_one.map(|(_, conn)| *conn).collect();
    let last = conns.first().filter(|_| conns.len() >= MIN_COUNT)?;
    let last_request = case.hosts.last_use(last, begin)?;
    let (why, suggestion) = why_not_kept(request, last, last_request, &address)?;
    // A lookup has causes of its own.
    let looked_up = if is_known(dial.resolve_end_at) { dial.resolve_end_at } else { dial.dial_begin_at };
    let time = case.between(looked_up, request.conn_acquired_at);
    let sentence = format!(
        "Connections to {address} are not reused, because {why}: {} in a row served one request each, and this one \
         took {}.",
        conns.len(),
        duration(time, false)
    );
    let found = Found::degraded(Stage::Http, address.as_str(), sentence).check(suggestion).costs(time);
    let found = found.shows_at(dial, "dialBeginAt", dial.dial_begin_at, dial.dial_begin_at);
    let found = shows_checkout(found, request);
    let found = match asks_to_close(last_request) {
        true => found.shows(last_request, "respHeader.connection", "close"),
        false if is_http1_0(last_request) => found.shows(last_request, "protoMinor", 0),
        false if last_request.resp_header.is_empty() => {
            found.not_seen(format!("whether {address} asked for it (Connection: close): {HEADERS_OFF}"))
        }
        false => found,
    };
    let shown = conns.iter().take(MIN_COUNT);
    Some(shown.fold(found, |found, conn| {
        let reason = conn.end_reason.as_ref().map_or("", |reason| reason.as_str());
        found.shows_at(*conn, "endReason", reason, conn.conn_close_at)
    }))
}

/// Returns why connections to the address do not stay in the pool, and what to do about it. `last` is one that did not,
/// and `last_request` the request that it served.
fn why_not_kept(
    request: &HttpReqTrace,
    last: &TcpConnTrace,
    last_request: &HttpReqTrace,
    address: &str,
) -> Option<(String, String)> {
    let told = request.pool.as_ref().and_then(|checkout| checkout.not_reused.clone());
    Some(match (told, last.end_reason.as_ref()?) {
        (Some(NotReused::KeepAliveOff), _) => (
            "the client is configured not to reuse connections".into(),
            "Switch `keep_alive` on in the client, and allow idle connections (`max_idle_conns_per_host`)."
                .into(),
        ),
        (Some(NotReused::First | NotReused::OtherKey), EndReason::Closed) => (
            "each request used a new pool, which had no connection to this host".into(),
            "Keep one client for all requests.".into(),
        ),
        (Some(NotReused::IdleTimeout), _) => (
            "the pool closes them when they are idle for too long".into(),
            "Raise the idle timeout of the client above the time between requests (`idle_timeout`).".into(),
        ),
        (Some(NotReused::ClosedByProgram), _) => (
            "the program closes them".into(),
            "Close idle connections only when no more requests are made (`close_idle_connections`).".into(),
        ),
        (_, EndReason::Closed | EndReason::PeerClosed) if asks_to_close(last_request) => (
            format!("{address} asks for it (Connection: close)"),
            format!("Let {address} keep connections open (keep-alive)."),
        ),
        (_, EndReason::Closed | EndReason::PeerClosed) if is_http1_0(last_request) => (
            format!("{address} answers with HTTP/1.0, which has one request on a connection"),
            format!("Let {address} speak HTTP/1.1."),
        ),
        (_, EndReason::PeerClosed) => (
            format!("{address} closes them"),
            format!(
                "Let {address} keep connections open for longer than the time between requests (keep-alive)."
            ),
        ),
        (_, EndReason::IdleLimit) => (
            "the pool closes them because too many are idle, or for too long".into(),
            "Raise the limits of idle connections and their idle timeout in the client.".into(),
        ),
        (_, EndReason::Closed) if last_request.resp_header.is_empty() => (
            "they are closed after the response".into(),
            format!(
                "Record header fields to see whether {address} asks for it (`Connection: close`). If it does not, read \
                 responses to their end, and keep one client for all requests."
            ),
        ),
        (_, EndReason::Closed) => (
            "this side closes them".into(),
            "Keep one client for all requests, omit `Connection: close`, and read responses to their end."
                .into(),
        ),
        _ => return None,
    })
}

/// Adds what the pool decided, if the client is this crate's.
fn shows_checkout(found: Found, request: &HttpReqTrace) -> Found {
    let Some(checkout) = &request.pool else { return found };
    let at = if is_known(request.conn_acquired_at) { request.conn_acquired_at } else { request.end_at };
    let found = checkout
        .waited_for
        .iter()
        .fold(found, |found, wait| found.shows_at(request, "pool.waitedFor", wait, at));
    let reasons = checkout.not_reused.iter();
    reasons.fold(found, |found, reason| found.shows_at(request, "pool.notReused", reason, at))
}

/// Returns `true` if the response came with a version that closes its connection (RFC 9112 section 9.3).
fn is_http1_0(request: &HttpReqTrace) -> bool {
    (request.proto_major, request.proto_minor) == (1, 0) && request.resp_status_code != 0
}

/// Returns `true` if the recorded header of the response says that its connection is to be closed.
fn asks_to_close(request: &HttpReqTrace) -> bool {
    let field = request.resp_header.get("connection");
    field.is_some_and(|field| field.field_val.eq_ignore_ascii_case("close"))
}
