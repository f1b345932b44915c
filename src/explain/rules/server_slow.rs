//! A server that is slow to answer.
//!
//! The kernel's time stamps divide the time that a request waited. Where there are any, only the server's part counts,
//! and a server is not named for what this process or the network took.

use super::{
    http::{acknowledged, is_known, ran_out, sent_request, url},
    process::late_read,
};
use crate::{
    explain::{
        case::{Case, peer},
        found::{Found, Stage},
        usual::{Phase, Usual},
    },
    readable::duration,
    record::{HttpReqTrace, RequestStamps},
};

/// A server that takes far longer than it usually does, or that was silent although its host has acknowledged the whole
/// request.
pub(super) fn server_slow(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case).filter(|request| is_known(request.req_body_end_at))?;
    if late_read(case).is_some() {
        return None; // the response was there
    }
    let wait = Wait::new(case, request);
    if case.streams.wait_of(request).is_some_and(|queued| queued.nanos >= wait.nanos / 2) {
        return None; // for most of the time the request had not been sent
    }
    match wait.usual(case).filter(|usual| usual.is_exceeded_by(wait.nanos)) {
        Some(usual) => slower_than_usual(case, &wait, &usual),
        None => silent(case, &wait),
    }
}

/// The time from when the whole request was sent until the response came, or the request ended.
struct Wait<'a> {
    request: &'a HttpReqTrace,
    is_answered: bool,
    nanos: i64,
}

impl<'a> Wait<'a> {
    fn new(case: &Case<'a>, request: &'a HttpReqTrace) -> Self {
        let is_answered = is_known(request.resp_recv_at);
        let until = if is_answered { request.resp_recv_at } else { request.end_at };
        Wait { request, is_answered, nanos: case.between(request.req_body_end_at, until) }
    }

    fn usual<'c>(&self, case: &Case<'c>) -> Option<Usual<'c>> {
        case.usual.of(Phase::Wait, &case.origin(), self.is_answered.then_some(self.nanos))
    }

    fn found(&self, case: &Case<'_>, sentence: String) -> Found {
        let (host, request) = (case.origin(), self.request);
        Found::degraded(Stage::Http, host.as_str(), sentence)
            .check(format!(
                "Look at what {host} did for {} {} in this time, and at its load.",
                request.req_method,
                url(request)
            ))
            .costs(self.nanos)
            .shows_at(request, "reqBodyEndAt", request.req_body_end_at, request.req_body_end_at)
    }
}

fn slower_than_usual(case: &Case<'_>, wait: &Wait<'_>, usual: &Usual<'_>) -> Option<Found> {
    let request = wait.request;
    let stamps = request.stamps(case.trace());
    if let Some(parts) = request.wait_breakdown(case.trace()) {
        let own = parts.own_stack + parts.network + parts.read_delay + parts.head;
        if parts.server < own {
            return None; // most of the time was not the server's
        }
    }
    let verb = if wait.is_answered { "answered after" } else { "did not answer within" };
    let sentence = format!(
        "{} {verb} {}, where half of its other responses come within {}.",
        case.origin(),
        duration(wait.nanos, false),
        duration(usual.median, false)
    );
    let found = wait.found(case, sentence).compares(usual, "respRecvAt");
    let found = match wait.is_answered {
        true => found.shows_at(request, "respRecvAt", request.resp_recv_at, request.resp_recv_at),
        false => found,
    };
    Some(match (case.conn, stamps) {
        (Some(conn), Some(RequestStamps { write, read })) => {
            let found = found.shows_at(conn, "kernelTimes.writes.ackedAt", write.acked_at, write.acked_at);
            let received = read.map(|read| read.received_at);
            received
                .into_iter()
                .fold(found, |found, at| found.shows_at(conn, "kernelTimes.reads.receivedAt", at, at))
        }
        _ => found,
    })
}

/// The server acknowledged the request, and sent nothing.
fn silent(case: &Case<'_>, wait: &Wait<'_>) -> Option<Found> {
    // A request that still waits may do so on purpose, and one whose connection ended did not wait in vain.
    let conn = case.conn.filter(|_| !wait.is_answered && ran_out(case))?;
    let sentence = || {
        format!(
            "{} acknowledged the whole request, but sent no response within {}.",
            peer(conn),
            duration(wait.nanos, false)
        )
    };
    if let Some(RequestStamps { write, read: None }) = wait.request.stamps(case.trace())
        && is_known(write.acked_at)
    {
        let found = wait.found(case, sentence()).shows_at(
            conn,
            "kernelTimes.writes.sentBytes",
            write.sent_bytes,
            write.written_at,
        );
        return Some(found.shows_at(conn, "kernelTimes.writes.ackedAt", write.acked_at, write.acked_at));
    }
    // A part of the response that did not arrive is no silence of the server.
    let (info, acked) =
        acknowledged(conn).filter(|(info, _)| info.rcv_ooopack.is_none_or(|count| count == 0))?;
    let found = wait
        .found(case, sentence())
        .shows_at(conn, "totalSentBytes", conn.total_sent_bytes, info.at)
        .shows_at(conn, "tcpInfo.bytesAcked", acked, info.at);
    Some(match info.rtt_us {
        Some(rtt) => found.shows_at(conn, "tcpInfo.rttUs", rtt, info.at),
        None => found,
    })
}
