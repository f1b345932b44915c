//! Converts the state of each kind of record into its type in [`crate::record`].

use super::address_texts::AddressTexts;
#[cfg(feature = "resolve")]
use crate::nameserver::NameserverKind;
use crate::{
    error::{FailureDetail, http2_error_name},
    record::{
        Attempt, BoxedOrEmpty, DialTrace, DnsQueryMsg, DnsQueryTrace, DnsReplyMsg, EndReason, Failure,
        HttpHeaders, HttpReqTrace, Informational, ResolverDialTrace, SocketTrace, SocksTrace, TcpConnTrace,
        TcpInfo, TcpInfoEvent, Text, Timestamp, TlsTunnelTrace, TruncatedFields, UdpConnTrace,
        limits::{self, LimitedText, TRUNCATION_MARK},
    },
    sink::{
        clock::{AtomicTick, Tick},
        conn::{
            conn_ref::{ConnLink, ConnRef},
            record::ConnRecord,
        },
        core::Core,
        dial::group::{DialGroup, DialHead, DialState, ResolverDial},
        dns::record::DnsRecord,
        proxy::record::SocksRecord,
        record_id::RecordId,
        registry::end::End,
        request::{
            extras::{PrevHop, RequestExtras, linked_groups, path},
            headers::CapturedHeaders,
            origin::RequestOrigin,
            record::{RequestRecord, RequestRef, version_code},
            tags::Tags,
        },
        snapshot::timeline::Timeline,
        tls::record::TlsRecord,
    },
};
use http::{StatusCode, Version};
use std::{
    num::{NonZeroU16, NonZeroU32},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

pub(in crate::sink) fn request(request: &RequestRef, times: &Timeline) -> HttpReqTrace {
    request_and_links(request.core(), request.record_id(), &request.record, times, |_| ()).0
}

fn decimal(number: impl itoa::Integer) -> Text {
    itoa::Buffer::new().format(number).into()
}

/// Requests that belong to another one.
#[derive(Default)]
pub(in crate::sink) struct RelatedRequests {
    /// The hop before it.
    pub(in crate::sink) prev_hop: Option<RecordId>,
    /// The request for which it was made.
    pub(in crate::sink) cause: Option<RecordId>,
    /// Requests that are kept with it.
    pub(in crate::sink) kept: Vec<RequestRef>,
}

/// Converts a request, and returns the requests that it refers to. Passes the groups that it refers to to `found`.
pub(in crate::sink) fn request_and_links(
    core: &Core,
    id: RecordId,
    record: &RequestRecord,
    times: &Timeline,
    found: impl FnMut(&Arc<DialGroup>),
) -> (HttpReqTrace, RelatedRequests) {
    // The end is read before the rest: what belongs to a request that has ended is then complete.
    let end = record.end.get();
    let mut is_over_http2 = false;
    let (path, network_proxy, extras) = record.with_links(|conn, links| {
        is_over_http2 = conn.is_some_and(ConnLink::is_http2);
        linked_groups(conn, links).for_each(found);
        let extras = links.and_then(|links| links.extras.as_deref());
        let last_dial = || links.and_then(|links| links.dials().next());
        let proxy = conn.map(|conn| &conn.group).or_else(last_dial).and_then(|group| group.proxy());
        (
            path(conn, links),
            proxy.cloned().unwrap_or_default(),
            extras.map(|extras| ExtrasSnapshot::of(extras, conn)),
        )
    });
    let seen = |what: &AtomicTick| unless_after_end(what.get(), end.as_ref());
    let acquired = seen(&record.conn_acquired);
    let body_end = seen(&record.body_end);
    let (response, response_end) = (seen(&record.response_head), seen(&record.response_end));
    let http2_error = end.as_ref().and_then(|end| end.fault.as_ref()?.http2_error);
    let (end_at, end_reason, failure, req_error, error_bytes) = end_fields(end, times);
    let version = match record.version.load(Relaxed) {
        // No response has told the version.
        _ if is_over_http2 && response.is_none() => version_code(Version::HTTP_2),
        version => version,
    };
    let received = record.received.load(Relaxed);
    let decoded = record.decoded.load(Relaxed).checked_sub(1);
    let mut out = HttpReqTrace {
        trace_id: core.id(id),
        tcp_conn: core.id(path.conn),
        tls_tunnel: core.id(path.tls),
        accepted: record.accepted,
        proxy_tls_tunnel: core.id(path.proxy_tls).into(),
        attempts: BoxedOrEmpty::new(),
        prev_hop: BoxedOrEmpty::new(),
        triggered_by: BoxedOrEmpty::new(),
        traceparent: BoxedOrEmpty::new(),
        tracing_span: BoxedOrEmpty::new(),
        tags: BoxedOrEmpty::new(),
        proto_major: version / 10,
        proto_minor: version % 10,
        network_proxy: network_proxy.into(),
        seen_on_wire: record.seen_on_wire,
        #[cfg(feature = "client")]
        pool: record.pool.export(),
        #[cfg(not(feature = "client"))]
        pool: None,
        stream_id: record.stream_id,
        window_wait_us: None,
        req_sent_at: times.at(record.begin),
        conn_acquired_at: times.at(acquired),
        req_body_end_at: times.at(if record.has_body { body_end } else { acquired }),
        req_method: record.method.as_str().into(),
        req_url: record.url.text(),
        req_header: HttpHeaders::default(),
        req_content_len: record.sent.load(Relaxed),
        req_error,
        failure,
        http2_error: http2_error.map(http2_error_name).as_deref().unwrap_or_default().into(),
        end_at,
        end_reason,
        informational: BoxedOrEmpty::new(),
        first_byte_at: times.at(record.first_byte.get()),
        resp_recv_at: times.at(response),
        resp_body_end_at: times.at(response_end),
        resp_status_code: if response.is_some() { record.status.load(Relaxed) } else { 0 },
        resp_header: HttpHeaders::default(),
        trailers: HttpHeaders::default(),
        grpc_status: record.grpc_status.load(Relaxed).checked_sub(1),
        grpc_message: BoxedOrEmpty::new(),
        resp_content_len: decoded.unwrap_or(received),
        resp_encoded_len: decoded.map(|_| received),
        truncated_fields: BoxedOrEmpty::new(),
    };
    out.truncated_fields.note("reqURL", record.url.original_bytes());
    out.truncated_fields.note("reqError", error_bytes);
    let served = record.origin.as_deref().and_then(|origin| write_origin(origin, &mut out, core));
    let mut others = extras.map(|extras| extras.write_into(&mut out, core, times)).unwrap_or_default();
    others.cause = others.cause.or(served);
    (out, others)
}

/// Returns the requests that a request refers to. Passes the groups that it refers to to `found`.
#[cfg(feature = "json")]
pub(in crate::sink) fn related_requests(
    record: &RequestRecord,
    found: impl FnMut(&Arc<DialGroup>),
) -> impl Iterator<Item = RecordId> {
    let served = record.origin.as_deref().and_then(|origin| origin.served);
    let (prev_hop, cause, connects) = record.with_links(|conn, links| {
        linked_groups(conn, links).for_each(found);
        let Some(extras) = links.and_then(|links| links.extras.as_deref()) else {
            return (None, None, vec![]);
        };
        let cause = conn.filter(|_| extras.is_connect).and_then(|conn| conn.group.triggered_by());
        (extras.prev_hop.id, cause, extras.connects.iter().map(RequestRef::record_id).collect())
    });
    [served, prev_hop, cause].into_iter().flatten().chain(connects)
}

/// Writes what the request belongs to into `out`. Returns the request for which it was made.
#[inline(never)]
fn write_origin(origin: &RequestOrigin, out: &mut HttpReqTrace, core: &Core) -> Option<RecordId> {
    out.triggered_by = core.id(origin.served).into();
    out.traceparent = origin.traceparent.map(|field| field.text()).unwrap_or_default().into();
    out.tracing_span = origin.span.map(|span| decimal(span.get())).unwrap_or_default().into();
    origin.served
}

/// A copy of a request's extras, taken out of the lock.
struct ExtrasSnapshot {
    headers: [HttpHeaders; 3],
    original_fields: [Option<NonZeroU32>; 3],
    grpc_message: Option<LimitedText>,
    method_bytes: Option<NonZeroU32>,
    tried: Vec<(ConnLink, Failure)>,
    dropped_tried: usize,
    /// The connection after those, if there is any, and why the peer did not process the request there either.
    conn: Option<ConnLink>,
    refused: Option<Failure>,
    prev_hop: PrevHop,
    /// For a CONNECT: the request that needed it.
    cause: Option<RecordId>,
    connects: Vec<RequestRef>,
    informational: Vec<(Tick, StatusCode)>,
    informational_seen: usize,
    window_wait: Duration,
    tags: Tags,
}

impl ExtrasSnapshot {
    fn of(extras: &RequestExtras, conn: Option<&ConnLink>) -> Self {
        let headers = [&extras.headers, &extras.response_headers, &extras.trailers];
        ExtrasSnapshot {
            headers: headers.map(CapturedHeaders::export),
            original_fields: headers.map(CapturedHeaders::original_fields),
            grpc_message: extras.grpc_message.clone(),
            method_bytes: extras.method_bytes,
            dropped_tried: extras.dropped_tried,
            informational_seen: extras.informational_seen,
            window_wait: extras.window_wait,
            tags: extras.tags.clone(),
            tried: extras
                .tried
                .iter()
                .enumerate()
                .map(|(i, tried)| {
                    let failure = extras.stale.get(i).cloned().unwrap_or_else(|| tried.failure());
                    (tried.conn.clone(), failure)
                })
                .collect(),
            conn: conn.filter(|_| !extras.tried.is_empty() || extras.refused.is_some()).cloned(),
            refused: extras.refused.clone(),
            prev_hop: extras.prev_hop.clone(),
            cause: conn.filter(|_| extras.is_connect).and_then(|conn| conn.group.triggered_by()),
            connects: extras.connects.iter().cloned().collect(),
            informational: extras.informational.clone(),
        }
    }

    /// Writes the extras into `out`. Returns the requests that belong to it.
    fn write_into(self, out: &mut HttpReqTrace, core: &Core, times: &Timeline) -> RelatedRequests {
        [out.req_header, out.resp_header, out.trailers] = self.headers;
        let truncated = &mut out.truncated_fields;
        for (field, size) in ["reqHeader", "respHeader", "trailers"].into_iter().zip(self.original_fields) {
            truncated.note(field, size);
        }
        if let Some(message) = self.grpc_message {
            truncated.note("grpcMessage", message.original_bytes());
            out.grpc_message = message.text().clone().into();
        }
        if self.method_bytes.is_some() {
            truncated.note("reqMethod", self.method_bytes);
            out.req_method = format!("{}{TRUNCATION_MARK}", out.req_method).into();
        }
        if self.informational.len() < self.informational_seen {
            truncated.note("informational", limits::original_size(self.informational_seen));
        }
        truncated.note("tags", self.tags.original_count());
        out.tags = self.tags.export().into();
        let window_wait_us = u32::try_from(self.window_wait.as_micros()).unwrap_or(u32::MAX);
        out.window_wait_us = NonZeroU32::new(window_wait_us);
        if self.dropped_tried > 0 {
            let attempts = self.dropped_tried + self.tried.len() + usize::from(self.conn.is_some());
            truncated.note("attempts", limits::original_size(attempts));
        }
        out.prev_hop = core.id(self.prev_hop.id).into();
        if self.cause.is_some() {
            out.triggered_by = core.id(self.cause).into();
        }
        let interim = |(at, status): (Tick, StatusCode)| Informational {
            status: status.as_u16(),
            recv_at: times.at(at),
            ..Informational::default()
        };
        out.informational = self.informational.into_iter().map(interim).collect();
        if !self.tried.is_empty() || self.refused.is_some() {
            let failure = self.refused.or_else(|| out.failure.clone());
            let last = self.conn.map(|conn| attempt(&conn, failure));
            let tried = self.tried.into_iter().map(|(conn, why)| attempt(&conn, Some(why)));
            out.attempts = tried.chain(last).collect();
        }
        let kept = self.prev_hop.kept.into_iter().chain(self.connects).collect();
        RelatedRequests { prev_hop: self.prev_hop.id, cause: self.cause, kept }
    }
}

#[cfg(feature = "connect")]
pub(in crate::sink) fn dial(core: &Core, head: &DialHead, state: DialState, times: &Timeline) -> DialTrace {
    dial_ended(core, head, state, head.end.get(), times)
}

/// Converts a dial whose end was read before its state.
pub(in crate::sink) fn dial_ended(
    core: &Core,
    head: &DialHead,
    state: DialState,
    end: Option<End>,
    times: &Timeline,
) -> DialTrace {
    let (dial_end_at, end_reason, failure, dial_err, error_bytes) = end_fields(end, times);
    let mut truncated = BoxedOrEmpty::<TruncatedFields>::new();
    truncated.note("dstAddress", head.destination.original_bytes());
    truncated.note("dialErr", error_bytes);
    let resolver_dials = state.resolver_dials.into_iter();
    DialTrace {
        trace_id: core.id(head.id),
        dial_begin_at: times.at(head.begin),
        dial_end_at,
        end_reason,
        dial_err,
        failure,
        ctx_close_at: times.at(state.ctx_closed_at),
        dst_address: head.destination.text().clone(),
        triggered_by: core.id(head.trigger.or(state.served_request)),
        resolve_begin_at: times.at(state.resolve_begin),
        resolve_end_at: times.at(state.resolve_end),
        source_ip: state.source_ip.map(Text::from).unwrap_or_default().into(),
        established_conn: core.id(state.established),
        skipped_nameservers: state.skipped.iter().map(|(server, _)| (*server).into()).collect(),
        skip_reasons: state.skipped.iter().map(|(_, reason)| (&**reason).into()).collect(),
        resolver_dials: resolver_dials.map(|dial| resolver_dial(dial, core, times)).collect(),
        truncated_fields: truncated,
    }
}

fn resolver_dial(dial: ResolverDial, core: &Core, times: &Timeline) -> ResolverDialTrace {
    let (dial_end_at, _, failure, dial_err, _) = end_fields(dial.end, times);
    ResolverDialTrace {
        dial_begin_at: times.at(dial.begin),
        dial_end_at,
        dial_err,
        failure,
        #[cfg(feature = "resolve")]
        nameserver: match &dial.nameserver.0 {
            NameserverKind::Plain(addr) => (*addr).into(),
            #[cfg(feature = "encrypted-dns")]
            NameserverKind::Encrypted(_) => dial.nameserver.masked().to_string().into(),
        },
        established_conn: core.id(dial.conn),
        #[cfg(feature = "encrypted-dns")]
        shared_dial: core.id(dial.shared.as_ref().and_then(|group| group.dial_id())),
        ..ResolverDialTrace::default()
    }
}

pub(in crate::sink) fn tcp_conn(
    conn: &ConnRef,
    times: &Timeline,
    addresses: &mut AddressTexts,
) -> TcpConnTrace {
    let (core, record) = (&conn.group.core, conn.record());
    let end = record.end.get();
    let established = unless_after_end(record.established(), end.as_ref());
    let connected = established.is_some();
    let counts = |info: &TcpInfo| connected || info.event == TcpInfoEvent::ConnectFailed;
    let probe_data = record.probe_data.get();
    let mut tcp_info = probe_data.map_or_else(Vec::new, |data| data.tcp_info(end.as_ref(), times));
    tcp_info.retain(counts);
    let icmp_error = probe_data.and_then(|data| data.icmp_error(end.as_ref())).filter(|_| !connected);
    #[cfg(all(feature = "timestamping", target_os = "linux"))]
    let kernel_times =
        probe_data.and_then(|data| data.kernel_times.get()).and_then(|log| log.export(end.as_ref(), times));
    #[cfg(not(all(feature = "timestamping", target_os = "linux")))]
    let kernel_times = None;
    let (end_at, end_reason, failure, error, error_bytes) = end_fields(end, times);
    let mut truncated = BoxedOrEmpty::<TruncatedFields>::new();
    truncated.note(if connected { "connErr" } else { "handshakeErr" }, error_bytes);
    let (handshake_err, conn_err) = match icmp_error {
        _ if connected => (BoxedOrEmpty::new(), error),
        Some(icmp) if !error.is_empty() => (format!("{icmp}: {error}").into(), BoxedOrEmpty::new()),
        _ => (error, BoxedOrEmpty::new()),
    };
    #[cfg(feature = "wire")]
    let wire = probe_data.and_then(|data| data.wire.get()).map(|facts| Box::new(facts.export(times)));
    #[cfg(not(feature = "wire"))]
    let wire = None;
    // If it was established just after the first look, what followed is not shown either.
    let socket_trace = if connected { socket_trace(core, record, times) } else { None };
    let (total_sent_bytes, total_recv_bytes) = if connected { record.totals() } else { (0, 0) };
    TcpConnTrace {
        trace_id: core.id(record.id),
        from_dial: core.id(conn.group.dial_id()),
        from_resolver: record.from_resolver,
        accepted: record.accepted,
        handshake_begin_at: times.at(record.begin),
        handshake_end_at: if connected { times.at(established) } else { end_at },
        handshake_err,
        connected,
        conn_close_at: if connected { end_at } else { Timestamp::UNDEFINED },
        conn_err,
        failure,
        end_reason,
        addr_tuple: addresses.of(record),
        unix_path: record.path.as_deref().unwrap_or_default().into(),
        layer: if record.above_tls { "application".into() } else { BoxedOrEmpty::new() },
        reused: times.is_before(record.begin),
        total_sent_bytes,
        total_recv_bytes,
        bytes_unobserved: connected && record.is_unobserved,
        socks: record.socks().map(|record| Box::new(socks(record, times))),
        conntrack: record.conntrack.export(times),
        tcp_info: tcp_info.into(),
        kernel_times,
        icmp_error: icmp_error.map(|error| Box::new(error.clone())),
        wire,
        socket_trace,
        truncated_fields: truncated,
    }
}

fn socks(record: &SocksRecord, times: &Timeline) -> SocksTrace {
    let (handshake_end_at, end_reason, failure, handshake_err, error_bytes) =
        end_fields(record.end.get(), times);
    let mut truncated = BoxedOrEmpty::<TruncatedFields>::new();
    truncated.note("target", record.target.original_bytes());
    truncated.note("handshakeErr", error_bytes);
    SocksTrace {
        target: record.target.text().clone(),
        handshake_begin_at: times.at(record.begin),
        handshake_end_at,
        handshake_err,
        failure,
        end_reason,
        truncated_fields: truncated,
    }
}

pub(in crate::sink) fn udp_conn(
    conn: &ConnRef,
    times: &Timeline,
    addresses: &mut AddressTexts,
) -> UdpConnTrace {
    let (core, record) = (&conn.group.core, conn.record());
    let (conn_close_at, end_reason, failure, conn_err, error_bytes) = end_fields(record.end.get(), times);
    let mut truncated = BoxedOrEmpty::<TruncatedFields>::new();
    truncated.note("connErr", error_bytes);
    let socket_trace = socket_trace(core, record, times);
    let (total_sent_bytes, total_recv_bytes) = record.totals();
    UdpConnTrace {
        trace_id: core.id(record.id),
        from_dial: core.id(conn.group.dial_id()),
        from_resolver: record.from_resolver,
        socket_create_at: times.at(record.begin),
        conn_close_at,
        conn_err,
        failure,
        end_reason,
        addr_tuple: addresses.of(record),
        total_sent_bytes,
        total_recv_bytes,
        conntrack: record.conntrack.export(times),
        socket_trace,
        truncated_fields: truncated,
    }
}

pub(in crate::sink) fn dns(group: &DialGroup, record: DnsRecord, times: &Timeline) -> DnsQueryTrace {
    let core = &group.core;
    let truncated = record.truncated();
    #[cfg(feature = "encrypted-dns")]
    let http_req = record.carrier.as_ref().and_then(|carrier| carrier.http_req());
    let (end_at, end_reason, failure, ..) = end_fields(record.end, times);
    let queries = record.queries.iter();
    let replies = record.replies.iter();
    DnsQueryTrace {
        trace_id: core.id(record.id),
        from_dial: core.id(group.dial_id()),
        connection: core.id(record.conn),
        #[cfg(feature = "encrypted-dns")]
        http_req: core.id(http_req).into(),
        dns_query_msgs: queries
            .map(|(at, query)| DnsQueryMsg { sent_at: times.at(*at), ..query.export() })
            .collect(),
        dns_reply_msgs: replies
            .map(|(at, reply)| DnsReplyMsg { recv_at: times.at(*at), ..reply.export() })
            .collect(),
        end_at,
        end_reason,
        failure,
        truncated_fields: truncated,
        ..DnsQueryTrace::default()
    }
}

pub(in crate::sink) fn tls(group: &DialGroup, record: TlsRecord, times: &Timeline) -> TlsTunnelTrace {
    let core = &group.core;
    let (close_at, end_reason, of_tunnel, text, text_bytes) = end_fields(record.end, times);
    let (of_handshake, handshake_err, handshake_err_bytes) = split_fault(record.fault);
    let conn_err = if of_handshake.is_some() { BoxedOrEmpty::new() } else { text };
    let failure = of_handshake.or(of_tunnel);
    let facts = record.facts;
    let mut truncated = BoxedOrEmpty::<TruncatedFields>::new();
    truncated.note("handshakeErr", handshake_err_bytes);
    truncated.note("connErr", text_bytes.filter(|_| !conn_err.is_empty()));
    truncated.note("peerCerts", facts.peer_certs.original_certs());
    TlsTunnelTrace {
        trace_id: core.id(record.id),
        tcp_conn: core.id(record.conn),
        accepted: facts.accepted,
        handshake_begin_at: times.at(record.begin),
        handshake_end_at: times.at(record.handshake_end),
        handshake_err,
        conn_err,
        failure,
        alert: facts.alert,
        close_at,
        end_reason,
        did_resume: facts.did_resume,
        peer_certs: facts.peer_certs.certs(),
        cipher_suite: facts.cipher_suite,
        tls_version: facts.tls_version,
        key_exchange_group: facts.key_exchange_group,
        negotiated_proto: facts.negotiated_proto,
        server_name: record.server_name,
        client_hello_len: NonZeroU16::new(facts.client_hello_len),
        hello_retry_request: facts.hello_retry_request,
        offered_http2: facts.offered_http2,
        truncated_fields: truncated,
    }
}

type EndFields = (Timestamp, Option<EndReason>, Option<Failure>, BoxedOrEmpty<Text>, Option<NonZeroU32>);

/// When and how a record ended, and what went wrong: the failure, its text, and the length of the text if it was cut.
fn end_fields(end: Option<End>, times: &Timeline) -> EndFields {
    let Some(End { at, reason, fault }) = end else { return Default::default() };
    let (failure, text, original_bytes) = split_fault(fault);
    let at = if reason == EndReason::Unobserved { Timestamp::UNDEFINED } else { times.at(at) };
    (at, Some(reason), failure, text, original_bytes)
}

/// Returns `None` for a time after the end: where two threads met, something may have been written just after the
/// record had ended.
fn unless_after_end(seen: Option<Tick>, end: Option<&End>) -> Option<Tick> {
    seen.filter(|seen| end.is_none_or(|end| *seen <= end.at))
}

fn split_fault(fault: Option<FailureDetail>) -> (Option<Failure>, BoxedOrEmpty<Text>, Option<NonZeroU32>) {
    let parts = fault.map(FailureDetail::into_parts);
    parts.map_or_else(Default::default, |(failure, text, bytes)| (Some(failure), text.into(), bytes))
}

/// Must be read before the totals, which then are at least the sum of these operations.
fn socket_trace(core: &Core, record: &ConnRecord, times: &Timeline) -> Option<SocketTrace> {
    record.log.as_ref().map(|log| log.export(&core.config.retention, times))
}

fn attempt(conn: &ConnLink, failure: Option<Failure>) -> Attempt {
    Attempt { tcp_conn: conn.id(), failure, ..Attempt::default() }
}
