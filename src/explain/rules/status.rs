//! Causes that a server names itself, with the status of its response.

use super::http::{HEADERS_OFF, sent_request, url};
use crate::explain::{
    case::Case,
    found::{Found, Stage},
};

pub(super) fn throttled(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case).filter(|request| matches!(request.resp_status_code, 429 | 503))?;
    let (host, status) = (case.origin(), request.resp_status_code);
    let later = request.resp_header.get("retry-after").filter(|field| !field.field_val.is_empty());
    let (sentence, suggestion) = match status {
        429 => (
            format!("{host} answered that it gets too many requests (status 429)."),
            format!(
                "Send fewer requests to {host}, and wait as long as its Retry-After says before the next one."
            ),
        ),
        _ => (
            format!("{host} answered that it is overloaded or in maintenance (status 503)."),
            format!(
                "Look at the load of {host} and whether the servers behind its gateway are up, and try again later."
            ),
        ),
    };
    let found =
        Found::degraded(Stage::Http, host.as_str(), sentence).check(suggestion).costs(case.duration());
    let found = found.shows_at(request, "respStatusCode", status, request.resp_recv_at);
    Some(match later {
        Some(field) => found.shows(request, "respHeader.retry-after", &field.field_val),
        None if request.resp_header.is_empty() => {
            found.not_seen(format!("when to come back (Retry-After): {HEADERS_OFF}"))
        }
        None => found,
    })
}

/// A gateway could not get an answer from the server behind it.
pub(super) fn gateway_error(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case)?;
    let status = request.resp_status_code;
    let what = match status {
        502 => "got no valid answer from the server behind it",
        504 => "waited in vain for the server behind it",
        520 => "got an unexpected answer from the server behind it",
        521 => "was refused by the server behind it",
        522 => "could not connect to the server behind it in time",
        523 => "cannot reach the server behind it",
        524 => "connected to the server behind it, which did not answer in time",
        525 => "failed in the TLS handshake with the server behind it",
        526 => "does not trust the certificate of the server behind it",
        527 | 530 => "could not reach the server behind it",
        _ => return None,
    };
    let host = case.origin();
    let via = ["via", "server", "x-served-by", "cf-ray"].into_iter();
    let via = via.filter_map(|name| request.resp_header.get(name)).find(|field| !field.field_val.is_empty());
    let gateway =
        via.map(|field| format!(" ({}: {})", field.field_name, field.field_val)).unwrap_or_default();
    let sentence = format!("A gateway before {host}{gateway} {what} (status {status}).");
    let found = Found::degraded(Stage::Http, host.as_str(), sentence)
        .check(format!(
            "Look at the servers behind the gateway of {host}, and into its log for {}.",
            url(request)
        ))
        .costs(case.duration());
    let found = found.shows_at(request, "respStatusCode", status, request.resp_recv_at);
    Some(match via {
        Some(field) => {
            found.shows(request, "respHeader", format!("{}: {}", field.field_name, field.field_val))
        }
        None if request.resp_header.is_empty() => {
            found.not_seen(format!("which gateway it was (Via, Server): {HEADERS_OFF}"))
        }
        None => found,
    })
}

/// A call of gRPC with a status that says that the server or the way to it failed, as 5xx and 429 say over plain HTTP.
/// Others, such as `NOT_FOUND`, are answers.
pub(super) fn grpc_error(case: &Case<'_>) -> Option<Found> {
    let request = sent_request(case)?;
    let status = request.grpc_status?;
    let name = match status {
        2 => "UNKNOWN",
        4 => "DEADLINE_EXCEEDED",
        8 => "RESOURCE_EXHAUSTED",
        12 => "UNIMPLEMENTED",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        15 => "DATA_LOSS",
        _ => return None,
    };
    let host = case.origin();
    let message = match request.grpc_message.is_empty() {
        true => String::new(),
        false => format!(": {}", request.grpc_message.trim_end_matches('.')),
    };
    let sentence = format!("The call {} ended with the gRPC status {name}{message}.", url(request));
    let found = Found::degraded(Stage::Http, host.as_str(), sentence)
        .check(format!(
            "Look into the log of {host} for this call: the HTTP status {} says nothing of it.",
            request.resp_status_code
        ))
        .costs(case.duration());
    let found = found.shows_at(request, "grpcStatus", status, request.end_at);
    Some(match request.grpc_message.is_empty() {
        true => found.not_seen("the message of the status: it was empty, or `HeaderCapture::Values` was off"),
        false => found.shows(request, "grpcMessage", &**request.grpc_message),
    })
}
