//! Causes in HTTP/2: shut down connections, streams that are reset or not allowed yet, and windows.

use super::http::{is_known, sent_request, url};
use crate::{
    explain::{
        case::{Case, MAX_RELATED, peer},
        found::{Found, Stage},
        history::MIN_DELAY,
    },
    readable::duration,
    record::{Failure, GoAway, HttpReqTrace, TcpConnTrace},
};

/// Returns the connection on which an attempt of the request failed like this, if it was sent again.
fn tried_on<'a>(case: &Case<'a>, request: &HttpReqTrace, failure: &Failure) -> Option<&'a TcpConnTrace> {
    let mut attempts = request.attempts.iter().take(MAX_RELATED);
    let attempt = attempts.find(|attempt| attempt.failure.as_ref() == Some(failure))?;
    case.trace().tcp_conns.get(&attempt.tcp_conn)
}

/// Returns the last GOAWAY of the server on a connection.
fn go_away(conn: &TcpConnTrace) -> Option<&GoAway> {
    conn.wire.as_ref()?.http2.as_ref()?.go_aways.iter().rfind(|go_away| go_away.by_server)
}

/// The server shut the connection down, and did not process the request or did not answer it.
pub(super) fn goaway(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case)?;
    let is_unanswered = !is_known(request.resp_recv_at);
    let is_refused = request.failure == Some(Failure::Http2Goaway);
    let is_cut_off = || request.failure == Some(Failure::EofError) && is_unanswered;
    let (conn, is_failure) = match tried_on(case, request, &Failure::Http2Goaway) {
        Some(conn) if !is_refused => (conn, false),
        _ if is_refused => (case.conn?, true),
        _ => (case.conn.filter(|conn| is_cut_off() && go_away(conn).is_some())?, true),
    };
    let (address, go_away) = (peer(conn), go_away(conn));
    let code = go_away.map(|go_away| go_away.error.as_str()).or(Some(request.http2_error.as_str()));
    let code = code.filter(|code| !code.is_empty()).unwrap_or("NO_ERROR");
    let fate = match (is_failure, is_refused) {
        (true, true) => "and did not process the request",
        (true, false) => "and closed it before the response; it may have processed the request",
        (false, _) => "so that the request was sent again on another",
    };
    let sentence = format!("{address} shut the HTTP/2 connection down (GOAWAY, {code}), {fate}.");
    let found = match is_failure {
        true => Found::failure(Stage::Http, address.as_str(), sentence),
        false => Found::degraded(Stage::Http, address.as_str(), sentence)
            .costs(case.between(request.req_sent_at, request.conn_acquired_at)),
    };
    let found = found.check(match code {
        "NO_ERROR" => {
            format!("Expect restarts and limits of a connection's age at {address}: send the request again.")
        }
        "ENHANCE_YOUR_CALM" => {
            format!("Send fewer requests, resets and pings to {address} over one connection.")
        }
        _ => format!("Look into the log of {address} for the HTTP/2 error {code}."),
    });
    let found = match (&request.failure, is_failure) {
        (Some(failure), true) => found.shows_at(request, "failure", failure, request.end_at),
        _ => found.shows(request, "attempts.failure", Failure::Http2Goaway.as_str()),
    };
    Some(match go_away {
        Some(go_away) => {
            let found = found.shows_at(conn, "wire.http2.goAways.error", &go_away.error, go_away.at);
            let last = go_away.last_stream_id;
            let found = found.shows_at(conn, "wire.http2.goAways.lastStreamID", last, go_away.at);
            match request.stream_id {
                Some(stream) => found.shows(request, "streamID", stream),
                None => found,
            }
        }
        None => found.not_seen(
            "the last stream that the server processed: the connection is not read (TraceWireLayer)",
        ),
    })
}

/// The server reset the stream of the request.
pub(super) fn stream_reset(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case)?;
    let is_failure = request.failure == Some(Failure::Http2StreamReset)
        || (request.failure == Some(Failure::EofError) && !request.http2_error.is_empty());
    let conn = if is_failure { case.conn? } else { tried_on(case, request, &Failure::Http2StreamReset)? };
    let address = peer(conn);
    let code = match (is_failure, request.http2_error.as_str()) {
        (false, _) => "REFUSED_STREAM", // no other stream is sent again
        (true, "") => "an unknown code",
        (true, code) => code,
    };
    let when = match (is_failure, is_known(request.resp_recv_at)) {
        (false, _) => "and the request was sent again".to_owned(),
        (true, false) => "before a response".to_owned(),
        (true, true) => format!("after {} bytes of the response", request.resp_content_len),
    };
    let sentence = format!("{address} reset the stream of the request ({code}), {when}.");
    let found = match is_failure {
        true => Found::failure(Stage::Http, address.as_str(), sentence),
        false => Found::degraded(Stage::Http, address.as_str(), sentence)
            .costs(case.between(request.req_sent_at, request.conn_acquired_at)),
    };
    let found = found.check(match code {
        "REFUSED_STREAM" => {
            format!("Send the request again, and fewer at the same time: {address} did not process it.")
        }
        "ENHANCE_YOUR_CALM" => format!("Send fewer requests to {address}."),
        "HTTP_1_1_REQUIRED" => format!("Use HTTP/1.1 for {address}."),
        "CANCEL" | "NO_ERROR" => {
            format!("Look at why {address} or a gateway before it gave the response up.")
        }
        _ => format!("Look into the log of {address} for the HTTP/2 error {code}."),
    });
    let found =
        match &request.failure {
            Some(failure) if is_failure => found
                .shows_at(request, "failure", failure, request.end_at)
                .shows_at(request, "http2Error", &**request.http2_error, request.end_at),
            _ => found.shows(request, "attempts.failure", Failure::Http2StreamReset.as_str()),
        };
    Some(match conn.wire.as_ref().and_then(|wire| wire.http2.as_ref()) {
        Some(http2) => found.shows(conn, "wire.http2.serverResets", http2.server_resets),
        None => found,
    })
}

/// The body of the request waited for windows of the server.
pub(super) fn flow_control(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case)?;
    let wait = i64::from(request.window_wait_us?.get()).saturating_mul(1000);
    let conn = case.conn?;
    let address = peer(conn);
    let sentence = format!(
        "The body of the request waited {} until {address} allowed more bytes (flow control of HTTP/2).",
        duration(wait, false)
    );
    let found = Found::degraded(Stage::Http, address.as_str(), sentence)
        .check(format!(
            "Look at how fast {address} reads the body, and raise its windows if the path is long \
             (SETTINGS_INITIAL_WINDOW_SIZE)."
        ))
        .costs(wait)
        .shows(request, "windowWaitUs", wait / 1000);
    let http2 = conn.wire.as_ref().and_then(|wire| wire.http2.as_ref());
    Some(match http2.and_then(|http2| http2.server_settings.initial_window_size) {
        Some(size) => found.shows(conn, "wire.http2.serverSettings.initialWindowSize", size),
        None => found,
    })
}

/// The server allows only so many streams on a connection, and others had them.
pub(super) fn stream_limit(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case)?;
    let wait = case.streams.wait_of(request).filter(|wait| wait.nanos >= MIN_DELAY)?;
    let (conn, holder) = (case.conn?, wait.holder);
    let (address, limit) = (peer(conn), wait.limit);
    let streams = if limit == 1 { "one stream".to_owned() } else { format!("{limit} streams") };
    let sentence = format!(
        "The request waited {} for a stream: {address} allows {streams} at a time on a connection of HTTP/2, and others \
         had all of them, such as {} {}.",
        duration(wait.nanos, false),
        holder.req_method,
        url(holder)
    );
    let found = Found::degraded(Stage::Http, address.as_str(), sentence)
        .check(format!(
            "Raise the limit of {address} (SETTINGS_MAX_CONCURRENT_STREAMS), make fewer requests at a time, or divide \
             them among several connections."
        ))
        .costs(wait.nanos)
        .shows(conn, "wire.http2.serverSettings.maxConcurrentStreams", limit)
        .shows_at(request, "connAcquiredAt", request.conn_acquired_at, request.conn_acquired_at)
        .shows_at(holder, "connAcquiredAt", holder.conn_acquired_at, holder.conn_acquired_at);
    let ends = [("respRecvAt", holder.resp_recv_at), ("endAt", holder.end_at)];
    Some(match ends.into_iter().find(|(_, time)| is_known(*time)) {
        Some((field, time)) => found.shows_at(holder, field, time, time),
        None => found,
    })
}
