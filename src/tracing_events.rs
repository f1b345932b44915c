//! Emits finished records as events of the crate `tracing`.

use crate::{
    record::{
        DialTrace, DnsQueryTrace, EndReason, Failure, HttpReqTrace, TcpConnTrace, Timestamp, TlsTunnelTrace,
        TraceId, UdpConnTrace,
    },
    sink::{FinishedRecord, Subscriber},
};
use http::Uri;
use tracing::Level;

/// A subscriber that emits each finished record as an event of the crate [`tracing`](https://docs.rs/tracing), for
/// programs that log with it.
///
/// ```
/// use nettrace::{TraceSink, TracingEvents};
///
/// let sink = TraceSink::builder().subscriber(TracingEvents::new()).build();
/// ```
///
/// | target | event | level |
/// |---|---|---|
/// | `nettrace::http` | a request ended | info |
/// | `nettrace::dial` | a dial ended, name lookup included | debug |
/// | `nettrace::tcp`, `nettrace::udp` | a connection was closed, or an attempt failed | debug |
/// | `nettrace::dns` | an exchange with a nameserver ended | debug |
/// | `nettrace::tls` | a tunnel was closed, or a handshake failed | debug |
///
/// The event of a record that failed or timed out is a warning. Cancelled requests and attempts that lost the race are
/// not. A lookup that found no addresses of one family (`dns_no_answer`) is not either, since the other family may have
/// some. If it has none, the dial fails.
///
/// Fields have the names of OpenTelemetry's semantic conventions where these have one: `http.request.method`,
/// `url.full`, `http.response.status_code`, `server.address`, `network.peer.address`, `tls.protocol.version`,
/// `dns.question.name`, `error.type` (the [`Failure`]) and so on. Others are `nettrace.id`, the identifier of the
/// record in the trace; `nettrace.request`, `nettrace.dial`, `nettrace.conn`, `nettrace.tunnel` and
/// `nettrace.prev_hop`, the identifiers of linked records; `nettrace.accepted` on the server's side;
/// `nettrace.end_reason`, `error.message` and `duration_ms`. Unknown fields are left out, as are byte counts that were
/// not observed. An event has only what the record has, and no header fields even if the sink records them.
///
/// If events leave the process through a client that is itself traced, do not add this subscriber to that client's
/// sink: each event would cause another.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TracingEvents;

impl TracingEvents {
    /// Creates the subscriber. It has no options: the filter of the program's `tracing` subscriber selects events.
    pub const fn new() -> Self {
        TracingEvents
    }
}

impl Subscriber for TracingEvents {
    fn finished(&self, record: &FinishedRecord) {
        match record {
            FinishedRecord::HttpRequest(record) => request(record),
            FinishedRecord::Dial(record) => dial(record),
            FinishedRecord::TcpConn(record) => tcp_conn(record),
            FinishedRecord::UdpConn(record) => udp_conn(record),
            FinishedRecord::DnsQuery(record) => dns_query(record),
            FinishedRecord::TlsTunnel(record) => tls_tunnel(record),
        }
    }
}

/// Emits an event. The level of an event must be known at compile time.
macro_rules! emit {
    ($target:literal, $level:expr, { $($fields:tt)* }, $($message:tt)+) => {
        match $level {
            Level::WARN => tracing::event!(target: $target, Level::WARN, { $($fields)* }, $($message)+),
            Level::INFO => tracing::event!(target: $target, Level::INFO, { $($fields)* }, $($message)+),
            _ => tracing::event!(target: $target, Level::DEBUG, { $($fields)* }, $($message)+),
        }
    };
}

fn level(reason: &Option<EndReason>, usual: Level) -> Level {
    match reason {
        Some(EndReason::Failed | EndReason::Timeout) => Level::WARN,
        _ => usual,
    }
}

fn request(record: &HttpReqTrace) {
    let uri: Uri = record.req_url.parse().unwrap_or_default();
    let status = Some(record.resp_status_code).filter(|status| *status != 0);
    // As in the semantic conventions: a 4xx status is an error of the client, not of the server.
    let first = if record.accepted { 500 } else { 400 };
    let refused = status.filter(|status| *status >= first).map(|status| status.to_string());
    let code = record.failure.as_ref().map(Failure::as_str).or(refused.as_deref());
    let outcome = outcome(&record.failure, status.map(|status| status.to_string()));
    let version = match (record.proto_major, record.proto_minor) {
        (major @ 2.., _) => major.to_string(),
        (major, minor) => format!("{major}.{minor}"),
    };
    let received = record.resp_encoded_len.unwrap_or(record.resp_content_len);
    let received = Some(received).filter(|_| !record.is_response_body_unobserved());
    emit!("nettrace::http", level(&record.end_reason, Level::INFO), {
        nettrace.id = record.trace_id.as_str(),
        nettrace.conn = id(&record.tcp_conn),
        nettrace.tunnel = id(&record.tls_tunnel),
        nettrace.prev_hop = id(&record.prev_hop),
        nettrace.request = id(&record.triggered_by),
        nettrace.accepted = accepted(record.accepted),
        nettrace.end_reason = reason(&record.end_reason),
        http.request.method = record.req_method.as_str(),
        url.full = record.req_url.as_str(),
        server.address = uri.host(),
        server.port = port(&uri),
        network.protocol.name = "http",
        network.protocol.version = version.as_str(),
        http.response.status_code = status,
        http.request.body.size = record.req_content_len,
        http.response.body.size = received,
        error.type = code,
        error.message = text(&record.req_error),
        duration_ms = milliseconds(record.req_sent_at, record.end_at),
    }, "{} {} {}", record.req_method, record.req_url, outcome);
}

fn dial(record: &DialTrace) {
    let (host, port) = host_and_port(&record.dst_address);
    emit!("nettrace::dial", level(&record.end_reason, Level::DEBUG), {
        nettrace.id = record.trace_id.as_str(),
        nettrace.request = id(&record.triggered_by),
        nettrace.conn = id(&record.established_conn),
        nettrace.end_reason = reason(&record.end_reason),
        server.address = host,
        server.port = port,
        dns.lookup.duration_ms = milliseconds(record.resolve_begin_at, record.resolve_end_at),
        error.type = code(&record.failure),
        error.message = text(&record.dial_err),
        duration_ms = milliseconds(record.dial_begin_at, record.dial_end_at),
    }, "dial {} {}", record.dst_address, outcome(&record.failure, Some("connected".into())));
}

fn tcp_conn(record: &TcpConnTrace) {
    let addresses = &record.addr_tuple;
    let error = if record.connected { &record.conn_err } else { &record.handshake_err };
    let end = if record.connected { record.conn_close_at } else { record.handshake_end_at };
    let counted = |bytes| Some(bytes).filter(|_| !record.is_traffic_unobserved());
    let peer = match text(&record.unix_path) {
        Some(path) => path.to_owned(),
        None => format!("{}:{}", addresses.dst_ip, addresses.dst_port),
    };
    emit!("nettrace::tcp", level(&record.end_reason, Level::DEBUG), {
        nettrace.id = record.trace_id.as_str(),
        nettrace.dial = id(&record.from_dial),
        nettrace.accepted = accepted(record.accepted),
        nettrace.end_reason = reason(&record.end_reason),
        network.transport = if record.unix_path.is_empty() { "tcp" } else { "unix" },
        network.local.address = text(&addresses.src_ip),
        network.local.port = number(addresses.src_port),
        network.peer.address = text(&addresses.dst_ip).or(text(&record.unix_path)),
        network.peer.port = number(addresses.dst_port),
        nettrace.connected = record.connected,
        nettrace.sent_bytes = counted(record.total_sent_bytes),
        nettrace.received_bytes = counted(record.total_recv_bytes),
        error.type = code(&record.failure),
        error.message = text(error),
        duration_ms = milliseconds(record.handshake_begin_at, end),
    }, "tcp {} {}", peer, outcome(&record.failure, ended(&record.end_reason)));
}

fn udp_conn(record: &UdpConnTrace) {
    let addresses = &record.addr_tuple;
    emit!("nettrace::udp", level(&record.end_reason, Level::DEBUG), {
        nettrace.id = record.trace_id.as_str(),
        nettrace.dial = id(&record.from_dial),
        nettrace.end_reason = reason(&record.end_reason),
        network.transport = "udp",
        network.local.address = text(&addresses.src_ip),
        network.local.port = number(addresses.src_port),
        network.peer.address = text(&addresses.dst_ip),
        network.peer.port = number(addresses.dst_port),
        nettrace.sent_bytes = record.total_sent_bytes,
        nettrace.received_bytes = record.total_recv_bytes,
        error.type = code(&record.failure),
        error.message = text(&record.conn_err),
        duration_ms = milliseconds(record.socket_create_at, record.conn_close_at),
    }, "udp {}:{} {}", addresses.dst_ip, addresses.dst_port, outcome(&record.failure, ended(&record.end_reason)));
}

fn dns_query(record: &DnsQueryTrace) {
    let question = record.dns_query_msgs.iter().flat_map(|query| &query.questions).next();
    let name = question.map(|question| question.name.as_str());
    let kinds = record.dns_query_msgs.iter().flat_map(|query| &query.questions);
    let kinds = kinds.map(|question| question.r#type.as_str()).collect::<Vec<_>>().join(" ");
    let answers = record.dns_reply_msgs.iter().filter(|reply| reply.ignored.is_empty());
    let answers = answers.flat_map(|reply| &reply.answers);
    let answers = answers.map(|answer| answer.resolved_val.as_str()).collect::<Vec<_>>().join(" ");
    // The other family may have addresses. If not, the dial fails with a warning.
    let level = match record.failure {
        Some(Failure::DnsNoAnswer) => Level::DEBUG,
        _ => level(&record.end_reason, Level::DEBUG),
    };
    let begin = record.dns_query_msgs.first().map(|query| query.sent_at).unwrap_or_default();
    emit!("nettrace::dns", level, {
        nettrace.id = record.trace_id.as_str(),
        nettrace.dial = id(&record.from_dial),
        nettrace.conn = id(&record.connection),
        nettrace.end_reason = reason(&record.end_reason),
        dns.question.name = name,
        nettrace.dns.types = text(&kinds),
        dns.answers = text(&answers),
        error.type = code(&record.failure),
        duration_ms = milliseconds(begin, record.end_at),
    }, "dns {} {} {}", kinds, name.unwrap_or_default(), outcome(&record.failure, Some(answers.clone())));
}

fn tls_tunnel(record: &TlsTunnelTrace) {
    // The certificates are the peer's: the server's, or the client's on an accepted connection.
    let (client, server) = match record.peer_certs.first() {
        certificate if record.accepted => (certificate, None),
        certificate => (None, certificate),
    };
    let error = text(&record.handshake_err).or(text(&record.conn_err));
    emit!("nettrace::tls", level(&record.end_reason, Level::DEBUG), {
        nettrace.id = record.trace_id.as_str(),
        nettrace.conn = id(&record.tcp_conn),
        nettrace.accepted = accepted(record.accepted),
        nettrace.end_reason = reason(&record.end_reason),
        server.address = text(&record.server_name),
        tls.protocol.version = record.tls_version.strip_prefix("TLSv"),
        tls.curve = text(&record.key_exchange_group),
        tls.next_protocol = text(&record.negotiated_proto),
        tls.resumed = record.did_resume,
        tls.server.subject = server.map(|certificate| certificate.subject.as_str()),
        tls.server.issuer = server.map(|certificate| certificate.issuer.as_str()),
        tls.server.hash.sha256 = server.map(|certificate| certificate.sha256.as_str()),
        tls.client.subject = client.map(|certificate| certificate.subject.as_str()),
        tls.client.issuer = client.map(|certificate| certificate.issuer.as_str()),
        tls.client.hash.sha256 = client.map(|certificate| certificate.sha256.as_str()),
        nettrace.tls.cipher_suite = number(record.cipher_suite),
        nettrace.tls.alert = text(&record.alert),
        error.type = code(&record.failure),
        error.message = error,
        duration_ms = milliseconds(record.handshake_begin_at, record.handshake_end_at),
    }, "tls {} {}", record.server_name, outcome(&record.failure, ended(&record.end_reason)));
}

fn id(id: &TraceId) -> Option<&str> {
    Some(id.as_str()).filter(|id| !id.is_empty())
}

/// The field `nettrace.accepted`, which is present only on the server's side.
fn accepted(is: bool) -> Option<bool> {
    is.then_some(true)
}

fn text(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn number(number: u16) -> Option<u16> {
    Some(number).filter(|number| *number != 0)
}

fn code(failure: &Option<Failure>) -> Option<&str> {
    failure.as_ref().map(Failure::as_str)
}

fn reason(reason: &Option<EndReason>) -> Option<&str> {
    reason.as_ref().map(EndReason::as_str)
}

fn ended(end: &Option<EndReason>) -> Option<String> {
    reason(end).map(Into::into)
}

/// Returns the outcome in a word, for the message.
fn outcome(failure: &Option<Failure>, well: Option<String>) -> String {
    code(failure).map(Into::into).or(well).unwrap_or_default()
}

fn milliseconds(begin: Timestamp, end: Timestamp) -> Option<f64> {
    if begin.is_undefined() || end.is_undefined() {
        return None;
    }
    end.since(begin).map(|time| time.as_secs_f64() * 1e3)
}

fn port(uri: &Uri) -> Option<u16> {
    uri.port_u16().or(match uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    })
}

fn host_and_port(address: &str) -> (Option<&str>, Option<u16>) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    (text(host), port.parse().ok())
}
