//! The event of a request: the record, where its time went, and why it failed.

#[cfg(feature = "explain")]
use super::fields::is_success;
use super::fields::{accepted, code, id, level, milliseconds, reason, text};
use crate::record::{HttpReqTrace, Text, Timings};
#[cfg(feature = "explain")]
use crate::sink::FinishedRequest;
use crate::url_authority::url_host_and_port;
use std::{borrow::Cow, fmt, net::SocketAddr, time::Duration};
use tracing::Level;

/// The properties of a request that are not in its record.
#[derive(Default)]
pub(super) struct RequestFacts {
    pub(super) peer_addr: Option<SocketAddr>,
    pub(super) is_conn_reused: Option<bool>,
    pub(super) timings: Timings,
    pub(super) cause: Cause,
}

/// The root of what was found about a request.
#[derive(Default)]
pub(super) struct Cause {
    code: Option<Text>,
    /// The sentence about the cause; `None` unless the request failed.
    sentence: Option<String>,
}

#[cfg(feature = "explain")]
impl Cause {
    /// Explains a request that failed, or took at least this long.
    pub(super) fn of(request: &FinishedRequest<'_>, explain_slower_than: Duration) -> Self {
        let record = request.record();
        let took = record.end_at.since(record.req_sent_at);
        let is_success = is_success(record);
        if is_success && took.is_none_or(|took| took < explain_slower_than) {
            return Cause::default();
        }
        let root = request.explain().and_then(|verdict| verdict.findings.into_iter().next());
        root.map_or_else(Cause::default, |root| Cause {
            code: Some(root.code),
            sentence: Some(root.sentence).filter(|_| !is_success),
        })
    }
}

pub(super) fn request_in_brief(record: &HttpReqTrace, cause: &Cause) {
    let mut digits = itoa::Buffer::new();
    let status = Some(record.resp_status_code).filter(|status| *status != 0);
    let status = status.map(|status| digits.format(status));
    tracing::event!(target: "nettrace::http", Level::INFO, {
        nettrace.id = record.trace_id.as_str(),
        url.full = record.req_url.as_str(),
        nettrace.cause = cause.code.as_deref(),
        duration_ms = milliseconds(record.req_sent_at, record.end_at),
    }, "{} {}", record.req_method.as_str(), status.unwrap_or_default());
}

pub(super) fn request_event(record: &HttpReqTrace, facts: &RequestFacts) {
    let RequestFacts { peer_addr, is_conn_reused, timings, cause } = facts;
    let phase = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1e3);
    let (host, port) = url_host_and_port(&record.req_url);
    let status = Some(record.resp_status_code).filter(|status| *status != 0);
    let mut digits = itoa::Buffer::new();
    let status_text = status.map(|status| digits.format(status));
    // As in the semantic conventions: a 4xx status is an error of the client, not of the server.
    let first = if record.accepted { 500 } else { 400 };
    let refused = status_text.filter(|_| record.resp_status_code >= first);
    let outcome = code(&record.failure).or(status_text).unwrap_or_default();
    let received = record.resp_encoded_len.unwrap_or(record.resp_content_len);
    let received = Some(received).filter(|_| !record.is_response_body_unobserved());
    emit!("nettrace::http", level(record.end_reason.as_ref(), Level::INFO), {
        nettrace.id = record.trace_id.as_str(),
        nettrace.conn = id(&record.tcp_conn),
        nettrace.tunnel = id(&record.tls_tunnel),
        nettrace.prev_hop = id(&record.prev_hop),
        nettrace.request = id(&record.triggered_by),
        nettrace.accepted = accepted(record.accepted),
        nettrace.end_reason = reason(&record.end_reason),
        nettrace.traceparent = text(&record.traceparent),
        nettrace.span = text(&record.tracing_span),
        nettrace.tags = (!record.tags.is_empty()).then(|| tracing::field::display(Tags(record))),
        http.request.method = record.req_method.as_str(),
        url.full = record.req_url.as_str(),
        server.address = host,
        server.port = port,
        network.protocol.name = "http",
        network.protocol.version = record.protocol_version(),
        network.peer.address = peer_addr.map(|addr| tracing::field::display(addr.ip())),
        network.peer.port = peer_addr.map(|addr| addr.port()),
        nettrace.conn_reused = *is_conn_reused,
        http.response.status_code = status,
        http.request.body.size = record.req_content_len,
        http.response.body.size = received,
        error.type = code(&record.failure).or(refused),
        error.message = text(&record.req_error),
        nettrace.cause = cause.code.as_deref(),
        nettrace.verdict = cause.sentence.as_deref(),
        blocked_ms = phase(timings.blocked),
        dns_ms = phase(timings.dns),
        connect_ms = phase(timings.connect),
        proxy_ms = phase(timings.proxy),
        tls_ms = phase(timings.tls),
        send_ms = phase(timings.send),
        wait_ms = phase(timings.wait),
        receive_ms = phase(timings.receive),
        duration_ms = milliseconds(record.req_sent_at, record.end_at),
    }, "{} {} {outcome}", record.req_method.as_str(), record.req_url.as_str());
}

/// Displays the tags of a request: `tenant=acme zone="b c"`. What would be taken for more than one tag is quoted.
struct Tags<'a>(&'a HttpReqTrace);

impl fmt::Display for Tags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (key, value) in &*self.0.tags {
            f.write_str(separator)?;
            f.write_str(&quoted(key))?;
            f.write_str("=")?;
            f.write_str(&quoted(value))?;
            separator = " ";
        }
        Ok(())
    }
}

fn quoted(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '=' | '"' | '\\');
    if !text.is_empty() && text.chars().all(is_plain) { text.into() } else { format!("{text:?}").into() }
}
