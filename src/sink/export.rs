//! From what recorders wrote to the records of a trace.

use super::{
    clock::Tick,
    conn::{ConnRecord, ConnRef},
    core::{Core, Timeline},
    dns::DnsRecord,
    end::EndCell,
    group::{Group, GroupState},
    registry::Rec,
    request::{RequestRecord, RequestRef},
    tls::TlsRecord,
};
use crate::{
    error::Fault,
    record::{
        AddrTuple, Attempt, DialTrace, DnsQueryTrace, EndReason, Failure, HttpReqTrace, Informational,
        NetTrace, ResolverDialTrace, SocketTrace, TcpConnTrace, TlsTunnelTrace, UdpConnTrace,
    },
};
use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// All of these requests and groups, oldest first.
pub(super) fn trace(
    core: &Arc<Core>,
    description: &str,
    requests: Vec<Rec<RequestRecord>>,
    mut groups: Vec<Arc<Group>>,
) -> NetTrace {
    let times = core.timeline();
    let mut trace = NetTrace::default();
    trace.description = description.into();
    trace.trace_begin_at = times.begin();
    trace.uuid = core.settings.session.clone();
    for record in &requests {
        let mut links = record.links();
        groups.extend(links.conn.as_ref().map(|conn| conn.0.group.clone()));
        if let Some(rare) = &mut links.rare {
            groups.extend(rare.tried.iter().map(|conn| conn.0.group.clone()));
            groups.extend(rare.dials.iter().cloned());
        }
    }
    let mut seen = HashSet::with_capacity(groups.len());
    groups.retain(|group| seen.insert(Arc::as_ptr(group)));
    let known = requests.iter().map(Rec::number).collect::<HashSet<_>>();

    let mut http = requests
        .into_iter()
        .map(|record| (record.begin, request(&RequestRef { core: core.clone(), record }, &times)))
        .collect::<Vec<_>>();
    let (mut dials, mut tcp, mut udp, mut queries, mut tunnels) = (vec![], vec![], vec![], vec![], vec![]);
    for group in &groups {
        let state = group.state();
        if let Some(head) = &group.dial
            && let Some(mut dial) = dial_with(group, &state, &times)
        {
            if !known.contains(&head.trigger) {
                dial.triggered_by = Default::default();
            }
            dials.push((head.begin, dial));
        }
        for conn in &state.conns {
            if conn.is_udp() {
                udp.push((conn.begin, udp_conn(group, conn, &times)));
            } else {
                tcp.push((conn.begin, tcp_conn(group, conn, &times)));
            }
        }
        queries.extend(state.dns.iter().map(|record| (first_message(record), dns(group, record, &times))));
        tunnels.extend(state.tls.iter().map(|record| (record.begin, tls(group, record, &times))));
    }
    trace.http_requests = in_order(&mut http);
    trace.dials = in_order(&mut dials);
    trace.tcp_conns = in_order(&mut tcp);
    trace.udp_conns = in_order(&mut udp);
    trace.dns_queries = in_order(&mut queries);
    trace.tls_tunnels = in_order(&mut tunnels);
    trace.trace_end_at = times.at(core.now());
    trace
}

/// One request with all that it refers to: the hops before it, its connections and their dials.
pub(super) fn slice(request: &RequestRef) -> NetTrace {
    let mut hops = vec![request.record.clone()];
    while let Some(previous) = prev_hop(&hops[hops.len() - 1]) {
        hops.push(previous.record);
    }
    trace(&request.core, "", hops, vec![])
}

/// The same for hops that are known.
pub(super) fn hops(hops: &[RequestRef]) -> NetTrace {
    let Some(last) = hops.last() else { return NetTrace::default() };
    let same_sink = hops.iter().filter(|hop| Arc::ptr_eq(&hop.core, &last.core));
    trace(&last.core, "", same_sink.map(|hop| hop.record.clone()).collect(), vec![])
}

pub(super) fn request(request: &RequestRef, times: &Timeline) -> HttpReqTrace {
    let (core, record) = (&request.core, &*request.record);
    let mut out = HttpReqTrace::default();
    out.trace_id = core.id(request.number());
    let version = record.version.load(Relaxed);
    (out.proto_major, out.proto_minor) = (version / 10, version % 10);
    out.req_sent_at = times.at(record.begin);
    out.req_method = record.method.as_str().into();
    out.req_url = record.uri.to_string();
    out.req_content_len = record.sent.load(Relaxed);
    let acquired = record.conn_acquired.get();
    out.conn_acquired_at = times.at(acquired);
    out.req_body_end_at = times.at(if record.has_body { record.body_end.get() } else { acquired });
    out.resp_recv_at = times.at(record.response_head.get());
    out.resp_status_code = record.status.load(Relaxed).into();
    out.first_byte_at = times.at(record.first_byte.get());
    out.resp_body_end_at = times.at(record.response_end.get());
    let received = record.received.load(Relaxed);
    out.resp_content_len = received;
    if let Some(decoded) = record.decoded.load(Relaxed).checked_sub(1) {
        (out.resp_content_len, out.resp_encoded_len) = (decoded, Some(received));
    }
    let ended = ended(&record.end, times);
    (out.end_at, out.end_reason) = (ended.at, ended.reason);
    (out.failure, out.req_error) = split(record.end.fault());
    let links = record.links();
    if let Some(conn) = &links.conn {
        out.tcp_conn = conn.id();
        out.tls_tunnel = core.id(conn.0.tls.load(Relaxed));
        out.proxy_tls_tunnel = core.id(conn.0.proxy_tls.load(Relaxed));
    }
    if let Some(rare) = &links.rare {
        out.req_header = rare.headers.export();
        out.resp_header = rare.response_headers.export();
        out.trailers = rare.trailers.export();
        out.prev_hop = rare.prev_hop.as_ref().map_or_else(Default::default, |hop| core.id(hop.number()));
        let one_of = |(at, status): &(Tick, http::StatusCode)| {
            let mut one = Informational::default();
            (one.status, one.recv_at) = (status.as_u16(), times.at(*at));
            one
        };
        out.informational = rare.informational.iter().map(one_of).collect();
        if !rare.tried.is_empty() {
            let last = links.conn.iter().map(|conn| attempt(conn, out.failure.clone()));
            out.attempts =
                rare.tried.iter().map(|conn| attempt(conn, Some(stale(conn)))).chain(last).collect();
        }
    }
    out
}

pub(super) fn dial(group: &Group, times: &Timeline) -> Option<DialTrace> {
    dial_with(group, &group.state(), times)
}

fn dial_with(group: &Group, state: &GroupState, times: &Timeline) -> Option<DialTrace> {
    let (core, head) = (&group.core, group.dial.as_ref()?);
    let mut out = DialTrace::default();
    out.trace_id = core.id(head.number);
    out.dial_begin_at = times.at(head.begin);
    let ended = ended(&head.end, times);
    (out.dial_end_at, out.end_reason) = (ended.at, ended.reason);
    (out.failure, out.dial_err) = split(head.end.fault());
    out.ctx_close_at = times.at(state.let_go);
    out.dst_address = head.destination.to_string();
    out.triggered_by = core.id(head.trigger);
    out.resolve_begin_at = times.at(state.resolve_begin);
    out.resolve_end_at = times.at(state.resolve_end);
    out.source_ip = state.source_ip.map(|ip| ip.to_string()).unwrap_or_default();
    out.established_conn = core.id(state.established);
    out.skipped_nameservers = state.skipped.iter().map(|(server, _)| server.to_string()).collect();
    out.skip_reasons = state.skipped.iter().map(|(_, reason)| reason.to_string()).collect();
    let resolver_dial = |dial: &super::group::ResolverDial| {
        let mut out = ResolverDialTrace::default();
        (out.dial_begin_at, out.dial_end_at) = (times.at(dial.begin), times.at(dial.end));
        (out.failure, out.dial_err) = split(dial.fault.as_ref());
        (out.nameserver, out.established_conn) = (dial.nameserver.to_string(), core.id(dial.conn));
        out
    };
    out.resolver_dials = state.resolver_dials.iter().map(resolver_dial).collect();
    Some(out)
}

pub(super) fn tcp_conn(group: &Group, record: &ConnRecord, times: &Timeline) -> TcpConnTrace {
    let core = &group.core;
    let mut out = TcpConnTrace::default();
    out.trace_id = core.id(record.number);
    out.from_dial = core.id(group.dial_number());
    out.from_resolver = record.from_resolver;
    out.handshake_begin_at = times.at(record.begin);
    let (established, ended) = (record.established(), ended(&record.end, times));
    out.connected = established.is_some();
    out.end_reason = ended.reason;
    let error;
    (out.failure, error) = split(record.end.fault());
    if out.connected {
        out.handshake_end_at = times.at(established);
        out.conn_close_at = ended.at;
        out.conn_err = error;
    } else {
        out.handshake_end_at = ended.at;
        out.handshake_err = error;
    }
    out.addr_tuple = addresses(record);
    out.reused = times.is_before(record.begin);
    (out.total_sent_bytes, out.total_recv_bytes) = (record.sent(), record.received());
    out.socket_trace = socket_trace(record, times);
    if record.above_tls {
        out.layer = "application".into();
    }
    out
}

pub(super) fn udp_conn(group: &Group, record: &ConnRecord, times: &Timeline) -> UdpConnTrace {
    let core = &group.core;
    let mut out = UdpConnTrace::default();
    out.trace_id = core.id(record.number);
    out.from_dial = core.id(group.dial_number());
    out.from_resolver = record.from_resolver;
    out.socket_create_at = times.at(record.begin);
    let ended = ended(&record.end, times);
    (out.conn_close_at, out.end_reason) = (ended.at, ended.reason);
    (out.failure, out.conn_err) = split(record.end.fault());
    out.addr_tuple = addresses(record);
    (out.total_sent_bytes, out.total_recv_bytes) = (record.sent(), record.received());
    out.socket_trace = socket_trace(record, times);
    out
}

pub(super) fn dns(group: &Group, record: &DnsRecord, times: &Timeline) -> DnsQueryTrace {
    let core = &group.core;
    let mut out = DnsQueryTrace::default();
    out.trace_id = core.id(record.number);
    out.from_dial = core.id(group.dial_number());
    out.connection = core.id(record.conn);
    out.dns_query_msgs = record
        .queries
        .iter()
        .map(|(at, message)| {
            let mut message = message.clone();
            message.sent_at = times.at(*at);
            message
        })
        .collect();
    out.dns_reply_msgs = record
        .replies
        .iter()
        .map(|(at, message)| {
            let mut message = message.clone();
            message.recv_at = times.at(*at);
            message
        })
        .collect();
    let ended = ended(&record.end, times);
    (out.end_at, out.end_reason) = (ended.at, ended.reason);
    out.failure = split(record.end.fault()).0;
    out
}

pub(super) fn tls(group: &Group, record: &TlsRecord, times: &Timeline) -> TlsTunnelTrace {
    let (core, facts) = (&group.core, &record.facts);
    let mut out = TlsTunnelTrace::default();
    out.trace_id = core.id(record.number);
    out.tcp_conn = core.id(record.conn);
    (out.handshake_begin_at, out.handshake_end_at) = (times.at(record.begin), times.at(record.handshake_end));
    out.did_resume = facts.did_resume;
    out.peer_certs = facts.peer_certs.clone();
    out.cipher_suite = facts.cipher_suite;
    out.negotiated_proto = facts.negotiated_proto.clone();
    out.server_name = record.server_name.to_string();
    out.tls_version = facts.tls_version.clone();
    out.key_exchange_group = facts.key_exchange_group.clone();
    out.alert = facts.alert.clone();
    let ended = ended(&record.end, times);
    (out.close_at, out.end_reason) = (ended.at, ended.reason);
    (out.failure, out.handshake_err) = split(record.end.fault().or(record.fault.as_ref()));
    out
}

struct Ended {
    at: crate::record::Timestamp,
    reason: Option<EndReason>,
}

fn ended(cell: &EndCell, times: &Timeline) -> Ended {
    Ended { at: times.at(cell.at()), reason: cell.reason() }
}

fn split(fault: Option<&Fault>) -> (Option<Failure>, String) {
    fault.map_or_else(Default::default, |fault| (Some(fault.failure.clone()), fault.text.to_string()))
}

fn addresses(record: &ConnRecord) -> AddrTuple {
    let mut out = AddrTuple::default();
    if let Some(local) = record.local.get() {
        (out.src_ip, out.src_port) = (local.ip().to_string(), local.port());
    }
    if let Some(remote) = record.endpoint.remote {
        (out.dst_ip, out.dst_port) = (remote.ip().to_string(), remote.port());
    }
    out
}

fn socket_trace(record: &ConnRecord, times: &Timeline) -> Option<SocketTrace> {
    // An attempt that never became a connection has no operations to speak of.
    record.established().some()?;
    record.log.as_ref().map(|log| log.export(times))
}

fn attempt(conn: &ConnRef, failure: Option<Failure>) -> Attempt {
    let mut attempt = Attempt::default();
    (attempt.tcp_conn, attempt.failure) = (conn.id(), failure);
    attempt
}

/// Why a request was moved away from a connection: what ended it, or that the peer did not want it any more.
fn stale(conn: &ConnRef) -> Failure {
    let fault = conn.0.record.as_ref().and_then(|record| record.end.fault());
    fault.map_or(Failure::EofError, |fault| fault.failure.clone())
}

fn prev_hop(record: &RequestRecord) -> Option<RequestRef> {
    record.links().rare.as_ref()?.prev_hop.clone()
}

fn first_message(record: &DnsRecord) -> Tick {
    record.queries.first().map_or(Tick::NONE, |(at, _)| *at)
}

/// Sorted by when they began; those that began at the same moment stay as they came.
fn in_order<T, L: FromIterator<T>>(records: &mut Vec<(Tick, T)>) -> L {
    records.sort_by_key(|(begin, _)| *begin);
    records.drain(..).map(|(_, record)| record).collect()
}
