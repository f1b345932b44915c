//! Requests that a time limit ended, or that the program gave up.

use super::http::{is_known, sent_request};
use crate::{
    explain::{
        case::{Case, peer},
        finding::Outcome,
        found::{Found, Stage},
        usual::Phase,
    },
    readable::duration,
    record::{EndReason, HttpReqTrace},
};

pub(super) fn caller_gave_up(case: &Case<'_>) -> Option<Found> {
    let request = case.request.filter(|_| case.outcome == Outcome::GivenUp)?;
    let time = duration(case.duration(), false);
    let (sentence, suggestion) = if request.accepted {
        (
            format!("The served request was dropped after {time}, before it had been answered."),
            "Compare the time with the limit of the client, and look at what the answer waited for.",
        )
    } else {
        (
            format!("The program gave the request up after {time}, while it {}.", activity(case, request)),
            "Look at what dropped the request: a time limit around it, a lost race, or a caller that left.",
        )
    };
    let found = Found::failure(Stage::Http, case.origin(), sentence).symptom().check(suggestion);
    let found = found.shows_at(request, "endReason", request.end_reason.as_ref()?.as_str(), request.end_at);
    Some(shows_phase(found, request))
}

pub(super) fn timed_out(case: &Case<'_>) -> Option<Found> {
    let request = case.request.filter(|_| case.outcome == Outcome::TimedOut)?;
    let sentence = format!(
        "A time limit ran out after {}, while the request {}.",
        duration(case.duration(), false),
        activity(case, request)
    );
    let mut found = Found::failure(Stage::Http, case.origin(), sentence)
        .symptom()
        .check(format!("Compare the limit with how long {} usually takes.", case.origin()))
        .shows_at(request, "endReason", EndReason::Timeout.as_str(), request.end_at);
    found = shows_phase(found, request);
    let is_waiting = is_known(request.req_body_end_at) && !is_known(request.resp_recv_at);
    if is_waiting && case.conn.is_none_or(|conn| case.tcp_info_at_end(request, conn).is_none()) {
        found = found.not_seen(
            "whether the server's host had received the request: TcpInfoProbe was off, or the connection is still open",
        );
    }
    Some(found)
}

pub(super) fn timeout_below_normal(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case).filter(|_| case.outcome == Outcome::TimedOut)?;
    let (phase, field, what) = match is_known(request.resp_recv_at) {
        true => (Phase::Total, "endAt", "complete responses"),
        false => (Phase::Response, "respRecvAt", "responses"),
    };
    let (limit, host) = (case.duration(), case.origin());
    let usual = case.usual.of(phase, &host, None).filter(|usual| limit < usual.median)?;
    let sentence = format!(
        "A time limit ended the request after {}, but half of the other {what} of {host} took longer than {}.",
        duration(limit, false),
        duration(usual.median, false)
    );
    let found = Found::failure(Stage::Http, host.as_str(), sentence).check(format!(
        "Raise the limit above {}, which nine of ten {what} of {host} take, or make the server faster.",
        duration(usual.high, false)
    ));
    let found = found.shows_at(request, "endReason", EndReason::Timeout.as_str(), request.end_at);
    Some(found.compares(&usual, field).costs(limit))
}

/// Adds the last phase that the request had reached.
fn shows_phase(found: Found, request: &HttpReqTrace) -> Found {
    let reached = [
        ("respRecvAt", request.resp_recv_at),
        ("reqBodyEndAt", request.req_body_end_at),
        ("connAcquiredAt", request.conn_acquired_at),
        ("reqSentAt", request.req_sent_at),
    ];
    match reached.into_iter().find(|(_, time)| is_known(*time)) {
        Some((field, time)) => found.shows_at(request, field, time, time),
        None => found,
    }
}

/// Returns what the request was doing when it ended.
fn activity(case: &Case<'_>, request: &HttpReqTrace) -> String {
    if is_known(request.resp_recv_at) {
        return "received the body of the response".into();
    }
    if is_known(request.req_body_end_at) {
        return "waited for the response".into();
    }
    if is_known(request.conn_acquired_at) {
        return "was being sent".into();
    }
    if let Some(tunnel) = case.tunnels.last().filter(|tunnel| tunnel.failure.is_some()) {
        let name = if tunnel.server_name.is_empty() { case.host() } else { tunnel.server_name.clone() };
        return format!("did the TLS handshake with {name}");
    }
    let Some(dial) = case.dials.last() else { return "waited for a connection".into() };
    match case.attempts.last() {
        Some(conn) if conn.connected && !request.network_proxy.is_empty() => {
            format!("waited for the proxy {} to open a tunnel", request.network_proxy.as_str())
        }
        Some(conn) if conn.connected => format!("prepared its connection to {}", peer(conn)),
        Some(conn) => format!("connected to {}", peer(conn)),
        None if is_known(dial.resolve_begin_at) => format!("looked up {}", case.host()),
        None => format!("dialed {}", dial.dst_address),
    }
}
