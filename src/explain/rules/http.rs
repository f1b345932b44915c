//! Causes in requests and responses, whatever the version of HTTP.

use crate::{
    explain::{
        case::{Case, MAX_RELATED, peer},
        finding::Outcome,
        found::{Found, Stage},
        usual::SCHEDULING,
    },
    readable::{duration, shortened},
    record::{Failure, HttpReqTrace, SocketOpType, TcpConnTrace, TcpInfo, TcpInfoEvent, Timestamp},
};
use std::borrow::Cow;

/// Returns the request of a case, unless this side answered it.
pub(super) fn sent_request<'a>(case: &Case<'a>) -> Option<&'a HttpReqTrace> {
    case.request.filter(|request| !request.accepted)
}

/// Returns `true` if a time limit or the program ended the subject of a case.
pub(super) fn ran_out(case: &Case<'_>) -> bool {
    matches!(case.outcome, Outcome::TimedOut | Outcome::GivenUp)
}

/// Returns the URL of a request, cut if it is longer than URLs usually are.
pub(super) fn url(request: &HttpReqTrace) -> Cow<'_, str> {
    shortened(&request.req_url)
}

pub(super) fn is_known(time: Timestamp) -> bool {
    !time.is_undefined()
}

/// Returns the last reading of `TCP_INFO`, and how many bytes the peer has acknowledged, if these are all that were
/// sent.
pub(super) fn acknowledged(conn: &TcpConnTrace) -> Option<(&TcpInfo, u64)> {
    acknowledged_at_end(conn).filter(|(_, acked)| *acked > conn.total_sent_bytes)
}

/// Returns the last reading of `TCP_INFO`, and how many bytes the peer has acknowledged. The SYN counts as a byte, and so
/// does the FIN once it is acknowledged.
fn acknowledged_at_end(conn: &TcpConnTrace) -> Option<(&TcpInfo, u64)> {
    let is_at_end = |info: &&TcpInfo| {
        matches!(info.event, TcpInfoEvent::RequestFailed | TcpInfoEvent::Stalled | TcpInfoEvent::Closing)
    };
    let info = conn.tcp_info.last().filter(is_at_end).filter(|_| conn.total_sent_bytes > 0)?;
    Some((info, info.bytes_acked?))
}

/// How many socket operations of a connection are looked at.
const MAX_OPS: usize = 4096;

/// Why the fields of a header are not known.
pub(super) const HEADERS_OFF: &str =
    "header fields are not recorded (`TraceSinkBuilder::headers`, or `--headers` of the command)";

/// Returns `true` if the other side or the network ended the connection.
fn is_cut_off(failure: Option<&Failure>) -> bool {
    matches!(failure, Some(Failure::EofError | Failure::ConnectionReset | Failure::ConnectionAborted))
}

/// Returns `true` if nothing of a response arrived.
fn is_unanswered(request: &HttpReqTrace) -> bool {
    request.resp_status_code == 0 && !is_known(request.first_byte_at) && !is_known(request.resp_recv_at)
}

/// A connection that the server closed while it was idle, as a request was on its way.
struct Stale<'a> {
    conn: &'a TcpConnTrace,
    /// The request that the connection had served before.
    last: &'a HttpReqTrace,
    /// Why nothing of the request can have been processed.
    proof: StaleProof<'a>,
}

enum StaleProof<'a> {
    /// The client sent the request again, which it does only if the server has not seen it.
    Resent(&'a Failure),
    /// The server has not acknowledged the request with its FIN: the number of bytes that it has. A RST acknowledges
    /// nothing.
    Unacknowledged(&'a TcpInfo, u64),
}

impl<'a> Stale<'a> {
    fn of(case: &Case<'a>, request: &'a HttpReqTrace) -> Option<Self> {
        let attempts = request.attempts.iter().take(MAX_RELATED);
        let resent = attempts.filter_map(|attempt| {
            let failure = attempt.failure.as_ref().filter(|failure| is_cut_off(Some(failure)))?;
            Some((case.trace().tcp_conns.get(&attempt.tcp_conn)?, StaleProof::Resent(failure)))
        });
        let failed = case.trace().tcp_conns.get(&request.tcp_conn).filter(|_| {
            is_unanswered(request) && request.failure == Some(Failure::EofError) && request.proto_major < 2
        });
        let unacknowledged = failed.and_then(|conn| {
            let (info, acked) = acknowledged_at_end(conn).filter(|_| acknowledged(conn).is_none())?;
            Some((conn, StaleProof::Unacknowledged(info, acked)))
        });
        let sent = case.at(request.req_sent_at)?;
        resent.chain(unacknowledged).find_map(|(conn, proof)| {
            let last = case.hosts.last_use(conn, sent)?;
            Some(Stale { conn, last, proof })
        })
    }
}

/// The server closed an idle connection while a request was on its way.
pub(super) fn stale_keep_alive(case: &Case<'_>) -> Option<Found> {
    /// No server has a shorter limit for idle connections, in nanoseconds.
    const MIN_IDLE_LIMIT: i64 = 1_000_000_000;
    let request = sent_request(case)?;
    let Stale { conn, last, proof } = Stale::of(case, request)?;
    let idle_time = case.between(last.end_at, request.req_sent_at);
    let idle = duration(idle_time, false);
    let address = peer(conn);
    let found = match proof {
        StaleProof::Unacknowledged(..) => {
            let sentence =
                format!("{address} closed a connection that had been idle for {idle} as the request came.");
            Found::failure(Stage::Tcp, address.as_str(), sentence)
        }
        StaleProof::Resent(_) => {
            let sentence = format!(
                "{address} had closed a connection that was idle for {idle}, so that the request was sent again on \
                 another."
            );
            let time = case.between(request.req_sent_at, request.conn_acquired_at);
            Found::degraded(Stage::Tcp, address.as_str(), sentence).costs(time)
        }
    };
    let suggestion = if idle_time >= MIN_IDLE_LIMIT {
        format!(
            "Close idle connections in the client before {address} does: set the idle timeout below {idle}, and repeat \
             requests that may be repeated."
        )
    } else {
        format!(
            "Find out why {address} closes connections soon after a response without announcing it (`Connection: \
             close`), and repeat requests that may be repeated."
        )
    };
    let found = found.check(suggestion).shows_at(last, "endAt", last.end_at, last.end_at).shows_at(
        conn,
        "endReason",
        conn.end_reason.as_ref().map_or("", |it| it.as_str()),
        conn.conn_close_at,
    );
    Some(match proof {
        StaleProof::Resent(failure) => found.shows(request, "attempts.failure", failure),
        StaleProof::Unacknowledged(info, acked) => found
            .shows_at(request, "failure", request.failure.as_ref()?, request.end_at)
            .shows_at(conn, "totalSentBytes", conn.total_sent_bytes, info.at)
            .shows_at(conn, "tcpInfo.bytesAcked", acked, info.at),
    })
}

/// The server closed a connection of its own accord instead of answering a request on it.
pub(super) fn closed_without_response(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case).filter(|request| request.failure == Some(Failure::EofError))?;
    let conn = case.conn.filter(|_| is_unanswered(request) && is_known(request.conn_acquired_at))?;
    let has_go_away =
        || conn.wire.iter().filter_map(|wire| wire.http2.as_ref()).any(|http2| !http2.go_aways.is_empty());
    if !request.http2_error.is_empty() || has_go_away() || Stale::of(case, request).is_some() {
        return None;
    }
    let address = peer(conn);
    let is_tls = !request.tls_tunnel.is_undefined();
    // Over TLS and HTTP/2, what comes may be part of these.
    let came = if is_tls || request.proto_major >= 2 { 0 } else { bytes_read_since(case, conn, request) };
    let what = match came {
        0 => "without a response".to_owned(),
        _ => format!("within the head of the response, after {came} bytes"),
    };
    let sentence = format!(
        "{address} closed the connection {what}, {} after the request was given the connection.",
        duration(case.between(request.conn_acquired_at, request.end_at), false)
    );
    let is_reused = case.at(request.req_sent_at).and_then(|sent| case.hosts.last_use(conn, sent)).is_some();
    let perhaps_tls = if is_tls || is_reused || came > 0 { "" } else { " If it expects TLS, use https." };
    let found = Found::failure(Stage::Http, address.as_str(), sentence)
        .check(format!(
            "Look into the log of {address} for a crash, a limit or a restart while it served {} {}.{perhaps_tls}",
            request.req_method,
            url(request)
        ))
        .costs(case.between(request.conn_acquired_at, request.end_at));
    let found = found.shows_at(request, "failure", Failure::EofError.as_str(), request.end_at);
    let reason = conn.end_reason.as_ref().map_or("", |reason| reason.as_str());
    let found = found.shows_at(conn, "endReason", reason, conn.conn_close_at);
    Some(match is_reused && acknowledged_at_end(conn).is_none() {
        true => found.not_seen(format!(
            "whether {address} closed the connection, which had been idle, before the request came: TcpInfoProbe was off"
        )),
        false => found,
    })
}

/// Returns how many bytes were read from the connection after the request was sent, as far as its operations are known.
fn bytes_read_since(case: &Case<'_>, conn: &TcpConnTrace, request: &HttpReqTrace) -> u64 {
    let (Some(sent), Some(trace)) = (case.at(request.req_sent_at), &conn.socket_trace) else { return 0 };
    let is_since = |at: Timestamp| case.at(at).is_some_and(|at| at >= sent);
    let ops =
        Some(&trace.socket_ops).filter(|ops| ops.len() <= MAX_OPS).into_iter().flat_map(|ops| ops.iter());
    let reads = ops.filter(|op| op.r#type == SocketOpType::Read && is_since(op.return_at));
    reads.map(|op| u64::from(op.data_len)).sum()
}

/// The body of the response is not in the encoding that its header names.
pub(super) fn decoding_error(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case).filter(|request| request.failure == Some(Failure::DecodingError))?;
    let host = case.origin();
    let sentence = format!(
        "The body of the response of {host} cannot be decoded: {}.",
        shortened(request.req_error.trim_end_matches('.'))
    );
    let found = Found::failure(Stage::Http, host.as_str(), sentence).check(format!(
        "Compare the Content-Encoding of {host} with what it sends, also behind gateways that compress; or leave \
         decompression off in the client."
    ));
    Some(found.shows_at(request, "reqError", &*request.req_error, request.end_at))
}

/// The connection ended within the body of the response.
pub(super) fn truncated(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case).filter(|request| request.failure == Some(Failure::EofError))?;
    if !is_known(request.resp_recv_at) {
        return None;
    }
    let (host, came) = (case.origin(), request.resp_encoded_len.unwrap_or(request.resp_content_len));
    let header = request.resp_header.get("content-length").filter(|field| !field.field_val.is_empty());
    let declared = header.map(|field| format!("of {} ", field.field_val)).unwrap_or_default();
    let sentence = format!("The response of {host} was cut off after {came} {declared}bytes of its body.");
    let found = Found::failure(Stage::Http, host.as_str(), sentence)
        .check(format!(
            "Look into the log of {host} and of the gateways before it for why the response ended early."
        ))
        .shows_at(request, "RespContentLen", request.resp_content_len, request.end_at)
        .shows_at(request, "reqError", &**request.req_error, request.end_at);
    let has_length = header.is_some() || request.req_error.contains(" of ");
    Some(match (header, has_length) {
        (Some(field), _) => found.shows(request, "respHeader.content-length", &field.field_val),
        (None, false) if request.resp_header.is_empty() => {
            found.not_seen(format!("how many bytes were declared: {HEADERS_OFF}"))
        }
        (None, _) => found,
    })
}

/// What came is not the HTTP that was expected.
pub(super) fn protocol_error(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case).filter(|request| request.failure == Some(Failure::HttpProtocolError))?;
    let conn = case.conn.filter(|_| is_known(request.conn_acquired_at) && !is_head_too_large(request))?;
    let address = peer(conn);
    let sentence = format!("{address} answered {} {} with invalid HTTP.", request.req_method, url(request));
    let found = Found::failure(Stage::Http, address.as_str(), sentence).check(format!(
        "Check that {address} is an HTTP server for this scheme and version of HTTP, and capture what it sends."
    ));
    Some(found.shows_at(request, "reqError", &**request.req_error, request.end_at))
}

fn is_head_too_large(request: &HttpReqTrace) -> bool {
    request.req_error.contains("message head is too large")
}

pub(super) fn headers_too_large(case: &Case<'_>) -> Option<Found> {
    const REQUEST_HEADER_FIELDS_TOO_LARGE: u16 = 431;
    let request = sent_request(case)?;
    let host = case.origin();
    if request.failure == Some(Failure::HttpProtocolError) && is_head_too_large(request) {
        let sentence = format!("The head of the response of {host} is larger than this client accepts.");
        let found = Found::failure(Stage::Http, host.as_str(), sentence)
            .check(format!("Look at which header fields {host} sends, such as many cookies."));
        return Some(found.shows_at(request, "reqError", &**request.req_error, request.end_at));
    }
    if request.resp_status_code != REQUEST_HEADER_FIELDS_TOO_LARGE {
        return None;
    }
    let sentence = format!("The header of the request is larger than {host} accepts (status 431).");
    let found = Found::degraded(Stage::Http, host.as_str(), sentence)
        .check("Send fewer or shorter header fields: look at cookies and tokens first.")
        .costs(case.duration());
    let found = found.shows_at(request, "respStatusCode", request.resp_status_code, request.resp_recv_at);
    Some(match request.req_header.is_empty() {
        true => found.not_seen(format!("which fields are large: {HEADERS_OFF}")),
        false => found,
    })
}

/// The server refused the request before it had the whole body.
pub(super) fn early_response(case: &Case<'_>) -> Option<Found> {
    const MIN_ERROR: u16 = 400;
    let request = sent_request(case)?;
    let (answered, status) = (case.at(request.resp_recv_at)?, request.resp_status_code);
    let is_early = case.at(request.req_body_end_at).is_none_or(|end| end > answered);
    if status < MIN_ERROR || !is_early || request.req_content_len == 0 {
        return None; // a body of which nothing was sent waited for the server, as with `Expect: 100-continue`
    }
    let (host, sent) = (case.origin(), request.req_content_len);
    let sentence = format!(
        "{host} answered with the status {status} before it had the whole body: {sent} bytes had been sent."
    );
    let until = if is_known(request.req_body_end_at) { request.req_body_end_at } else { request.end_at };
    let found = match case.outcome {
        Outcome::Succeeded => Found::degraded(Stage::Http, host.as_str(), sentence).costs(case.duration()),
        // The connection is often reset then, which is what the program sees.
        _ => Found::failure(Stage::Tcp, host.as_str(), sentence),
    };
    let found = found.check(match status {
        413 => format!("Send a smaller body, or raise the limit of {host} and of the gateways before it."),
        _ => format!("Look at why {host} refuses the request; `Expect: 100-continue` spares the body."),
    });
    let found = found.shows_at(request, "respStatusCode", status, request.resp_recv_at);
    Some(found.shows_at(request, "reqContentLen", sent, until))
}

/// The client waited for `100 Continue` until its limit ran out.
pub(super) fn expect_wait(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case)?;
    let expected = request.req_header.get("expect").filter(|field| !field.field_val.is_empty())?;
    let was_told = request.informational.iter().take(MAX_RELATED).any(|response| response.status == 100);
    let conn = case.conn.filter(|_| !was_told && request.req_content_len > 0)?;
    let acquired = case.at(request.conn_acquired_at)?;
    let ops = conn.socket_trace.iter().flat_map(|ops| ops.socket_ops.iter()).take(MAX_OPS);
    let is_write = |at: Timestamp| case.at(at).is_some_and(|at| at >= acquired);
    let mut writes = ops.filter(|op| op.r#type == SocketOpType::Write && is_write(op.call_at));
    let (head, body) = (writes.next()?, writes.next()?);
    let host = case.origin();
    let wait = case.between(head.return_at, body.call_at);
    let sentence = format!(
        "The client waited {} for {host} to ask for the body (100 Continue), in vain.",
        duration(wait, false)
    );
    let found = Found::degraded(Stage::Http, host.as_str(), sentence)
        .check(format!("Leave `Expect: 100-continue` out for {host}, or shorten the limit for it."))
        .costs(wait)
        .shows(request, "reqHeader.expect", &expected.field_val);
    let found = found.shows_at(
        conn,
        "socketTrace.socketOps",
        format!("write of {} bytes", head.data_len),
        head.return_at,
    );
    Some(found.shows_at(
        conn,
        "socketTrace.socketOps",
        format!("write of {} bytes", body.data_len),
        body.call_at,
    ))
}

/// The server paused within the body of the response.
pub(super) fn body_stalls(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case).filter(|request| is_known(request.resp_recv_at))?;
    let is_cut_short = ran_out(case) && !is_known(request.resp_body_end_at);
    // A connection with many requests has too many operations to look at for each of them.
    let is_own = |conn: &&TcpConnTrace| case.graph.is_only_on(&conn.trace_id);
    let conn = case.conn.filter(|conn| is_own(conn) || (is_cut_short && request.proto_major < 2))?;
    let (host, end) = (case.origin(), case.at(request.end_at)?);
    let found = |time: i64| {
        let sentence = format!(
            "{host} paused for {} within the body of the response, of which {} bytes had come in the end.",
            duration(time, false),
            request.resp_content_len
        );
        Found::degraded(Stage::Http, host.as_str(), sentence)
            .check(format!("Look at what {host} waited for while it sent {}.", url(request)))
            .costs(time)
            .shows_at(request, "respRecvAt", request.resp_recv_at, request.resp_recv_at)
    };
    let ops = conn.socket_trace.as_ref().map(|ops| &ops.socket_ops).filter(|ops| ops.len() <= MAX_OPS);
    let Some(ops) = ops else {
        let info = case.tcp_info_at_end(request, conn).filter(|_| is_cut_short)?;
        let silent = i64::from(info.last_data_recv_ms?).saturating_mul(1_000_000);
        let time = silent.min(case.between(request.resp_recv_at, request.end_at));
        return Some(found(time).shows_at(conn, "tcpInfo.lastDataRecvMs", info.last_data_recv_ms?, info.at));
    };
    let begin = case.at(request.resp_recv_at)?;
    let reads = ops.iter().filter(|op| op.r#type == SocketOpType::Read && op.data_len > 0);
    let reads = reads.filter_map(|op| Some((case.at(op.call_at)?, case.at(op.return_at)?, op)));
    let reads: Vec<_> = reads.filter(|(_, end_of_read, _)| *end_of_read <= end).collect();
    if is_cut_short {
        let (_, last, op) = reads.last()?;
        let time = end.saturating_sub(begin.max(*last));
        let value = format!("read of {} bytes, the last one", op.data_len);
        return Some(found(time).shows_at(conn, "socketTrace.socketOps", value, op.return_at));
    }
    // A pause is compared with the other reads of the body.
    const MIN_READS: usize = 4;
    let mut waits: Vec<_> = reads
        .iter()
        .filter(|(_, end_of_read, _)| *end_of_read > begin)
        .map(|(call, end_of_read, op)| (end_of_read.saturating_sub(begin.max(*call)), op))
        .collect::<Vec<_>>();
    waits.sort_unstable_by_key(|(wait, _)| *wait);
    let [others @ .., (longest, op)] = &waits[..] else { return None };
    let second = others.last().filter(|_| waits.len() >= MIN_READS)?.0;
    if *longest < second.saturating_mul(3) || *longest < SCHEDULING {
        return None;
    }
    let value = format!(
        "read of {} bytes that waited {}, the next longest {}",
        op.data_len,
        duration(*longest, false),
        duration(second, false)
    );
    Some(found(*longest).shows_at(conn, "socketTrace.socketOps", value, op.return_at))
}

/// Time ran out while the body of the request was sent.
pub(super) fn upload_slow(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case).filter(|_| ran_out(case))?;
    let conn = case.conn.filter(|_| is_known(request.conn_acquired_at))?;
    let time = case.between(request.conn_acquired_at, request.end_at);
    let window_wait = request.window_wait_us.map_or(0, |us| i64::from(us.get()) * 1000);
    if is_known(request.req_body_end_at) || is_known(request.resp_recv_at) || window_wait >= time / 2 {
        return None;
    }
    let (host, taken) = (case.origin(), request.req_content_len);
    let info = case.tcp_info_at_end(request, conn);
    let micros =
        |value: Option<u64>| value.and_then(|us| i64::try_from(us).ok()).unwrap_or(0).saturating_mul(1000);
    let limited = info.map_or(0, |info| micros(info.rwnd_limited_us));
    let busy = info.map_or(0, |info| micros(info.busy_time_us));
    let (why, suggestion) = match info {
        Some(_) if limited >= time / 2 => (
            format!("{host} did not read it"),
            format!("Look at what {host} does while it receives the body of {}.", url(request)),
        ),
        Some(_) if busy < time / 4 => (
            "the program gave it too slowly".to_owned(),
            "Look at where the body of the request comes from.".to_owned(),
        ),
        Some(_) => (
            "the network took it too slowly".to_owned(),
            format!(
                "Compare the size of the body with the bandwidth to {host}, and look for losses on the way."
            ),
        ),
        None => (
            "it was not sent faster".to_owned(),
            format!("Compare the limit with the size of the body for {host}."),
        ),
    };
    let sentence =
        format!("Of the body of the request, {taken} bytes were taken in {}: {why}.", duration(time, false));
    let found = Found::degraded(Stage::Http, host.as_str(), sentence).check(suggestion).costs(time).shows_at(
        request,
        "reqContentLen",
        taken,
        request.end_at,
    );
    Some(match info {
        Some(info) => found.shows_at(conn, "tcpInfo.busyTimeUs", busy / 1000, info.at).shows_at(
            conn,
            "tcpInfo.rwndLimitedUs",
            limited / 1000,
            info.at,
        ),
        None => {
            found.not_seen("whether the program, the network or the server was slow: TcpInfoProbe was off")
        }
    })
}
