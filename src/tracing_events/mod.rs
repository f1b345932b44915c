//! Emits finished records as events of the crate `tracing`.
//!
//! This file has the subscriber and all events but those of requests, which are in [`request`].

use crate::{
    record::{DialTrace, DnsQueryTrace, EndReason, Failure, TcpConnTrace, TlsTunnelTrace, UdpConnTrace},
    sink::{FinishedRecord, FinishedRequest, RecordKind, Subscriber},
};
use std::fmt;
#[cfg(feature = "explain")]
use std::time::Duration;
use tracing::{
    Level, Metadata,
    callsite::DefaultCallsite,
    dispatcher,
    level_filters::{LevelFilter, STATIC_MAX_LEVEL},
    metadata::Kind,
    subscriber::NoSubscriber,
};

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

mod fields;
mod request; // after the macro, which it uses

use self::{
    fields::{
        accepted, code, host_and_port, id, is_success, level, milliseconds, number, outcome, reason, text,
    },
    request::{Cause, RequestFacts, request_event, request_in_brief},
};

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
/// `nettrace.traceparent`, `nettrace.span` (the span of `tracing` that a request was made in) and `nettrace.tags`;
/// `nettrace.end_reason`, `error.message` and `duration_ms`. Of a request there are also its phases (`blocked_ms`,
/// `dns_ms` and so on, see [`Timings`](crate::record::Timings)), whether its connection had been open before
/// (`nettrace.conn_reused`), and, if it failed or was slow, the code of the cause (`nettrace.cause`, see
/// `nettrace::explain`), with a sentence if it failed (`nettrace.verdict`). Unknown fields are left out, as are byte
/// counts that were not observed. Of the header fields an event has `traceparent` alone, even if the sink records others.
///
/// # Cost
///
/// A record is put together only if the `tracing` subscriber takes its event: the level and the target of the record
/// are checked before. Without a `tracing` subscriber all are put together, because `tracing` may hand events to the
/// crate `log`. A filter that selects events by the names of their fields cannot be asked: what it takes in addition to
/// its levels and targets is not emitted, and neither is what feature `log-always` of `tracing` would hand to `log`.
///
/// Most of the cost of an event is the formatting of its line. With `tracing_subscriber::fmt` without colours, writing
/// nowhere, the event of a request adds these instructions and allocations to recording alone
/// (`benches/check_instructions.sh events` and `cargo test --features full --test costs`):
///
/// | | instructions | allocations |
/// |---|---|---|
/// | level off | 150 | 0 |
/// | info, [`brief`](Self::brief) | 11,700 | 1 |
/// | info | 34,600 | 1 |
///
/// The time and the target take 4,000 of these, the message of a usual URL 4,000 if it contains the URL, and each field
/// 1,000 (an integer or a short text) to 1,700 (`duration_ms`).
///
/// If events leave the process through a client that is itself traced, do not add this subscriber to that client's
/// sink: each event would cause another.
#[derive(Clone, Copy, Debug)]
pub struct TracingEvents {
    brief: bool,
    #[cfg(feature = "explain")]
    explain_slower_than: Duration,
}

impl TracingEvents {
    /// Creates the subscriber. The filter of the program's `tracing` subscriber selects events.
    pub const fn new() -> Self {
        TracingEvents {
            brief: false,
            #[cfg(feature = "explain")]
            explain_slower_than: Duration::from_secs(1),
        }
    }

    /// Sets whether the event of a request that succeeded has only the message `GET 200` and the fields `nettrace.id`,
    /// `url.full` and `duration_ms`. Off by default.
    ///
    /// The other fields are in the trace, under the same identifier. Requests that failed, timed out or were cancelled
    /// have all fields.
    pub const fn brief(mut self, on: bool) -> Self {
        self.brief = on;
        self
    }

    /// Sets how long a request that succeeds may take before its event says why it was slow (`nettrace.cause`). 1 s by
    /// default. With [`Duration::MAX`], only requests that failed are explained.
    ///
    /// The records of the request are put together for this, which takes some 100 µs.
    #[cfg(feature = "explain")]
    pub const fn explain_slower_than(mut self, time: Duration) -> Self {
        self.explain_slower_than = time;
        self
    }
}

impl Default for TracingEvents {
    fn default() -> Self {
        TracingEvents::new()
    }
}

impl Subscriber for TracingEvents {
    fn finished_request(&self, _: &FinishedRecord, request: &FinishedRequest<'_>) {
        let record = request.record();
        #[cfg(feature = "explain")]
        let cause = Cause::of(request, self.explain_slower_than);
        #[cfg(not(feature = "explain"))]
        let cause = Cause::default();
        if self.brief && is_success(record) {
            request_in_brief(record, &cause);
        } else {
            let (peer_addr, is_conn_reused) = (request.peer_addr(), request.is_conn_reused());
            request_event(
                record,
                &RequestFacts { peer_addr, is_conn_reused, timings: request.timings(), cause },
            );
        }
    }

    fn finished(&self, record: &FinishedRecord) {
        match record {
            // Another subscriber passes the record on, without the rest.
            FinishedRecord::HttpRequest(record) if self.brief && is_success(record) => {
                request_in_brief(record, &Cause::default())
            }
            FinishedRecord::HttpRequest(record) => request_event(record, &RequestFacts::default()),
            FinishedRecord::Dial(record) => dial(record),
            FinishedRecord::TcpConn(record) => tcp_conn(record),
            FinishedRecord::UdpConn(record) => udp_conn(record),
            FinishedRecord::DnsQuery(record) => dns_query(record),
            FinishedRecord::TlsTunnel(record) => tls_tunnel(record),
        }
    }

    fn is_interested(&self, kind: RecordKind, reason: &EndReason) -> bool {
        let level = match kind {
            RecordKind::HttpRequest => level(Some(reason), Level::INFO),
            _ => level(Some(reason), Level::DEBUG),
        };
        // Without a subscriber, `tracing` may hand its events to the crate `log`, which cannot be asked here.
        may_be_taken(kind, level) || dispatcher::get_default(|current| current.is::<NoSubscriber>())
    }
}

/// Returns `true` unless no subscriber of `tracing` takes events of this kind and level.
///
/// This is what subscribers have said of a callsite once and for all. [`tracing::event_enabled`] would ask them each
/// time, but filters of single layers keep the answer until an event comes, and would apply it to another event if this
/// one does not come ([tokio-rs/tracing#2519](https://github.com/tokio-rs/tracing/issues/2519)).
fn may_be_taken(kind: RecordKind, level: Level) -> bool {
    /// The target and the level of a callsite must be known at compile time, as those of an event.
    macro_rules! callsite {
        ($target:literal, $level:expr) => {{
            static METADATA: Metadata<'static> = tracing::metadata! {
                name: "interest", target: $target, level: $level, fields: &[], callsite: &CALLSITE, kind: Kind::EVENT
            };
            static CALLSITE: DefaultCallsite = DefaultCallsite::new(&METADATA);
            &CALLSITE
        }};
        ($target:literal) => {
            match level {
                Level::WARN => callsite!($target, Level::WARN),
                Level::INFO => callsite!($target, Level::INFO),
                _ => callsite!($target, Level::DEBUG),
            }
        };
    }
    if level > STATIC_MAX_LEVEL || level > LevelFilter::current() {
        return false;
    }
    let callsite = match kind {
        RecordKind::HttpRequest => callsite!("nettrace::http"),
        RecordKind::Dial => callsite!("nettrace::dial"),
        RecordKind::TcpConn => callsite!("nettrace::tcp"),
        RecordKind::UdpConn => callsite!("nettrace::udp"),
        RecordKind::DnsQuery => callsite!("nettrace::dns"),
        RecordKind::TlsTunnel => callsite!("nettrace::tls"),
    };
    !callsite.register().is_never()
}

fn dial(record: &DialTrace) {
    let (host, port) = host_and_port(&record.dst_address);
    emit!("nettrace::dial", level(record.end_reason.as_ref(), Level::DEBUG), {
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
    }, "dial {} {}", record.dst_address, code(&record.failure).unwrap_or("connected"));
}

fn tcp_conn(record: &TcpConnTrace) {
    let addresses = &record.addr_tuple;
    let error = if record.connected { &record.conn_err } else { &record.handshake_err };
    let end = if record.connected { record.conn_close_at } else { record.handshake_end_at };
    let counted = |bytes| Some(bytes).filter(|_| !record.is_traffic_unobserved());
    emit!("nettrace::tcp", level(record.end_reason.as_ref(), Level::DEBUG), {
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
    }, "tcp {} {}", Peer(record), outcome(&record.failure, &record.end_reason));
}

fn udp_conn(record: &UdpConnTrace) {
    let addresses = &record.addr_tuple;
    emit!("nettrace::udp", level(record.end_reason.as_ref(), Level::DEBUG), {
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
    }, "udp {}:{} {}", addresses.dst_ip, addresses.dst_port, outcome(&record.failure, &record.end_reason));
}

fn dns_query(record: &DnsQueryTrace) {
    // The other family may have addresses. If not, the dial fails with a warning.
    let level = match record.failure {
        Some(Failure::DnsNoAnswer) => Level::DEBUG,
        _ => level(record.end_reason.as_ref(), Level::DEBUG),
    };
    let questions = || record.dns_query_msgs.iter().flat_map(|query| &query.questions);
    let name = questions().next().map(|question| question.name.as_str());
    let kinds = || questions().map(|question| question.r#type.as_str()).collect::<Vec<_>>().join(" ");
    let replies = || record.dns_reply_msgs.iter().filter(|reply| reply.ignored.is_empty());
    let answers = || {
        let answers = replies().flat_map(|reply| &reply.answers);
        answers.map(|answer| answer.resolved_val.as_str()).collect::<Vec<_>>().join(" ")
    };
    let begin = record.dns_query_msgs.first().map(|query| query.sent_at).unwrap_or_default();
    emit!("nettrace::dns", level, {
        nettrace.id = record.trace_id.as_str(),
        nettrace.dial = id(&record.from_dial),
        nettrace.conn = id(&record.connection),
        nettrace.end_reason = reason(&record.end_reason),
        dns.question.name = name,
        nettrace.dns.types = text(&kinds()),
        dns.answers = text(&answers()),
        error.type = code(&record.failure),
        duration_ms = milliseconds(begin, record.end_at),
    }, "dns {} {} {}", kinds(), name.unwrap_or_default(), code(&record.failure).unwrap_or(&answers()));
}

fn tls_tunnel(record: &TlsTunnelTrace) {
    // The certificates are the peer's: the server's, or the client's on an accepted connection.
    let (client, server) = match record.peer_certs.first() {
        certificate if record.accepted => (certificate, None),
        certificate => (None, certificate),
    };
    let error = text(&record.handshake_err).or(text(&record.conn_err));
    emit!("nettrace::tls", level(record.end_reason.as_ref(), Level::DEBUG), {
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
    }, "tls {} {}", record.server_name, outcome(&record.failure, &record.end_reason));
}

/// Displays the address of the peer: its path if it is a Unix socket, and `ip:port` otherwise.
struct Peer<'a>(&'a TcpConnTrace);

impl fmt::Display for Peer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Peer(TcpConnTrace { unix_path, addr_tuple, .. }) = self;
        match text(unix_path) {
            Some(path) => f.write_str(path),
            None => write!(f, "{}:{}", addr_tuple.dst_ip, addr_tuple.dst_port),
        }
    }
}
