//! Causes in the end of a TLS connection.

use crate::{
    explain::{
        case::Case,
        found::{Found, Stage},
        rules::http::{is_known, sent_request},
    },
    record::{Failure, HttpReqTrace},
};

/// The connection ended without close_notify, and only that would have said that the response is complete: its length is
/// not declared (RFC 9112 section 9.8).
pub(in crate::explain::rules) fn truncated(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case).filter(|request| request.failure == Some(Failure::EofError))?;
    let tunnel = case.trace().tls_tunnels.get(&request.tls_tunnel)?;
    // The text is that of rustls. A stream of HTTP/2 has an end of its own.
    let lacks_close_notify = request.req_error.contains("without sending TLS close_notify");
    if !lacks_close_notify || request.proto_major >= 2 || !is_known(request.resp_recv_at) {
        return None;
    }
    if !lacks_length(request) {
        return None; // it is known to be cut off, or would be with the header
    }
    let (host, came) = (case.origin(), request.resp_encoded_len.unwrap_or(request.resp_content_len));
    let sentence = format!(
        "The TLS connection to {host} ended without close_notify after {came} bytes of the response, so that it may be \
         incomplete."
    );
    let found = Found::failure(Stage::Tls, host.as_str(), sentence)
        .check(format!(
            "Let {host} declare the length of its responses, and send close_notify before it closes connections; if it \
             does, look for what cuts them on the way."
        ))
        .shows_at(request, "reqError", &**request.req_error, request.end_at)
        .shows_at(request, "RespContentLen", request.resp_content_len, request.end_at);
    let reason = tunnel.end_reason.as_ref().map_or("", |reason| reason.as_str());
    Some(found.shows_at(tunnel, "endReason", reason, tunnel.close_at))
}

/// Returns `true` if the header of the response is recorded, and does not say where the body ends.
fn lacks_length(request: &HttpReqTrace) -> bool {
    let has_field = |name| request.resp_header.get(name).is_some();
    let is_recorded = !request.resp_header.is_empty() && request.truncated_fields.is_empty();
    is_recorded && !has_field("content-length") && !has_field("transfer-encoding")
}
