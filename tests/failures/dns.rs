//! Nameservers that fail, send invalid replies, do not answer, or answer with chains of aliases.

use hickory_proto::op::ResponseCode;
use nettrace::record::{DnsQueryTrace, DnsRCode, DnsReplyMsg, DnsResType};
use nettrace::resolve::ResolveError;

use crate::fixture::{Fixture, LONG, Outcome, ended, expire, failed, fetched, hello, reached};
use test_support::dns::{Action, ClosedPort, DnsServer, ReceivedQuery, wire};

#[tokio::test]
async fn nxdomain_fails_the_request() {
    let fixture = Fixture::with(DnsServer::start(|query| query.nothing(ResponseCode::NXDomain)).await);
    let failed = failed(&fixture.client(), "http://nx.test/").await;
    let (outcome, trace) = (&failed.outcome, &failed.outcome.trace);
    outcome.assert_dial_failed("failed", "dns_nxdomain_error");
    assert!(outcome.attempts().is_empty(), "there is no address to connect to");
    assert_eq!((trace.dns_queries.len(), trace.udp_conns.len()), (2, 2));
    for query in &trace.dns_queries {
        assert_eq!(ended(query), ("failed", "dns_nxdomain_error"));
        assert_eq!(query.from_dial, outcome.dial().trace_id);
        assert_eq!(query.dns_query_msgs[0].questions[0].name, "nx.test.");
        assert_eq!(query.dns_reply_msgs[0].r_code, Some(DnsRCode::NxDomain));
        assert_eq!(ended(trace.udp_conns.get(&query.connection).expect("a socket")), ("closed", ""));
    }
    let nameserver = fixture.nameserver.addr();
    let error: &ResolveError = failed.cause();
    assert_eq!((error.name(), error.nameserver()), ("nx.test", Some(nameserver)));
    let expected =
        format!("cannot find the address of nx.test:80: lookup nx.test on {nameserver}: no such host");
    assert_eq!(failed.error.to_string(), expected);
    let timings = outcome.request.timings(trace);
    assert!(timings.dns.is_some() && timings.connect.is_none(), "{timings}");
}

#[tokio::test]
async fn a_name_without_addresses_fails_the_request() {
    let fixture = Fixture::with(DnsServer::start(|query| query.nothing(ResponseCode::NoError)).await);
    let failed = failed(&fixture.client(), "http://web.test/").await;
    failed.outcome.assert_dial_failed("failed", "dns_no_answer");
    let ends: Vec<_> = failed.outcome.trace.dns_queries.iter().map(ended).collect();
    assert_eq!(ends, [("failed", "dns_no_answer"); 2]);
}

#[tokio::test]
async fn the_next_nameserver_is_asked_after_servfail() {
    let bad = DnsServer::start(|query| query.nothing(ResponseCode::ServFail)).await;
    let fixture = Fixture::new().await;
    let outcome = fetch_asking(&fixture, &[&bad, &fixture.nameserver], async {}).await;
    let (of_bad, of_good) = (queries_to(&outcome, &bad), queries_to(&outcome, &fixture.nameserver));
    assert_eq!((of_bad.len(), of_good.len()), (2, 2));
    for query in of_bad {
        assert_eq!(ended(query), ("failed", "dns_servfail_error"));
        assert_eq!(query.dns_reply_msgs[0].r_code, Some(DnsRCode::ServFail));
    }
    assert_eq!(outcome.dial().resolver_dials.len(), 4);
}

#[tokio::test]
async fn servfail_of_the_only_nameserver_fails_the_request() {
    let fixture = Fixture::with(DnsServer::start(|query| query.nothing(ResponseCode::ServFail)).await);
    let failed = failed(&fixture.client(), "http://web.test/").await;
    failed.outcome.assert_dial_failed("failed", "dns_servfail_error");
    assert_eq!(failed.outcome.trace.dns_queries.len(), 4, "two attempts for each family");
}

#[tokio::test]
async fn the_next_nameserver_is_asked_after_a_timeout() {
    let (silent, fixture) = (DnsServer::silent().await, Fixture::new().await);
    let expiry = async {
        silent.wait_for_queries(2).await;
        expire(LONG).await;
    };
    let outcome = fetch_asking(&fixture, &[&silent, &fixture.nameserver], expiry).await;
    let of_silent = queries_to(&outcome, &silent);
    assert_eq!(of_silent.len(), 2);
    for query in of_silent {
        assert_eq!(ended(query), ("timeout", "generic_timeout_error"));
        assert!(query.dns_reply_msgs.is_empty());
        let socket = outcome.trace.udp_conns.get(&query.connection).expect("a socket");
        assert_eq!(ended(socket), ("timeout", "generic_timeout_error"));
    }
}

#[tokio::test]
async fn the_next_nameserver_is_asked_after_a_refusal() {
    let (closed, fixture) = (ClosedPort::bind(), Fixture::new().await);
    let resolver = fixture.resolver().nameservers([closed.addr, fixture.nameserver.addr()]);
    let client = fixture.builder().resolver(resolver.build().unwrap()).build().unwrap();
    let server = hello();
    let (_, handle) = fetched(&client, fixture.http(&server)).await;
    let outcome = Outcome::of(&client, &handle).await;
    let refused =
        outcome.trace.udp_conns.iter().filter(|conn| conn.addr_tuple.dst_port == closed.addr.port());
    let refused: Vec<_> = refused.map(|conn| (conn.trace_id.clone(), ended(conn))).collect();
    assert_eq!(refused.len(), 2, "the ICMP errors were reported");
    for (id, end) in refused {
        assert_eq!(end, ("failed", "connection_refused"));
        let query = outcome.trace.dns_queries.iter().find(|query| query.connection == id).expect("a query");
        assert_eq!(ended(query), ("failed", "connection_refused"));
    }
}

#[tokio::test]
async fn the_request_fails_if_all_nameservers_are_skipped() {
    let fixture = Fixture::new().await;
    let resolver = fixture.resolver().skip_nameserver(|ip, _| Some(format!("{ip} is not ours")));
    let client = fixture.builder().resolver(resolver.build().unwrap()).build().unwrap();
    let failed = failed(&client, "http://web.test/").await;
    let dial = failed.outcome.dial();
    failed.outcome.assert_dial_failed("failed", "x_nameservers_skipped");
    assert_eq!(dial.skipped_nameservers, [fixture.nameserver.addr().to_string()]);
    assert_eq!(dial.skip_reasons, ["127.0.0.1 is not ours"]);
    assert!(dial.resolver_dials.is_empty() && failed.outcome.trace.udp_conns.is_empty());
    assert!(fixture.nameserver.queries().is_empty());
    assert!(failed.error.to_string().contains("127.0.0.1 is not ours"), "{}", failed.error);
}

#[tokio::test]
async fn a_query_is_repeated_over_tcp_after_a_truncated_reply() {
    let truncate_over_udp = |query: &ReceivedQuery| {
        let mut reply = query.addresses(if query.tcp { &["127.0.0.1"] } else { &[] });
        reply.metadata.truncation = !query.tcp;
        reply
    };
    let fixture = Fixture::with(DnsServer::start(truncate_over_udp).await);
    let outcome = fetch_asking(&fixture, &[&fixture.nameserver], async {}).await;
    let trace = &outcome.trace;
    let tcp: Vec<_> = trace.tcp_conns.iter().filter(|conn| conn.from_resolver).collect();
    assert_eq!((trace.udp_conns.len(), tcp.len(), trace.dns_queries.len()), (2, 2, 4));
    for conn in tcp {
        assert_eq!((ended(conn), &conn.from_dial), (("closed", ""), &outcome.dial().trace_id));
        let query =
            trace.dns_queries.iter().find(|query| query.connection == conn.trace_id).expect("a query");
        let (asked, reply) = (&query.dns_query_msgs[0], &query.dns_reply_msgs[0]);
        assert_eq!(conn.total_sent_bytes, u64::from(asked.size) + 2, "the message and its length");
        assert_eq!(conn.total_recv_bytes, u64::from(reply.size) + 2);
    }
    let over_udp = trace.dns_queries.iter().filter(|query| trace.udp_conns.get(&query.connection).is_some());
    for query in over_udp {
        assert_eq!(ended(query), ("closed", ""));
        assert!(query.dns_reply_msgs[0].truncated && query.dns_reply_msgs[0].ignored == "truncated");
    }
}

#[tokio::test]
async fn malformed_replies_and_wrong_ids_are_ignored() {
    let garbage = |query: &ReceivedQuery| wire(&query.addresses(&["127.0.0.66"]))[..20].to_vec();
    let wrong_id = |query: &ReceivedQuery| {
        let mut reply = query.addresses(&["127.0.0.66"]);
        reply.metadata.id ^= 1;
        wire(&reply)
    };
    let server = DnsServer::start(move |query| {
        Action::Send(vec![garbage(query), wrong_id(query), wire(&query.addresses(&["127.0.0.1"]))])
    });
    let fixture = Fixture::with(server.await);
    let outcome = fetch_asking(&fixture, &[&fixture.nameserver], async {}).await;
    assert_eq!(outcome.conn().addr_tuple.dst_ip, "127.0.0.1");
    assert_eq!(outcome.trace.dns_queries.len(), 2, "no query was repeated");
    for query in &outcome.trace.dns_queries {
        let [garbage, wrong_id, good] = query.dns_reply_msgs.as_slice() else { panic!("{query:?}") };
        assert!(garbage.ignored.starts_with("malformed: "), "{}", garbage.ignored);
        assert_eq!((wrong_id.ignored.as_str(), good.ignored.as_str()), ("id mismatch", ""));
        assert_eq!(query.dns_query_msgs[0].id, good.id);
    }
}

#[tokio::test]
async fn a_reply_that_ends_before_its_response_code_has_none_in_the_trace() {
    let short = |query: &ReceivedQuery| match query.tcp {
        false => {
            let mut reply = query.reply();
            reply.metadata.truncation = true;
            Action::Send(vec![wire(&query.reply())[..3].to_vec(), wire(&reply)])
        }
        true => Action::Send(vec![wire(&query.reply())[..3].to_vec()]),
    };
    let fixture = Fixture::with(DnsServer::start(short).await);
    let resolver = fixture.resolver().attempts(1).build().unwrap();
    let client = fixture.builder().resolver(resolver).build().unwrap();
    let failed = failed(&client, "http://web.test/").await;
    failed.outcome.assert_dial_failed("failed", "x_dns_malformed");
    let trace = &failed.outcome.trace;
    let replies = trace.dns_queries.iter().flat_map(|query| &query.dns_reply_msgs);
    let short: Vec<_> = replies.filter(|reply| reply.size == 3).collect();
    assert_eq!(short.len(), 4, "over UDP and TCP, for each family");
    for reply in short {
        assert_eq!(reply.ignored, "malformed: 3 bytes are less than a header");
        assert_eq!(reply.r_code, None);
        assert_ne!(reply.id, 0, "the first two bytes are the ID");
        let json = serde_json::to_value(reply).unwrap();
        assert_eq!(json.get("rCode"), None, "{json}");
        assert_eq!(serde_json::from_value::<DnsReplyMsg>(json).unwrap().r_code, None);
    }
    let drawn = nettrace::view::waterfall(trace).to_string();
    assert!(drawn.contains("malformed:"), "{drawn}");
    assert!(!drawn.contains("rcode"), "{drawn}");
}

#[tokio::test]
async fn a_query_whose_replies_are_all_ignored_times_out() {
    let server = DnsServer::start(|_| Action::Send(vec![vec![0xff; 40]]));
    let fixture = Fixture::with(server.await);
    let resolver = fixture.resolver().attempts(1).build().unwrap();
    let client = fixture.builder().resolver(resolver).build().unwrap();
    let expiry = async {
        let replies = |query: &&DnsQueryTrace| !query.dns_reply_msgs.is_empty();
        reached(&fixture.sink, |trace| trace.dns_queries.iter().filter(replies).count() == 2).await;
        expire(LONG).await;
    };
    let (failed, ()) = tokio::join!(failed(&client, "http://web.test/"), expiry);
    failed.outcome.assert_dial_failed("timeout", "generic_timeout_error");
    assert!(failed.error.to_string().contains("a reply was ignored: id mismatch"), "{}", failed.error);
}

#[tokio::test]
async fn a_chain_of_aliases_is_recorded() {
    let chain = |query: &ReceivedQuery| query.aliases(&["cdn.test", "edge.test"], &["127.0.0.1"]);
    let fixture = Fixture::with(DnsServer::start(chain).await);
    let outcome = fetch_asking(&fixture, &[&fixture.nameserver], async {}).await;
    let answers = outcome.trace.dns_queries.iter().map(|query| &query.dns_reply_msgs[0].answers);
    let answers = answers.max_by_key(|answers| answers.len()).expect("queries");
    let answers: Vec<_> = answers
        .iter()
        .map(|answer| (answer.name.as_str(), &answer.r#type, answer.resolved_val.as_str()))
        .collect();
    let expected = [
        ("web.test.", &DnsResType::Cname, "cdn.test."),
        ("cdn.test.", &DnsResType::Cname, "edge.test."),
        ("edge.test.", &DnsResType::A, "127.0.0.1"),
    ];
    assert_eq!(answers, expected);
}

/// Makes a request that must succeed with these nameservers, while `meanwhile` runs.
async fn fetch_asking(
    fixture: &Fixture,
    nameservers: &[&DnsServer],
    meanwhile: impl Future<Output = ()>,
) -> Outcome {
    let resolver = fixture.resolver().nameservers(nameservers.iter().map(|server| server.addr()));
    let client = fixture.builder().resolver(resolver.build().unwrap()).build().unwrap();
    let server = hello();
    let ((body, handle), ()) = tokio::join!(fetched(&client, fixture.http(&server)), meanwhile);
    assert_eq!(body, b"hello");
    let outcome = Outcome::of(&client, &handle).await;
    assert_eq!(ended(&outcome.request), ("closed", ""));
    outcome.assert_on(outcome.conn());
    let found = |query: &&DnsQueryTrace| query.dns_reply_msgs.iter().any(|reply| !reply.answers.is_empty());
    let good = outcome.trace.dns_queries.iter().filter(found).filter(|query| ended(*query) == ("closed", ""));
    assert!(good.count() >= 1, "a nameserver returned an address");
    outcome
}

/// Returns the queries to this nameserver over UDP.
fn queries_to<'a>(outcome: &'a Outcome, nameserver: &DnsServer) -> Vec<&'a DnsQueryTrace> {
    let trace = &outcome.trace;
    let to = |query: &&DnsQueryTrace| {
        let udp = trace.udp_conns.get(&query.connection);
        udp.is_some_and(|conn| conn.addr_tuple.dst_port == nameserver.addr().port())
    };
    trace.dns_queries.iter().filter(to).collect()
}
