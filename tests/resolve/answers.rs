//! Replies of nameservers, and their records.

use super::*;

#[tokio::test]
async fn both_families_are_queried_and_recorded() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1", "192.0.2.2"]).await;
    let (result, trace) = lookup(&resolver(&sink, &[&server]), &sink, "web.test").await;
    assert_eq!(result.unwrap(), ips(&["192.0.2.1", "192.0.2.2"]));
    assert_eq!(texts(&server), ["web.test A", "web.test AAAA"]);
    let queries = server.queries();
    assert!(queries.iter().all(|query| !query.tcp && query.message.metadata.recursion_desired));
    assert!(queries.iter().all(|query| query.message.edns.as_ref().unwrap().max_payload() == 1232));
    assert_ne!(queries[0].from.port(), queries[1].from.port(), "each query has its own port");

    assert_eq!((trace.udp_conns.len(), trace.dns_queries.len(), trace.tcp_conns.len()), (2, 2, 0));
    let a = query_of(&trace, DnsResType::A);
    let message = &a.dns_query_msgs[0];
    assert_eq!(message.questions[0].name, "web.test.");
    assert_eq!((message.questions[0].class, message.opt_udp_payload_size), (1, 1232));
    assert!(message.recursion_desired && !message.truncated && !message.sent_at.is_undefined());
    assert_eq!(message.size, 37);
    let reply = &a.dns_reply_msgs[0];
    assert_eq!((reply.id, &reply.r_code), (message.id, &Some(DnsRCode::NoError)));
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
async fn addresses_of_both_families_are_sorted() {
    let sink = TraceSink::new();
    // `::1` has the highest precedence (RFC 6724) if this machine has IPv6.
    let server = DnsServer::answering(&["127.0.0.1", "::1"]).await;
    let (result, _) = lookup(&resolver(&sink, &[&server]), &sink, "web.test").await;
    let mut expected = ips(&["::1", "127.0.0.1"]);
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        expected.reverse();
    }
    assert_eq!(result.unwrap(), expected);
}

#[tokio::test]
async fn nxdomain_is_final() {
    let sink = TraceSink::new();
    let server = DnsServer::start(|query| query.nothing(ResponseCode::NXDomain)).await;
    let other = DnsServer::answering(&["192.0.2.1"]).await;
    let (result, trace) = lookup(&resolver(&sink, &[&server, &other]), &sink, "nx.test").await;
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), format!("lookup nx.test on {}: no such host", server.addr()));
    assert_eq!((error.name(), error.nameserver()), ("nx.test", Some(server.addr())));
    assert_eq!(error.failure().as_str(), "dns_nxdomain_error");
    assert!(error.source().is_none() && other.queries().is_empty());
    for query in &trace.dns_queries {
        assert_eq!(query.failure.as_ref().unwrap().as_str(), "dns_nxdomain_error");
        assert_eq!(query.dns_reply_msgs[0].r_code, Some(DnsRCode::NxDomain));
    }
}

#[tokio::test]
async fn a_reply_without_addresses_is_final() {
    let sink = TraceSink::new();
    let server = DnsServer::start(|query| query.nothing(ResponseCode::NoError)).await;
    let other = DnsServer::answering(&["192.0.2.1"]).await;
    let (result, _) = lookup(&resolver(&sink, &[&server, &other]), &sink, "empty.test").await;
    assert_eq!(result.unwrap_err().failure().as_str(), "dns_no_answer");
    assert!(other.queries().is_empty());
}

#[tokio::test]
async fn a_late_reply_is_awaited() {
    let sink = TraceSink::new();
    let delay = Duration::from_millis(100);
    let server =
        DnsServer::start(move |query| Action::Later(delay, vec![wire(&query.addresses(&["192.0.2.1"]))]))
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
        let server = DnsServer::start(move |query| -> Action {
            if query.is_a() == only_a {
                query.addresses(&["192.0.2.1", "2001:db8::1"]).into()
            } else {
                query.nothing(ResponseCode::ServFail).into()
            }
        })
        .await;
        let (result, _) = lookup(&resolver(&sink, &[&server]), &sink, "web.test").await;
        assert_eq!(result.unwrap(), ips(&[if only_a { "192.0.2.1" } else { "2001:db8::1" }]));
    }
}

#[tokio::test]
async fn aliases_are_followed() {
    let sink = TraceSink::new();
    let server = DnsServer::start(|query| query.aliases(&["b.test", "c.test"], &["192.0.2.1"])).await;
    let (result, trace) = lookup(&resolver(&sink, &[&server]), &sink, "a.test").await;
    assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
    let answers = &query_of(&trace, DnsResType::A).dns_reply_msgs[0].answers;
    let values: Vec<_> = answers.iter().map(|a| (&a.r#type, a.resolved_val.as_str())).collect();
    assert_eq!(
        values,
        [(&DnsResType::Cname, "b.test."), (&DnsResType::Cname, "c.test."), (&DnsResType::A, "192.0.2.1")]
    );

    let sink = TraceSink::new();
    let server = DnsServer::start(|query| query.aliases(&["b.test", "a.test"], &[])).await;
    let (result, _) = lookup(&resolver(&sink, &[&server]), &sink, "a.test").await;
    assert_eq!(result.unwrap_err().failure().as_str(), "dns_no_answer");
}

#[tokio::test]
async fn single_request_sends_the_queries_sequentially() {
    let sink = TraceSink::new();
    let delay = Duration::from_millis(50);
    let server =
        DnsServer::start(move |query| Action::Later(delay, vec![wire(&query.addresses(&["192.0.2.1"]))]))
            .await;
    let resolver = builder(&sink, [server.addr()]).single_request(true).build().unwrap();
    let (_, trace) = lookup(&resolver, &sink, "web.test").await;
    let (a, aaaa) = (query_of(&trace, DnsResType::A), query_of(&trace, DnsResType::Aaaa));
    assert!(aaaa.dns_query_msgs[0].sent_at >= a.dns_reply_msgs[0].recv_at);
}

#[tokio::test]
async fn ipv6_only_sends_no_a_query() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1", "2001:db8::1"]).await;
    let resolver = builder(&sink, [server.addr()]).ip_strategy(IpStrategy::Ipv6Only).build().unwrap();
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["2001:db8::1"]));
    assert_eq!(server.questions(), ["web.test AAAA"]);
}

#[tokio::test]
async fn the_resolver_is_a_service() {
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
