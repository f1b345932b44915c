//! The stub resolver and the resolve layer, with nameservers that answer correctly, falsely, late or not at all.

#![cfg(feature = "resolve")]

mod answers;
mod bounds;
mod dials;
mod faults;
mod files;
mod https_records;
mod layer;
mod limits;
mod names;
mod tcp;

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hickory_proto::op::ResponseCode;
use hyper_util::client::legacy::connect::{HttpConnector, dns::Name};
use nettrace::{
    NetTrace, TraceSink,
    connect::TraceConnectLayer,
    record::{DnsQueryTrace, DnsRCode, DnsResType, EndReason, Failure, SocketOpType, SocketTrace},
    resolve::{IpStrategy, ResolveError, StubResolver, StubResolverBuilder, TraceResolveLayer},
};
use test_support::dns::{Action, ClosedPort, DnsServer, ReceivedQuery, about, wire};
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceExt};

/// A timeout that expires only if something hangs.
const LONG: Duration = Duration::from_secs(60);
/// The timeout for servers that never answer.
const SHORT: Duration = Duration::from_secs(1);

fn builder(sink: &TraceSink, servers: impl IntoIterator<Item = SocketAddr>) -> StubResolverBuilder {
    StubResolver::builder(sink)
        .nameservers(servers)
        .resolv_conf(None)
        .hosts_file(None)
        .search([""; 0])
        .timeout(LONG)
}

fn resolver(sink: &TraceSink, servers: &[&DnsServer]) -> StubResolver {
    builder(sink, servers.iter().map(|server| server.addr())).build().unwrap()
}

/// Makes one lookup outside any dial. Returns its result and its trace.
async fn lookup(
    resolver: &StubResolver,
    sink: &TraceSink,
    host: &str,
) -> (Result<Vec<IpAddr>, ResolveError>, NetTrace) {
    let result = resolver.lookup(host).await;
    let trace = sink.snapshot("lookup");
    assert_sound(&trace);
    (result, trace)
}

/// Asserts that every record has ended, that links resolve, and that byte totals are the sums of operations.
fn assert_sound(trace: &NetTrace) {
    let totals = |ops: &Option<SocketTrace>, kind: SocketOpType| {
        let ops = ops.as_ref().unwrap().socket_ops.iter();
        ops.filter(|op| op.r#type == kind).map(|op| u64::from(op.data_len)).sum::<u64>()
    };
    for conn in &trace.udp_conns {
        assert!(
            conn.end_reason.is_some() && !conn.conn_close_at.is_undefined() && conn.from_resolver,
            "{conn:?}"
        );
        assert_eq!(conn.total_sent_bytes, totals(&conn.socket_trace, SocketOpType::Write));
        assert_eq!(conn.total_recv_bytes, totals(&conn.socket_trace, SocketOpType::Read));
    }
    for conn in trace.tcp_conns.iter().filter(|conn| conn.from_resolver) {
        assert!(conn.end_reason.is_some() && !conn.handshake_end_at.is_undefined(), "{conn:?}");
        if conn.connected {
            assert_eq!(conn.total_sent_bytes, totals(&conn.socket_trace, SocketOpType::Write));
            assert_eq!(conn.total_recv_bytes, totals(&conn.socket_trace, SocketOpType::Read));
        }
    }
    for query in &trace.dns_queries {
        assert!(query.end_reason.is_some() && !query.end_at.is_undefined(), "{query:?}");
        let udp = trace.udp_conns.get(&query.connection).map(|conn| &conn.from_dial);
        let tcp = trace.tcp_conns.get(&query.connection).map(|conn| &conn.from_dial);
        assert_eq!(udp.or(tcp), Some(&query.from_dial), "{query:?}");
    }
    for dial in trace.dials.iter().flat_map(|dial| &dial.resolver_dials) {
        assert!(!dial.dial_end_at.is_undefined(), "{dial:?}");
        let is_recorded = trace.udp_conns.get(&dial.established_conn).is_some()
            || trace.tcp_conns.get(&dial.established_conn).is_some();
        assert_eq!(is_recorded, dial.failure.is_none(), "{dial:?}");
    }
}

fn ips(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

fn query_of(trace: &NetTrace, record_type: DnsResType) -> &DnsQueryTrace {
    let has_type =
        |query: &&DnsQueryTrace| query.dns_query_msgs.iter().any(|m| m.questions[0].r#type == record_type);
    trace.dns_queries.iter().find(has_type).expect("no such query")
}

fn ignored(trace: &NetTrace) -> Vec<&str> {
    let replies = trace.dns_queries.iter().flat_map(|query| &query.dns_reply_msgs);
    replies.map(|reply| reply.ignored.as_str()).filter(|why| !why.is_empty()).collect()
}

fn texts(server: &DnsServer) -> Vec<String> {
    let mut questions = server.questions();
    questions.sort();
    questions
}

/// Dials `web.test` with hyper-util's own connector, which resolves the name with `resolver`.
async fn dial<R>(resolver: R, sink: &TraceSink, port: u16) -> Result<(), Box<dyn Error + Send + Sync>>
where
    R: Service<Name> + Clone + Send + Sync + 'static,
    R::Response: Iterator<Item = SocketAddr>,
    R::Future: Send,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
    HttpConnector<R>: Service<
            http::Uri,
            Error: Into<Box<dyn Error + Send + Sync>>,
            Response: hyper_util::client::legacy::connect::Connection,
        >,
{
    let connector = TraceConnectLayer::new(sink).layer(HttpConnector::new_with_resolver(resolver));
    connector.oneshot(format!("http://web.test:{port}/").parse().unwrap()).await.map(drop)
}
