//! Causes in requests and responses, whatever the version of HTTP.

use crate::{
    explain::{
        case::{Case, peer},
        found::{Found, Stage},
        usual::Phase,
    },
    readable::duration,
    record::{HttpReqTrace, TcpConnTrace, TcpInfo, TcpInfoEvent, Timestamp},
};

/// Returns the request of a case, unless this side answered it.
pub(super) fn sent_request<'a>(case: &Case<'a>) -> Option<&'a HttpReqTrace> {
    case.request.filter(|request| !request.accepted)
}

pub(super) fn is_known(time: Timestamp) -> bool {
    !time.is_undefined()
}

/// A server that takes far longer than it usually does, or that was silent although its host has acknowledged the whole
/// request.
pub(super) fn server_slow(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case).filter(|request| is_known(request.req_body_end_at))?;
    let host = case.origin();
    let is_answered = is_known(request.resp_recv_at);
    let until = if is_answered { request.resp_recv_at } else { request.end_at };
    let wait = case.between(request.req_body_end_at, until);
    let found = |sentence: String| {
        Found::degraded(Stage::Http, host.as_str(), sentence)
            .check(format!(
                "Look at what {host} did for {} {} in this time, and at its load.",
                request.req_method, request.req_url
            ))
            .costs(wait)
            .shows_at(request, "reqBodyEndAt", request.req_body_end_at, request.req_body_end_at)
    };
    let own = is_answered.then_some(wait);
    if let Some(usual) = case.usual.of(Phase::Wait, &host, own).filter(|usual| usual.is_exceeded_by(wait)) {
        let verb = if is_answered { "answered after" } else { "did not answer within" };
        let sentence = format!(
            "{host} {verb} {}, where half of its other responses come within {}.",
            duration(wait, false),
            duration(usual.median, false)
        );
        let found = found(sentence).compares(&usual, "respRecvAt");
        return Some(match is_answered {
            true => found.shows_at(request, "respRecvAt", request.resp_recv_at, request.resp_recv_at),
            false => found,
        });
    }
    let conn = case.conn.filter(|_| !is_answered)?;
    let (info, acked) = acknowledged(conn)?;
    let sentence = format!(
        "{} acknowledged the whole request, but sent no response within {}.",
        peer(conn),
        duration(wait, false)
    );
    let found = found(sentence).shows_at(conn, "totalSentBytes", conn.total_sent_bytes, info.at).shows_at(
        conn,
        "tcpInfo.bytesAcked",
        acked,
        info.at,
    );
    Some(match info.rtt_us {
        Some(rtt) => found.shows_at(conn, "tcpInfo.rttUs", rtt, info.at),
        None => found,
    })
}

/// Returns the last reading of `TCP_INFO`, and how many bytes the peer has acknowledged, if these are all that were sent.
/// The SYN counts as a byte, and so does the FIN once it is acknowledged.
pub(super) fn acknowledged(conn: &TcpConnTrace) -> Option<(&TcpInfo, u64)> {
    let info = conn.tcp_info.last().filter(|info| info.event == TcpInfoEvent::Closing)?;
    let acked = info.bytes_acked.filter(|acked| *acked > conn.total_sent_bytes)?;
    (conn.total_sent_bytes > 0).then_some((info, acked))
}
