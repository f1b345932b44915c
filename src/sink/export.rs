//! From what recorders wrote to the records of a trace.

use super::{
    clock::Tick,
    conn::{ConnRecord, ConnRef},
    core::{Core, Timeline},
    dns::DnsRecord,
    end::EndCell,
    group::{Group, GroupState, ResolverDial},
    registry::Rec,
    request::{Rare, RequestRecord, RequestRef},
    tls::TlsRecord,
};
use crate::{
    error::Fault,
    record::{
        AddrTuple, Attempt, DialTrace, DnsQueryMsg, DnsQueryTrace, DnsReplyMsg, EndReason, Failure,
        HttpReqTrace, Informational, NetTrace, ResolverDialTrace, SocketTrace, TcpConnTrace, Timestamp,
        TlsTunnelTrace, TraceId, UdpConnTrace,
    },
};
use http::StatusCode;
use std::{
    collections::HashSet,
    net::SocketAddr,
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

    let http = requests
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
    NetTrace {
        description: description.into(),
        trace_begin_at: times.begin(),
        trace_end_at: times.at(core.now()),
        uuid: core.settings.session.clone(),
        dials: in_order(dials),
        tcp_conns: in_order(tcp),
        udp_conns: in_order(udp),
        dns_queries: in_order(queries),
        tls_tunnels: in_order(tunnels),
        http_requests: in_order(http),
        dropped: None,
    }
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
    let version = record.version.load(Relaxed);
    let acquired = record.conn_acquired.get();
    let received = record.received.load(Relaxed);
    let decoded = record.decoded.load(Relaxed).checked_sub(1);
    let ended = Ended::of(&record.end, times);
    let (failure, req_error) = split(record.end.fault());
    let links = record.links();
    let conn = links.conn.as_ref();
    let (tcp_conn, tls_tunnel) = match (conn, &links.rare) {
        (Some(conn), _) => (conn.number(), conn.0.tls.load(Relaxed)),
        (None, Some(rare)) if !record.end.is_open() => made_for(rare),
        (None, _) => (0, 0),
    };
    let mut out = HttpReqTrace {
        trace_id: core.id(request.number()),
        tcp_conn: core.id(tcp_conn),
        tls_tunnel: core.id(tls_tunnel),
        proxy_tls_tunnel: core.id(conn.map_or(0, |conn| conn.0.proxy_tls.load(Relaxed))),
        proto_major: version / 10,
        proto_minor: version % 10,
        req_sent_at: times.at(record.begin),
        conn_acquired_at: times.at(acquired),
        req_body_end_at: times.at(if record.has_body { record.body_end.get() } else { acquired }),
        req_method: record.method.to_string(),
        req_url: record.uri.to_string(),
        req_content_len: record.sent.load(Relaxed),
        req_error,
        failure,
        end_at: ended.at,
        end_reason: ended.reason,
        first_byte_at: times.at(record.first_byte.get()),
        resp_recv_at: times.at(record.response_head.get()),
        resp_body_end_at: times.at(record.response_end.get()),
        resp_status_code: record.status.load(Relaxed),
        resp_content_len: decoded.unwrap_or(received),
        resp_encoded_len: decoded.map(|_| received),
        ..HttpReqTrace::default()
    };
    if let Some(rare) = &links.rare {
        rarities(&mut out, rare, conn, core, times);
    }
    out
}

/// The connection that a request's own dial made, and the tunnel over it, where the request came to its end
/// before it could use them.
fn made_for(rare: &Rare) -> (u64, u64) {
    let last = rare.dials.iter().rev().map(|dial| dial.state()).find(|dial| dial.established != 0);
    last.map_or((0, 0), |dial| {
        let tunnel = dial.tls.iter().rev().find(|tunnel| tunnel.conn == dial.established);
        (dial.established, tunnel.map_or(0, |tunnel| tunnel.number))
    })
}

fn rarities(out: &mut HttpReqTrace, rare: &Rare, conn: Option<&ConnRef>, core: &Core, times: &Timeline) {
    out.req_header = rare.headers.export();
    out.resp_header = rare.response_headers.export();
    out.trailers = rare.trailers.export();
    out.prev_hop = rare.prev_hop.as_ref().map_or_else(TraceId::default, |hop| core.id(hop.number()));
    let interim = |(at, status): &(Tick, StatusCode)| Informational {
        status: status.as_u16(),
        recv_at: times.at(*at),
        ..Informational::default()
    };
    out.informational = rare.informational.iter().map(interim).collect();
    if !rare.tried.is_empty() {
        let last = conn.map(|conn| attempt(conn, out.failure.clone()));
        out.attempts = rare.tried.iter().map(|conn| attempt(conn, Some(stale(conn)))).chain(last).collect();
    }
}

pub(super) fn dial(group: &Group, times: &Timeline) -> Option<DialTrace> {
    dial_with(group, &group.state(), times)
}

fn dial_with(group: &Group, state: &GroupState, times: &Timeline) -> Option<DialTrace> {
    let (core, head) = (&group.core, group.dial.as_ref()?);
    let ended = Ended::of(&head.end, times);
    let (failure, dial_err) = split(head.end.fault());
    Some(DialTrace {
        trace_id: core.id(head.number),
        dial_begin_at: times.at(head.begin),
        dial_end_at: ended.at,
        end_reason: ended.reason,
        dial_err,
        failure,
        ctx_close_at: times.at(state.let_go),
        dst_address: head.destination.to_string(),
        triggered_by: core.id(head.trigger),
        resolve_begin_at: times.at(state.resolve_begin),
        resolve_end_at: times.at(state.resolve_end),
        source_ip: state.source_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        established_conn: core.id(state.established),
        skipped_nameservers: state.skipped.iter().map(|(server, _)| server.to_string()).collect(),
        skip_reasons: state.skipped.iter().map(|(_, reason)| reason.to_string()).collect(),
        resolver_dials: state.resolver_dials.iter().map(|dial| resolver_dial(dial, core, times)).collect(),
    })
}

fn resolver_dial(dial: &ResolverDial, core: &Core, times: &Timeline) -> ResolverDialTrace {
    let (failure, dial_err) = split(dial.fault.as_ref());
    ResolverDialTrace {
        dial_begin_at: times.at(dial.begin),
        dial_end_at: times.at(dial.end),
        dial_err,
        failure,
        nameserver: dial.nameserver.to_string(),
        established_conn: core.id(dial.conn),
    }
}

pub(super) fn tcp_conn(group: &Group, record: &ConnRecord, times: &Timeline) -> TcpConnTrace {
    let core = &group.core;
    let (established, ended) = (record.established(), Ended::of(&record.end, times));
    let connected = established.is_some();
    let (failure, error) = split(record.end.fault());
    let (handshake_err, conn_err) = if connected { (String::new(), error) } else { (error, String::new()) };
    TcpConnTrace {
        trace_id: core.id(record.number),
        from_dial: core.id(group.dial_number()),
        from_resolver: record.from_resolver,
        handshake_begin_at: times.at(record.begin),
        handshake_end_at: if connected { times.at(established) } else { ended.at },
        handshake_err,
        connected,
        conn_close_at: if connected { ended.at } else { Timestamp::UNDEFINED },
        conn_err,
        failure,
        end_reason: ended.reason,
        addr_tuple: addresses(record),
        layer: if record.above_tls { "application".into() } else { String::new() },
        reused: times.is_before(record.begin),
        total_sent_bytes: record.sent(),
        total_recv_bytes: record.received(),
        socket_trace: socket_trace(record, times),
        ..TcpConnTrace::default()
    }
}

pub(super) fn udp_conn(group: &Group, record: &ConnRecord, times: &Timeline) -> UdpConnTrace {
    let core = &group.core;
    let ended = Ended::of(&record.end, times);
    let (failure, conn_err) = split(record.end.fault());
    UdpConnTrace {
        trace_id: core.id(record.number),
        from_dial: core.id(group.dial_number()),
        from_resolver: record.from_resolver,
        socket_create_at: times.at(record.begin),
        conn_close_at: ended.at,
        conn_err,
        failure,
        end_reason: ended.reason,
        addr_tuple: addresses(record),
        total_sent_bytes: record.sent(),
        total_recv_bytes: record.received(),
        socket_trace: socket_trace(record, times),
        ..UdpConnTrace::default()
    }
}

pub(super) fn dns(group: &Group, record: &DnsRecord, times: &Timeline) -> DnsQueryTrace {
    let core = &group.core;
    let ended = Ended::of(&record.end, times);
    let queries = record.queries.iter();
    let replies = record.replies.iter();
    DnsQueryTrace {
        trace_id: core.id(record.number),
        from_dial: core.id(group.dial_number()),
        connection: core.id(record.conn),
        dns_query_msgs: queries
            .map(|(at, message)| DnsQueryMsg { sent_at: times.at(*at), ..message.clone() })
            .collect(),
        dns_reply_msgs: replies
            .map(|(at, message)| DnsReplyMsg { recv_at: times.at(*at), ..message.clone() })
            .collect(),
        end_at: ended.at,
        end_reason: ended.reason,
        failure: split(record.end.fault()).0,
    }
}

pub(super) fn tls(group: &Group, record: &TlsRecord, times: &Timeline) -> TlsTunnelTrace {
    let (core, facts) = (&group.core, &record.facts);
    let ended = Ended::of(&record.end, times);
    let (failure, handshake_err) = split(record.end.fault().or(record.fault.as_ref()));
    TlsTunnelTrace {
        trace_id: core.id(record.number),
        tcp_conn: core.id(record.conn),
        handshake_begin_at: times.at(record.begin),
        handshake_end_at: times.at(record.handshake_end),
        handshake_err,
        failure,
        alert: facts.alert.clone(),
        close_at: ended.at,
        end_reason: ended.reason,
        did_resume: facts.did_resume,
        peer_certs: facts.peer_certs.clone(),
        cipher_suite: facts.cipher_suite,
        tls_version: facts.tls_version.clone(),
        key_exchange_group: facts.key_exchange_group.clone(),
        negotiated_proto: facts.negotiated_proto.clone(),
        server_name: record.server_name.to_string(),
    }
}

struct Ended {
    at: Timestamp,
    reason: Option<EndReason>,
}

impl Ended {
    fn of(cell: &EndCell, times: &Timeline) -> Self {
        Ended { at: times.at(cell.at()), reason: cell.reason() }
    }
}

fn split(fault: Option<&Fault>) -> (Option<Failure>, String) {
    fault.map_or_else(Default::default, |fault| (Some(fault.failure.clone()), fault.text.to_string()))
}

fn addresses(record: &ConnRecord) -> AddrTuple {
    let parts = |addr: Option<SocketAddr>| {
        addr.map_or_else(Default::default, |addr| (addr.ip().to_string(), addr.port()))
    };
    let (src_ip, src_port) = parts(record.local.get().copied());
    let (dst_ip, dst_port) = parts(record.endpoint.remote);
    AddrTuple { src_ip, src_port, dst_ip, dst_port }
}

fn socket_trace(record: &ConnRecord, times: &Timeline) -> Option<SocketTrace> {
    // An attempt that never became a connection has no operations to speak of.
    record.established().some()?;
    record.log.as_ref().map(|log| log.export(times))
}

fn attempt(conn: &ConnRef, failure: Option<Failure>) -> Attempt {
    Attempt { tcp_conn: conn.id(), failure, ..Attempt::default() }
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
fn in_order<T, L: FromIterator<T>>(mut records: Vec<(Tick, T)>) -> L {
    records.sort_by_key(|(begin, _)| *begin);
    records.into_iter().map(|(_, record)| record).collect()
}
