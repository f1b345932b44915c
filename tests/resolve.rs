//! The stub resolver and the resolve layer against nameservers that answer, lie, are late or fall silent.

#![cfg(feature = "resolve")]

#[path = "support/dns.rs"]
mod dns;

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dns::{Action, Asked, DnsServer, about, wire};
use hickory_proto::op::ResponseCode;
use hyper_util::client::legacy::connect::{HttpConnector, dns::Name};
use nettrace::{
    NetTrace, TraceSink,
    connect::TraceConnectLayer,
    record::{DnsQueryTrace, DnsRCode, DnsResType, EndReason, SocketOpType, SocketTrace},
    resolve::{IpStrategy, ResolveError, StubResolver, StubResolverBuilder, TraceResolveLayer},
};
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceExt};

/// Far longer than any test may take: where it expires something hangs.
const LONG: Duration = Duration::from_secs(60);
/// For servers that never answer; those that do must be quicker.
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

/// One lookup outside any dial, and all that is known of it.
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

/// Everything has ended, links lead somewhere and byte totals are the sums of operations.
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
        let known = trace.udp_conns.get(&dial.established_conn).is_some()
            || trace.tcp_conns.get(&dial.established_conn).is_some();
        assert_eq!(known, dial.failure.is_none(), "{dial:?}");
    }
}

fn ips(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

fn query_of(trace: &NetTrace, record_type: DnsResType) -> &DnsQueryTrace {
    let asks =
        |query: &&DnsQueryTrace| query.dns_query_msgs.iter().any(|m| m.questions[0].r#type == record_type);
    trace.dns_queries.iter().find(asks).expect("no such query")
}

fn ignored(trace: &NetTrace) -> Vec<&str> {
    let replies = trace.dns_queries.iter().flat_map(|query| &query.dns_reply_msgs);
    replies.map(|reply| reply.ignored.as_str()).filter(|why| !why.is_empty()).collect()
}

fn texts(asked: &DnsServer) -> Vec<String> {
    let mut questions = asked.questions();
    questions.sort();
    questions
}

#[tokio::test]
async fn both_families_are_asked_for_and_recorded() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1", "192.0.2.2"]).await;
    let (result, trace) = lookup(&resolver(&sink, &[&server]), &sink, "web.test").await;
    assert_eq!(result.unwrap(), ips(&["192.0.2.1", "192.0.2.2"]));
    assert_eq!(texts(&server), ["web.test A", "web.test AAAA"]);
    let asked = server.asked();
    assert!(asked.iter().all(|asked| !asked.tcp && asked.message.metadata.recursion_desired));
    assert!(asked.iter().all(|asked| asked.message.edns.as_ref().unwrap().max_payload() == 1232));
    assert_ne!(asked[0].from.port(), asked[1].from.port(), "each query has its own port");

    assert_eq!((trace.udp_conns.len(), trace.dns_queries.len(), trace.tcp_conns.len()), (2, 2, 0));
    let a = query_of(&trace, DnsResType::A);
    let message = &a.dns_query_msgs[0];
    assert_eq!(message.questions[0].name, "web.test.");
    assert_eq!((message.questions[0].class, message.opt_udp_payload_size), (1, 1232));
    assert!(message.recursion_desired && !message.truncated && !message.sent_at.is_undefined());
    assert_eq!(message.size, 37);
    let reply = &a.dns_reply_msgs[0];
    assert_eq!((reply.id, &reply.r_code), (message.id, &DnsRCode::NoError));
    assert!(reply.recursion_available && !reply.recv_at.is_undefined() && reply.ignored.is_empty());
    let answers: Vec<_> =
        reply.answers.iter().map(|a| (a.name.as_str(), a.ttl, a.resolved_val.as_str())).collect();
    assert_eq!(answers, [("web.test.", 60, "192.0.2.1"), ("web.test.", 60, "192.0.2.2")]);
    assert_eq!((a.end_reason.as_ref(), &a.failure), (Some(&EndReason::Closed), &None));

    let conn = trace.udp_conns.get(&a.connection).unwrap();
    assert_eq!(
        (conn.addr_tuple.dst_ip.as_str(), conn.addr_tuple.dst_port),
        ("127.0.0.1", server.addr().port())
    );
    assert_eq!(conn.addr_tuple.src_ip, "127.0.0.1");
    let ops: Vec<_> = conn.socket_trace.as_ref().unwrap().socket_ops.iter().collect();
    assert_eq!(
        ops.iter().map(|op| &op.r#type).collect::<Vec<_>>(),
        [&SocketOpType::Write, &SocketOpType::Read]
    );
    assert_eq!((ops[0].data_len, ops[1].data_len), (message.size, reply.size));
    assert_eq!(conn.end_reason, Some(EndReason::Closed));

    let aaaa = query_of(&trace, DnsResType::Aaaa);
    assert_eq!(aaaa.failure.as_ref().unwrap().as_str(), "dns_no_answer");
    assert!(aaaa.dns_reply_msgs[0].answers.is_empty());
}

#[tokio::test]
async fn addresses_of_both_families_come_sorted() {
    let sink = TraceSink::new();
    // ::1 has the highest precedence where there is IPv6 at all; 192.0.2.1 has a route or not, but comes later.
    let server = DnsServer::answering(&["127.0.0.1", "::1"]).await;
    let (result, _) = lookup(&resolver(&sink, &[&server]), &sink, "web.test").await;
    let mut expected = ips(&["::1", "127.0.0.1"]);
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        expected.reverse();
    }
    assert_eq!(result.unwrap(), expected);
}

#[tokio::test]
async fn no_such_name_is_final() {
    let sink = TraceSink::new();
    let server = DnsServer::start(|asked| asked.nothing(ResponseCode::NXDomain)).await;
    let other = DnsServer::answering(&["192.0.2.1"]).await;
    let (result, trace) = lookup(&resolver(&sink, &[&server, &other]), &sink, "nx.test").await;
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), format!("lookup nx.test on {}: no such host", server.addr()));
    assert_eq!((error.name(), error.nameserver()), ("nx.test", Some(server.addr())));
    assert_eq!(error.failure().as_str(), "dns_nxdomain_error");
    assert!(error.source().is_none() && other.asked().is_empty());
    for query in &trace.dns_queries {
        assert_eq!(query.failure.as_ref().unwrap().as_str(), "dns_nxdomain_error");
        assert_eq!(query.dns_reply_msgs[0].r_code, DnsRCode::NxDomain);
    }
}

#[tokio::test]
async fn a_name_without_addresses() {
    let sink = TraceSink::new();
    let server = DnsServer::start(|asked| asked.nothing(ResponseCode::NoError)).await;
    let other = DnsServer::answering(&["192.0.2.1"]).await;
    let (result, _) = lookup(&resolver(&sink, &[&server, &other]), &sink, "empty.test").await;
    assert_eq!(result.unwrap_err().failure().as_str(), "dns_no_answer");
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn faults_lead_to_the_next_server() {
    for (code, failure) in
        [(ResponseCode::ServFail, "dns_servfail_error"), (ResponseCode::Refused, "dns_refused_error")]
    {
        let sink = TraceSink::new();
        let bad = DnsServer::start(move |asked| asked.nothing(code)).await;
        let good = DnsServer::answering(&["192.0.2.1"]).await;
        let (result, trace) = lookup(&resolver(&sink, &[&bad, &good]), &sink, "web.test").await;
        assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
        assert_eq!(texts(&bad), ["web.test A", "web.test AAAA"]);
        assert_eq!(trace.dns_queries.iter().filter(|q| q.dns_reply_msgs[0].answers.is_empty()).count(), 3);
        let failed = trace.dns_queries.iter().filter_map(|query| query.failure.as_ref());
        assert_eq!(failed.filter(|f| f.as_str() == failure).count(), 2);

        let sink = TraceSink::new();
        let (result, _) = lookup(&resolver(&sink, &[&bad]), &sink, "web.test").await;
        assert_eq!(result.unwrap_err().failure().as_str(), failure);
        assert_eq!(bad.asked().len(), 2 + 2 * 2, "two attempts for each family");
    }
}

#[tokio::test]
async fn lame_referrals_lead_to_the_next_server() {
    let sink = TraceSink::new();
    let lame = DnsServer::start(|asked| {
        let mut reply = asked.reply();
        reply.metadata.recursion_available = false;
        reply.edns = None;
        reply
    })
    .await;
    let good = DnsServer::answering(&["192.0.2.1"]).await;
    let (result, _) = lookup(&resolver(&sink, &[&lame, &good]), &sink, "web.test").await;
    assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
}

#[tokio::test]
async fn a_silent_server_is_left_after_the_timeout() {
    let sink = TraceSink::new();
    let (silent, good) = (DnsServer::silent().await, DnsServer::answering(&["192.0.2.1"]).await);
    let resolver = builder(&sink, [silent.addr(), good.addr()]).timeout(SHORT).build().unwrap();
    let begin = Instant::now();
    let (result, trace) = lookup(&resolver, &sink, "web.test").await;
    assert!(begin.elapsed() >= SHORT);
    assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
    let given_up: Vec<_> =
        trace.dns_queries.iter().filter(|query| query.end_reason == Some(EndReason::Timeout)).collect();
    assert_eq!(given_up.len(), 2);
    for query in given_up {
        assert_eq!(query.failure.as_ref().unwrap().as_str(), "generic_timeout_error");
        let conn = trace.udp_conns.get(&query.connection).unwrap();
        assert_eq!(conn.end_reason, Some(EndReason::Timeout));
        assert_eq!(
            conn.socket_trace.as_ref().unwrap().socket_ops.len(),
            1,
            "a read that never returned is none"
        );
    }
}

#[tokio::test]
async fn silence_everywhere_is_a_timeout() {
    let sink = TraceSink::new();
    let server = DnsServer::silent().await;
    let resolver =
        builder(&sink, [server.addr()]).timeout(Duration::from_millis(30)).attempts(3).build().unwrap();
    let (result, _) = lookup(&resolver, &sink, "web.test").await;
    let error = result.unwrap_err();
    assert_eq!(error.failure().as_str(), "generic_timeout_error");
    assert_eq!(error.to_string(), format!("lookup web.test on {}: timed out", server.addr()));
}

#[tokio::test]
async fn a_late_answer_is_waited_for() {
    let sink = TraceSink::new();
    let delay = Duration::from_millis(100);
    let server =
        DnsServer::start(move |asked| Action::Later(delay, vec![wire(&asked.addresses(&["192.0.2.1"]))]))
            .await;
    let (result, trace) = lookup(&resolver(&sink, &[&server]), &sink, "web.test").await;
    assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
    let (a, aaaa) = (query_of(&trace, DnsResType::A), query_of(&trace, DnsResType::Aaaa));
    for (query, other) in [(a, aaaa), (aaaa, a)] {
        assert!(query.dns_query_msgs[0].sent_at <= other.dns_reply_msgs[0].recv_at, "in parallel");
        let waited = query.dns_reply_msgs[0].recv_at.since(query.dns_query_msgs[0].sent_at).unwrap();
        assert!(waited >= delay, "{waited:?}");
    }
}

#[tokio::test]
async fn one_family_is_enough() {
    for family_that_answers in [DnsResType::A, DnsResType::Aaaa] {
        let sink = TraceSink::new();
        let only_a = family_that_answers == DnsResType::A;
        let server = DnsServer::start(move |asked| -> Action {
            if asked.is_a() == only_a {
                asked.addresses(&["192.0.2.1", "2001:db8::1"]).into()
            } else {
                asked.nothing(ResponseCode::ServFail).into()
            }
        })
        .await;
        let (result, _) = lookup(&resolver(&sink, &[&server]), &sink, "web.test").await;
        assert_eq!(result.unwrap(), ips(&[if only_a { "192.0.2.1" } else { "2001:db8::1" }]));
    }
}

#[tokio::test]
async fn cut_off_replies_are_asked_for_over_tcp() {
    let sink = TraceSink::new();
    let many: Vec<String> = (0..200).map(|n| format!("10.0.0.{n}")).collect();
    let all = ips(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let server = DnsServer::start(move |asked| {
        if asked.tcp {
            return asked.addresses(&many.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let mut reply = asked.reply();
        reply.metadata.truncation = true;
        reply
    })
    .await;
    let (result, trace) = lookup(&resolver(&sink, &[&server]), &sink, "big.test").await;
    assert_eq!(result.unwrap(), all);
    assert_eq!((trace.udp_conns.len(), trace.tcp_conns.len(), trace.dns_queries.len()), (2, 2, 4));
    assert_eq!(ignored(&trace), ["truncated", "truncated"]);
    let over_tcp: Vec<_> =
        trace.dns_queries.iter().filter(|query| trace.tcp_conns.get(&query.connection).is_some()).collect();
    for query in &over_tcp {
        let conn = trace.tcp_conns.get(&query.connection).unwrap();
        assert!(conn.connected && conn.from_resolver);
        // What is recorded of a message is the message, without its length before it.
        assert_eq!(conn.total_sent_bytes, u64::from(query.dns_query_msgs[0].size) + 2);
        assert_eq!(conn.total_recv_bytes, u64::from(query.dns_reply_msgs[0].size) + 2);
        assert_eq!(query.dns_query_msgs[0].questions[0].name, "big.test.");
        assert_eq!(conn.end_reason, Some(EndReason::Closed));
    }
    assert_eq!(over_tcp.iter().map(|query| query.dns_reply_msgs[0].answers.len()).max(), Some(200));
    let ids: std::collections::HashSet<_> =
        server.asked().iter().map(|asked| asked.message.metadata.id).collect();
    assert!(ids.len() >= 3, "fresh IDs: {ids:?}");
}

#[tokio::test]
async fn tcp_from_the_first_with_use_vc() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    let resolver = builder(&sink, [server.addr()]).use_vc(true).build().unwrap();
    let (result, trace) = lookup(&resolver, &sink, "web.test").await;
    assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
    assert!(server.asked().iter().all(|asked| asked.tcp));
    assert_eq!((trace.udp_conns.len(), trace.tcp_conns.len()), (0, 2));
}

#[tokio::test]
async fn broken_tcp_leads_to_the_next_server() {
    type Cut = fn(&Asked) -> Vec<u8>;
    let whole: Cut = |asked| {
        let message = wire(&asked.addresses(&["192.0.2.66"]));
        [&(message.len() as u16).to_be_bytes()[..], &message].concat()
    };
    let nothing: Cut = |_| Vec::new();
    let half: Cut = |asked| wire(&asked.reply())[..10].to_vec();
    let empty_frame: Cut = |_| vec![0, 0];
    let garbage: Cut = |_| [&[0, 20][..], &[0xff; 20]].concat();
    for (what, cut, failure) in [
        ("nothing", nothing, "eof_error"),
        ("half a message", half, "eof_error"),
        ("an empty message", empty_frame, "x_dns_malformed"),
        ("garbage", garbage, "x_dns_malformed"),
    ] {
        let sink = TraceSink::new();
        let bad = DnsServer::start(move |asked| Action::RawAndClose(cut(asked))).await;
        let good = DnsServer::answering(&["192.0.2.1"]).await;
        let resolver = builder(&sink, [bad.addr(), good.addr()]).use_vc(true).build().unwrap();
        let (result, trace) = lookup(&resolver, &sink, "web.test").await;
        assert_eq!(result.unwrap(), ips(&["192.0.2.1"]), "{what}");
        let failed: Vec<_> = trace.dns_queries.iter().filter_map(|query| query.failure.as_ref()).collect();
        assert_eq!(failed.iter().filter(|f| f.as_str() == failure).count(), 2, "{what}: {failed:?}");
    }
    let sink = TraceSink::new();
    let server = DnsServer::start(move |asked| Action::RawAndClose(whole(asked))).await;
    let resolver = builder(&sink, [server.addr()]).use_vc(true).build().unwrap();
    assert_eq!(
        lookup(&resolver, &sink, "web.test").await.0.unwrap(),
        ips(&["192.0.2.66"]),
        "closed after it all"
    );
}

#[tokio::test]
async fn false_replies_are_recorded_and_ignored() {
    type Lie = fn(&Asked) -> Vec<u8>;
    let garbage: Lie =
        |asked| [&wire(&asked.reply())[..2], &[0x81, 0x80, 0, 1, 0, 9, 0, 0, 0, 0, 0xff, 0xff]].concat();
    let wrong_id: Lie = |asked| {
        let mut reply = asked.addresses(&["192.0.2.66"]);
        reply.metadata.id ^= 1;
        wire(&reply)
    };
    let wrong_question: Lie = |asked| wire(&about(&asked.addresses(&["192.0.2.66"]), "evil.test"));
    let echo: Lie = |asked| wire(&asked.message);
    let broken_answer: Lie = |asked| {
        let whole = wire(&asked.addresses(&["192.0.2.66", "2001:db8::66"]));
        whole[..whole.len() - 14].to_vec()
    };
    let empty: Lie = |_| Vec::new();
    for (lie, why) in [
        (garbage, "malformed: question"),
        (wrong_id, "id mismatch"),
        (wrong_question, "question mismatch"),
        (echo, "not a response"),
        (broken_answer, "malformed: answer"),
        (empty, "malformed: 0 bytes"),
    ] {
        let sink = TraceSink::new();
        let server = DnsServer::start(move |asked| {
            Action::Send(vec![lie(asked), wire(&asked.addresses(&["192.0.2.1"]))])
        })
        .await;
        let (result, trace) = lookup(&resolver(&sink, &[&server]), &sink, "web.test").await;
        assert_eq!(result.unwrap(), ips(&["192.0.2.1"]), "{why}");
        let ignored = ignored(&trace);
        assert!(ignored.len() == 2 && ignored.iter().all(|text| text.starts_with(why)), "{why}: {ignored:?}");
        assert!(trace.dns_queries.iter().all(|query| query.dns_reply_msgs.len() == 2));

        let sink = TraceSink::new();
        let liar = DnsServer::start(move |asked| Action::Send(vec![lie(asked)])).await;
        let resolver =
            builder(&sink, [liar.addr()]).timeout(Duration::from_millis(200)).attempts(1).build().unwrap();
        let error = lookup(&resolver, &sink, "web.test").await.0.unwrap_err();
        assert_eq!(error.failure().as_str(), "generic_timeout_error");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_flood_of_false_replies_is_bounded() {
    let sink = TraceSink::new();
    let server = DnsServer::start(|asked| {
        let false_reply = wire(&about(&asked.reply(), "evil.test"));
        let mut flood = vec![false_reply; 80];
        flood.push(wire(&asked.addresses(&["192.0.2.1"])));
        Action::Send(flood)
    })
    .await;
    let (result, trace) = lookup(&resolver(&sink, &[&server]), &sink, "web.test").await;
    assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
    for query in &trace.dns_queries {
        assert_eq!(query.dns_reply_msgs.len(), 64 + 1);
        let ops = &trace.udp_conns.get(&query.connection).unwrap().socket_trace.as_ref().unwrap().socket_ops;
        assert_eq!(ops.len(), 1 + 80 + 1);
    }
}

#[tokio::test]
async fn aliases_are_followed() {
    let sink = TraceSink::new();
    let server = DnsServer::start(|asked| asked.aliases(&["b.test", "c.test"], &["192.0.2.1"])).await;
    let (result, trace) = lookup(&resolver(&sink, &[&server]), &sink, "a.test").await;
    assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
    let answers = &query_of(&trace, DnsResType::A).dns_reply_msgs[0].answers;
    let values: Vec<_> = answers.iter().map(|a| (&a.r#type, a.resolved_val.as_str())).collect();
    assert_eq!(
        values,
        [(&DnsResType::Cname, "b.test."), (&DnsResType::Cname, "c.test."), (&DnsResType::A, "192.0.2.1")]
    );

    let sink = TraceSink::new();
    let server = DnsServer::start(|asked| asked.aliases(&["b.test", "a.test"], &[])).await;
    let (result, _) = lookup(&resolver(&sink, &[&server]), &sink, "a.test").await;
    assert_eq!(result.unwrap_err().failure().as_str(), "dns_no_answer");
}

#[tokio::test]
async fn servers_that_do_not_know_edns_are_asked_without() {
    for with_question in [true, false] {
        let sink = TraceSink::new();
        let server = DnsServer::start(move |asked| {
            if asked.message.edns.is_none() {
                return asked.addresses(&["192.0.2.1"]);
            }
            let mut reply = asked.reply();
            reply.metadata.response_code = ResponseCode::FormErr;
            reply.edns = None;
            if !with_question {
                reply.queries.clear();
            }
            reply
        })
        .await;
        let (result, trace) = lookup(&resolver(&sink, &[&server]), &sink, "web.test").await;
        assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
        let mut sizes: Vec<_> =
            trace.dns_queries.iter().map(|q| q.dns_query_msgs[0].opt_udp_payload_size).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [0, 0, 1232, 1232]);
    }
}

#[tokio::test]
async fn without_edns_when_told_so() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    let resolver = builder(&sink, [server.addr()]).edns_payload(None).build().unwrap();
    assert!(lookup(&resolver, &sink, "web.test").await.0.is_ok());
    assert!(server.asked().iter().all(|asked| asked.message.edns.is_none()));
}

#[tokio::test]
async fn a_refusal_is_seen_at_once() {
    let sink = TraceSink::new();
    let (nobody, good) = (DnsServer::nobody(), DnsServer::answering(&["192.0.2.1"]).await);
    let resolver = builder(&sink, [nobody, good.addr()]).build().unwrap();
    let (result, trace) = lookup(&resolver, &sink, "web.test").await;
    assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
    let refused: Vec<_> = trace.udp_conns.iter().filter(|c| c.addr_tuple.dst_port == nobody.port()).collect();
    assert_eq!(refused.len(), 2);
    for conn in refused {
        assert_eq!(conn.failure.as_ref().unwrap().as_str(), "connection_refused");
        assert_eq!(conn.end_reason, Some(EndReason::Failed));
        let ops: Vec<_> = conn.socket_trace.as_ref().unwrap().socket_ops.iter().collect();
        assert!(ops.len() == 2 && !ops[1].return_err.is_empty(), "{ops:?}");
    }

    let sink = TraceSink::new();
    let resolver = builder(&sink, [nobody]).build().unwrap();
    let error = lookup(&resolver, &sink, "web.test").await.0.unwrap_err();
    assert_eq!(error.failure().as_str(), "connection_refused");
    assert!(error.source().unwrap().is::<std::io::Error>());
}

#[tokio::test]
async fn refused_over_tcp() {
    let sink = TraceSink::new();
    let nobody = DnsServer::nobody();
    let resolver = builder(&sink, [nobody]).use_vc(true).attempts(1).build().unwrap();
    let (result, trace) = lookup(&resolver, &sink, "web.test").await;
    assert_eq!(result.unwrap_err().failure().as_str(), "connection_refused");
    assert_eq!((trace.tcp_conns.len(), trace.dns_queries.len()), (2, 0));
    assert!(trace.tcp_conns.iter().all(|c| !c.connected && c.end_reason == Some(EndReason::Failed)));
}

/// A dial by hyper-util's own connector, which asks `resolver` for `web.test`.
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

#[tokio::test]
async fn lookups_belong_to_their_dial() {
    let sink = TraceSink::new();
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (nobody, good) = (DnsServer::nobody(), DnsServer::answering(&["127.0.0.1"]).await);
    let resolver = builder(&sink, [nobody, good.addr()]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    dial(resolver, &sink, target.local_addr().unwrap().port()).await.unwrap();

    let trace = sink.snapshot("dial");
    assert_sound(&trace);
    let dial = trace.dials.first().unwrap();
    assert!(dial.resolve_begin_at >= dial.dial_begin_at && dial.resolve_end_at <= dial.dial_end_at);
    let nameservers: Vec<_> = dial.resolver_dials.iter().map(|d| d.nameserver.as_str()).collect();
    assert_eq!(nameservers, [nobody.to_string(), good.addr().to_string()]);
    let connections: Vec<_> = dial.resolver_dials.iter().map(|d| d.established_conn.clone()).collect();
    let of_queries: Vec<_> = trace.dns_queries.iter().map(|q| q.connection.clone()).collect();
    assert_eq!(connections, of_queries);
    assert!(trace.dns_queries.iter().all(|q| q.from_dial == dial.trace_id));
    assert!(trace.udp_conns.iter().all(|c| c.from_dial == dial.trace_id));
}

#[tokio::test]
async fn nameservers_that_cannot_be_reached_are_shown() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["127.0.0.1"]).await;
    let nobody = DnsServer::nobody();
    // No datagram can be sent to this one: the broadcast address needs a permission.
    let unreachable = SocketAddr::from(([255, 255, 255, 255], 53));
    let resolver =
        builder(&sink, [unreachable, server.addr()]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    dial(resolver, &sink, nobody.port()).await.unwrap_err();
    let trace = sink.snapshot("dial");
    assert_sound(&trace);
    let dials = &trace.dials.first().unwrap().resolver_dials;
    assert_eq!(dials.len(), 2);
    assert!(dials[0].failure.is_some() && !dials[0].dial_err.is_empty(), "{dials:?}");
    assert!(dials[0].established_conn.is_undefined() && dials[1].failure.is_none());

    let sink = TraceSink::new();
    let resolver =
        builder(&sink, [nobody]).use_vc(true).attempts(1).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    let error = dial(resolver, &sink, nobody.port()).await.unwrap_err();
    let trace = sink.snapshot("dial");
    let dial = trace.dials.first().unwrap();
    assert_eq!(dial.resolver_dials[0].failure.as_ref().unwrap().as_str(), "connection_refused");
    assert_eq!(dial.failure.as_ref().unwrap().as_str(), "connection_refused");
    let cause = error.source().and_then(|error| error.downcast_ref::<ResolveError>()).unwrap();
    assert_eq!(cause.nameserver(), Some(nobody));
}

#[tokio::test]
async fn skipped_nameservers_are_shown_once() {
    let sink = TraceSink::new();
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (first, second) =
        (DnsServer::answering(&["127.0.0.9"]).await, DnsServer::answering(&["127.0.0.1"]).await);
    let unwanted = first.addr();
    let skip = move |ip: IpAddr, port| {
        ((ip, port) == (unwanted.ip(), unwanted.port())).then(|| "not on this port".into())
    };
    let resolver = builder(&sink, [first.addr(), second.addr()]).skip_nameserver(skip).build().unwrap();
    dial(resolver, &sink, target.local_addr().unwrap().port()).await.unwrap();
    let trace = sink.snapshot("dial");
    assert_sound(&trace);
    let dial = trace.dials.first().unwrap();
    assert_eq!(dial.skipped_nameservers, [unwanted.to_string()]);
    assert_eq!(dial.skip_reasons, ["not on this port"]);
    assert!(first.asked().is_empty() && second.asked().len() == 2);
}

#[tokio::test]
async fn when_all_are_skipped_nobody_is_asked() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let resolver = builder(&sink, [server.addr()])
        .search(["a.test", "b.test"])
        .skip_nameserver(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            Some("none of these".into())
        })
        .build()
        .unwrap();
    let (result, trace) = lookup(&resolver, &sink, "web").await;
    let error = result.unwrap_err();
    assert_eq!(error.failure().as_str(), "x_nameservers_skipped");
    assert!(error.to_string().contains("none of these") && error.nameserver().is_none(), "{error}");
    assert!(server.asked().is_empty() && trace.udp_conns.is_empty());
    assert_eq!(calls.load(Ordering::Relaxed), 2, "once for each family");
}

#[tokio::test]
async fn a_callback_that_panics_skips() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    let resolver = builder(&sink, [server.addr()])
        .skip_nameserver(|_, _| panic::resume_unwind(Box::new("no message on stderr")))
        .build()
        .unwrap();
    let error = lookup(&resolver, &sink, "web.test").await.0.unwrap_err();
    assert_eq!(error.failure().as_str(), "x_nameservers_skipped");
}

#[tokio::test]
async fn without_nameservers() {
    let sink = TraceSink::new();
    let resolver = builder(&sink, []).build().unwrap();
    let error = lookup(&resolver, &sink, "web.test").await.0.unwrap_err();
    assert_eq!(error.to_string(), "lookup web.test: no nameservers are configured");
}

#[tokio::test]
async fn the_search_list_is_tried_in_order() {
    let sink = TraceSink::new();
    let server = DnsServer::start(|asked| match asked.name().as_str() {
        "web.b.test" => asked.addresses(&["192.0.2.1"]),
        _ => asked.nothing(ResponseCode::NXDomain),
    })
    .await;
    let search = |ndots| {
        builder(&sink, [server.addr()])
            .search(["a.test", "b.test."])
            .ndots(ndots)
            .ip_strategy(IpStrategy::Ipv4Only)
            .build()
            .unwrap()
    };
    assert_eq!(search(1).lookup("web").await.unwrap(), ips(&["192.0.2.1"]));
    assert_eq!(server.questions(), ["web.a.test A", "web.b.test A"]);
    let error = search(1).lookup("x.y").await.unwrap_err();
    assert_eq!(error.name(), "x.y", "not the last of the search list");
    assert_eq!(server.questions()[2..], ["x.y A", "x.y.a.test A", "x.y.b.test A"]);
    search(2).lookup("x.y").await.unwrap_err();
    assert_eq!(server.questions()[5..], ["x.y.a.test A", "x.y.b.test A", "x.y A"]);
    search(2).lookup("web.").await.unwrap_err();
    assert_eq!(server.questions()[8..], ["web A"]);
}

#[tokio::test]
async fn one_after_the_other_with_single_request() {
    let sink = TraceSink::new();
    let delay = Duration::from_millis(50);
    let server =
        DnsServer::start(move |asked| Action::Later(delay, vec![wire(&asked.addresses(&["192.0.2.1"]))]))
            .await;
    let resolver = builder(&sink, [server.addr()]).single_request(true).build().unwrap();
    let (_, trace) = lookup(&resolver, &sink, "web.test").await;
    let (a, aaaa) = (query_of(&trace, DnsResType::A), query_of(&trace, DnsResType::Aaaa));
    assert!(aaaa.dns_query_msgs[0].sent_at >= a.dns_reply_msgs[0].recv_at);
}

#[tokio::test]
async fn each_lookup_begins_with_the_next_server_with_rotate() {
    let sink = TraceSink::new();
    let servers = [DnsServer::answering(&["192.0.2.1"]).await, DnsServer::answering(&["192.0.2.2"]).await];
    let resolver = builder(&sink, servers.iter().map(DnsServer::addr)).rotate(true).build().unwrap();
    for expected in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        assert_eq!(resolver.clone().lookup("web.test").await.unwrap(), ips(&[expected]));
    }
}

#[tokio::test]
async fn what_needs_no_server() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    let both = resolver(&sink, &[&server]);
    let v4 = builder(&sink, [server.addr()]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    assert_eq!(both.lookup("192.0.2.7").await.unwrap(), ips(&["192.0.2.7"]));
    assert_eq!(both.lookup("[2001:db8::7]").await.unwrap(), ips(&["2001:db8::7"]));
    assert_eq!(both.lookup("2001:db8::7").await.unwrap(), ips(&["2001:db8::7"]));
    assert_eq!(v4.lookup("app.localhost").await.unwrap(), ips(&["127.0.0.1"]));
    let mut loopback = both.lookup("LOCALHOST.").await.unwrap();
    loopback.sort();
    assert_eq!(loopback, ips(&["127.0.0.1", "::1"]));
    for (name, failure) in [
        ("", "x_dns_invalid_name"),
        ("a..b", "x_dns_invalid_name"),
        ("1.2.3", "x_dns_invalid_name"),
        ("bücher.test", "x_dns_invalid_name"),
        ("hidden.onion", "dns_nxdomain_error"),
    ] {
        let error = both.lookup(name).await.unwrap_err();
        assert_eq!((error.failure().as_str(), error.name(), error.nameserver()), (failure, name, None));
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn ipv6_alone() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1", "2001:db8::1"]).await;
    let resolver = builder(&sink, [server.addr()]).ip_strategy(IpStrategy::Ipv6Only).build().unwrap();
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["2001:db8::1"]));
    assert_eq!(server.questions(), ["web.test AAAA"]);
}

#[tokio::test]
async fn the_source_address_is_not_used_towards_loopback() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    for source in ["127.0.0.9", "192.0.2.200", "2001:db8::200"] {
        let source: IpAddr = source.parse().unwrap();
        for use_vc in [false, true] {
            let resolver = builder(&sink, [server.addr()]).source_ip(source).use_vc(use_vc).build().unwrap();
            resolver.lookup("web.test").await.unwrap();
        }
    }
    assert!(server.asked().iter().all(|asked| asked.from.ip() == Ipv4Addr::LOCALHOST));
}

/// A directory of its own that is gone after the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let name = format!("nettrace-resolve-{}-{:x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Lets the resolver look at its files again.
async fn five_seconds() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_is_read_again() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    let directory = Directory::new();
    let hosts = directory.file("hosts");
    replace(&hosts, "10.0.0.1 web.test\n10.0.0.2 web.test localhost\n");
    let resolver = builder(&sink, [server.addr()]).hosts_file(Some(hosts.clone())).build().unwrap();
    assert_eq!(resolver.lookup("Web.Test.").await.unwrap(), ips(&["10.0.0.1", "10.0.0.2"]));
    assert_eq!(resolver.lookup("localhost").await.unwrap(), ips(&["10.0.0.2"]));
    assert!(server.asked().is_empty());

    replace(&hosts, "10.0.0.3 web.test\n");
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["10.0.0.1", "10.0.0.2"]));
    five_seconds().await;
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["10.0.0.3"]));
    std::fs::remove_file(&hosts).unwrap();
    five_seconds().await;
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
}

#[tokio::test]
async fn resolv_conf_is_read_again() {
    let sink = TraceSink::new();
    let server = DnsServer::start(|asked| asked.nothing(ResponseCode::NXDomain)).await;
    let directory = Directory::new();
    let path = directory.file("resolv.conf");
    replace(&path, "nonsense\nsearch a.test\noptions single-request\n");
    let resolver = StubResolver::builder(&sink)
        .nameservers([server.addr()])
        .resolv_conf(Some(path.clone()))
        .ip_strategy(IpStrategy::Ipv4Only)
        .hosts_file(None)
        .timeout(LONG)
        .build()
        .unwrap();
    resolver.lookup("web").await.unwrap_err();
    assert_eq!(server.questions(), ["web.a.test A", "web A"]);
    replace(&path, "search b.test\noptions ndots:0\n");
    five_seconds().await;
    resolver.lookup("web").await.unwrap_err();
    assert_eq!(server.questions()[2..], ["web A", "web.b.test A"]);
}

#[tokio::test]
async fn what_cannot_be_set_up() {
    let sink = TraceSink::new();
    let error = builder(&sink, []).search(["not a domain"]).build().unwrap_err();
    assert!(error.to_string().contains("not a domain"), "{error}");
    let directory = Directory::new();
    let error = builder(&sink, []).resolv_conf(Some(directory.0.clone())).build().unwrap_err();
    assert!(error.to_string().contains("nettrace-resolve") && error.source().is_some(), "{error}");
    assert!(builder(&sink, []).resolv_conf(Some(directory.file("missing"))).build().is_ok());
}

#[tokio::test]
async fn a_dropped_lookup_leaves_nothing() {
    for use_vc in [false, true] {
        let sink = TraceSink::new();
        let server = DnsServer::silent().await;
        let resolver = builder(&sink, [server.addr()]).use_vc(use_vc).build().unwrap();
        let mut lookup = Box::pin(resolver.lookup("web.test"));
        while server.asked().len() < 2 {
            tokio::select! {
                _ = &mut lookup => panic!("nobody answers"),
                () = tokio::task::yield_now() => {}
            }
        }
        drop(lookup);
        let trace = sink.snapshot("dropped");
        assert_sound(&trace);
        assert_eq!(trace.dns_queries.len(), 2);
        for query in &trace.dns_queries {
            assert_eq!(query.end_reason, Some(EndReason::Cancelled));
            assert_eq!(query.dns_query_msgs.len(), 1);
        }
        let reasons = trace.udp_conns.iter().map(|c| &c.end_reason);
        let reasons: Vec<_> = reasons.chain(trace.tcp_conns.iter().map(|c| &c.end_reason)).collect();
        assert_eq!(reasons, [&Some(EndReason::Cancelled), &Some(EndReason::Cancelled)]);
        #[cfg(target_os = "linux")]
        assert_eq!(udp_sockets_to(server.addr()), 0);
    }
}

/// How many UDP sockets of this machine are connected to that address.
#[cfg(target_os = "linux")]
fn udp_sockets_to(remote: SocketAddr) -> usize {
    let remote = format!("0100007F:{:04X}", remote.port());
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    table.lines().filter(|line| line.split_whitespace().nth(2) == Some(&remote)).count()
}

#[tokio::test]
async fn as_a_service() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1", "192.0.2.2"]).await;
    let addresses = resolver(&sink, &[&server]).oneshot("web.test".parse::<Name>().unwrap()).await.unwrap();
    assert_eq!(addresses.len(), 2);
    assert_eq!(addresses.map(|a| a.to_string()).collect::<Vec<_>>(), ["192.0.2.1:0", "192.0.2.2:0"]);
}

#[tokio::test]
async fn a_disabled_sink_records_nothing() {
    let sink = TraceSink::disabled();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    let (result, trace) = lookup(&resolver(&sink, &[&server]), &sink, "web.test").await;
    assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
    assert!(trace.udp_conns.is_empty() && trace.dns_queries.is_empty());
}

mod layer {
    use super::*;
    use std::{convert::Infallible, io, task::Poll};
    use tower::service_fn;

    fn fixed(
        result: Result<SocketAddr, io::ErrorKind>,
    ) -> impl Service<Name, Response = std::vec::IntoIter<SocketAddr>, Error = io::Error, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static {
        service_fn(move |_: Name| async move {
            tokio::task::yield_now().await;
            result.map(|address| vec![address].into_iter()).map_err(io::Error::from)
        })
    }

    #[tokio::test]
    async fn a_dial_shows_when_its_name_was_looked_up() {
        let sink = TraceSink::new();
        let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = target.local_addr().unwrap();
        let resolver = TraceResolveLayer::new().layer(fixed(Ok(address)));
        dial(resolver, &sink, address.port()).await.unwrap();
        let trace = sink.snapshot("dial");
        let dial = trace.dials.first().unwrap();
        assert!(dial.resolve_begin_at >= dial.dial_begin_at && dial.resolve_end_at >= dial.resolve_begin_at);
        assert!(dial.resolve_end_at <= dial.dial_end_at);
    }

    #[tokio::test]
    async fn errors_pass_unchanged() {
        let sink = TraceSink::new();
        let resolver = TraceResolveLayer::new().layer(fixed(Err(io::ErrorKind::HostUnreachable)));
        let error = dial(resolver, &sink, 1).await.unwrap_err();
        let cause = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(cause.kind(), io::ErrorKind::HostUnreachable);
        let trace = sink.snapshot("dial");
        assert!(!trace.dials.first().unwrap().resolve_end_at.is_undefined());
    }

    #[tokio::test]
    async fn outside_a_dial_it_does_nothing() {
        let address = SocketAddr::from(([192, 0, 2, 1], 0));
        let resolver = TraceResolveLayer::new().layer(fixed(Ok(address)));
        let mut found = resolver.oneshot("web.test".parse::<Name>().unwrap()).await.unwrap();
        assert_eq!(found.next(), Some(address));
    }

    #[tokio::test]
    async fn readiness_is_that_of_the_resolver() {
        #[derive(Clone)]
        struct NeverReady;
        impl Service<Name> for NeverReady {
            type Response = ();
            type Error = Infallible;
            type Future = std::future::Pending<Result<(), Infallible>>;
            fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Pending
            }
            fn call(&mut self, _: Name) -> Self::Future {
                std::future::pending()
            }
        }
        let mut resolver = TraceResolveLayer::new().layer(NeverReady);
        let ready = std::future::poll_fn(|cx| Poll::Ready(resolver.poll_ready(cx).is_ready())).await;
        assert!(!ready);
        assert!(matches!(resolver.into_inner(), NeverReady));
    }
}

mod bounds {
    use super::*;
    use nettrace::resolve::{Addresses, LookupFuture, TraceResolve};
    use static_assertions::{assert_impl_all, assert_not_impl_any};

    assert_impl_all!(StubResolver: Clone, Send, Sync, Unpin, std::fmt::Debug, Service<Name, Error = ResolveError>);
    assert_impl_all!(LookupFuture: Send, Unpin);
    assert_impl_all!(Addresses: Send, Sync, Iterator<Item = SocketAddr>);
    assert_impl_all!(ResolveError: Send, Sync, Error);
    assert_impl_all!(TraceResolve<()>: Send, Sync, Unpin, Copy);
    assert_not_impl_any!(TraceResolve<std::rc::Rc<()>>: Send, Sync);

    fn is_send<T: Send>(_: T) {}

    #[test]
    fn lookups_can_move_between_threads() {
        let sink = TraceSink::new();
        let resolver = builder(&sink, []).build().unwrap();
        is_send(resolver.lookup("web.test"));
    }
}
