//! Converts the state of each kind of record into its type in [`crate::record`]: that of requests in [`request`].

use self::ends::{end_fields, split_fault, unless_after_end};
use super::address_texts::AddressTexts;
#[cfg(feature = "resolve")]
use crate::nameserver::NameserverKind;
use crate::{
    record::{
        BoxedOrEmpty, DialTrace, DnsQueryMsg, DnsQueryTrace, DnsReplyMsg, ResolverDialTrace, SocketTrace,
        SocksTrace, TcpConnTrace, TcpInfo, TcpInfoEvent, Text, Timestamp, TlsTunnelTrace, TruncatedFields,
        UdpConnTrace,
    },
    sink::{
        conn::{conn_ref::ConnRef, record::ConnRecord},
        core::Core,
        dial::group::{DialGroup, DialHead, DialState, ResolverDial},
        dns::record::DnsRecord,
        proxy::record::SocksRecord,
        registry::end::End,
        snapshot::timeline::Timeline,
        tls::record::TlsRecord,
    },
};
use std::num::NonZeroU16;

mod ends;
mod request;

#[cfg(feature = "json")]
pub(in crate::sink) use request::related_requests;
pub(in crate::sink) use request::{request, request_and_links};

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

/// Must be read before the totals, which then are at least the sum of these operations.
fn socket_trace(core: &Core, record: &ConnRecord, times: &Timeline) -> Option<SocketTrace> {
    record.log.as_ref().map(|log| log.export(&core.config.retention, times))
}
