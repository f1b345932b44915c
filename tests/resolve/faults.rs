//! Nameservers that fail, do not answer, refuse, or send false replies.

use super::*;

#[tokio::test]
async fn an_error_code_leads_to_the_next_nameserver() {
    for (code, failure) in
        [(ResponseCode::ServFail, "dns_servfail_error"), (ResponseCode::Refused, "dns_refused_error")]
    {
        let sink = TraceSink::new();
        let bad = DnsServer::start(move |query| query.nothing(code)).await;
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
        assert_eq!(bad.queries().len(), 2 + 2 * 2, "two attempts for each family");
    }
}

/// The query is repeated without EDNS, which the server may not support.
#[tokio::test]
async fn other_error_codes_fail_the_lookup() {
    for code in [ResponseCode::FormErr, ResponseCode::NotImp, ResponseCode::YXDomain, ResponseCode::NotAuth] {
        let sink = TraceSink::new();
        let server = DnsServer::start(move |query| query.nothing(code)).await;
        let (result, trace) = lookup(&resolver(&sink, &[&server]), &sink, "web.test").await;
        assert_eq!(result.unwrap_err().failure().as_str(), "dns_server_misbehaving", "{code:?}");
        let last = trace.dns_queries.iter().next_back().unwrap();
        assert_eq!(last.failure.as_ref().map(Failure::as_str), Some("dns_server_misbehaving"), "{code:?}");
    }
}

#[tokio::test]
async fn a_lame_referral_leads_to_the_next_nameserver() {
    let sink = TraceSink::new();
    let lame = DnsServer::start(|query| {
        let mut reply = query.reply();
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
async fn a_timeout_leads_to_the_next_nameserver() {
    let sink = TraceSink::new();
    let (silent, good) = (DnsServer::silent().await, DnsServer::answering(&["192.0.2.1"]).await);
    let resolver = builder(&sink, [silent.addr(), good.addr()]).timeout(SHORT).build().unwrap();
    let begin = Instant::now();
    let (result, trace) = lookup(&resolver, &sink, "web.test").await;
    assert!(begin.elapsed() >= SHORT);
    assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
    let timed_out: Vec<_> =
        trace.dns_queries.iter().filter(|query| query.end_reason == Some(EndReason::Timeout)).collect();
    assert_eq!(timed_out.len(), 2);
    for query in timed_out {
        assert_eq!(query.failure.as_ref().unwrap().as_str(), "generic_timeout_error");
        let conn = trace.udp_conns.get(&query.connection).unwrap();
        assert_eq!(conn.end_reason, Some(EndReason::Timeout));
        assert_eq!(
            conn.socket_trace.as_ref().unwrap().socket_ops.len(),
            1,
            "a read that never returned is not recorded"
        );
    }
}

#[tokio::test]
async fn a_lookup_times_out_if_no_nameserver_answers() {
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
async fn false_replies_are_recorded_and_ignored() {
    type FalseReply = fn(&ReceivedQuery) -> Vec<u8>;
    let garbage: FalseReply =
        |query| [&wire(&query.reply())[..2], &[0x81, 0x80, 0, 1, 0, 9, 0, 0, 0, 0, 0xff, 0xff]].concat();
    let wrong_id: FalseReply = |query| {
        let mut reply = query.addresses(&["192.0.2.66"]);
        reply.metadata.id ^= 1;
        wire(&reply)
    };
    let wrong_question: FalseReply = |query| wire(&about(&query.addresses(&["192.0.2.66"]), "evil.test"));
    let echo: FalseReply = |query| wire(&query.message);
    let broken_answer: FalseReply = |query| {
        let whole = wire(&query.addresses(&["192.0.2.66", "2001:db8::66"]));
        whole[..whole.len() - 14].to_vec()
    };
    let empty: FalseReply = |_| Vec::new();
    for (false_reply, why) in [
        (garbage, "malformed: question"),
        (wrong_id, "id mismatch"),
        (wrong_question, "question mismatch"),
        (echo, "not a response"),
        (broken_answer, "malformed: answer"),
        (empty, "malformed: 0 bytes"),
    ] {
        let sink = TraceSink::new();
        let server = DnsServer::start(move |query| {
            Action::Send(vec![false_reply(query), wire(&query.addresses(&["192.0.2.1"]))])
        })
        .await;
        let (result, trace) = lookup(&resolver(&sink, &[&server]), &sink, "web.test").await;
        assert_eq!(result.unwrap(), ips(&["192.0.2.1"]), "{why}");
        let ignored = ignored(&trace);
        assert!(ignored.len() == 2 && ignored.iter().all(|text| text.starts_with(why)), "{why}: {ignored:?}");
        assert!(trace.dns_queries.iter().all(|query| query.dns_reply_msgs.len() == 2));

        let sink = TraceSink::new();
        let false_server = DnsServer::start(move |query| Action::Send(vec![false_reply(query)])).await;
        let resolver = builder(&sink, [false_server.addr()])
            .timeout(Duration::from_millis(200))
            .attempts(1)
            .build()
            .unwrap();
        let error = lookup(&resolver, &sink, "web.test").await.0.unwrap_err();
        assert_eq!(error.failure().as_str(), "generic_timeout_error");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn the_records_of_many_false_replies_are_bounded() {
    let sink = TraceSink::new();
    let server = DnsServer::start(|query| {
        let false_reply = wire(&about(&query.reply(), "evil.test"));
        let mut flood = vec![false_reply; 80];
        flood.push(wire(&query.addresses(&["192.0.2.1"])));
        Action::Send(flood)
    })
    .await;
    let (result, trace) = lookup(&resolver(&sink, &[&server]), &sink, "web.test").await;
    assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
    for query in &trace.dns_queries {
        assert_eq!(query.dns_reply_msgs.len(), 16 + 1);
        assert_eq!(query.truncated_fields.get("dnsReplyMsgs"), Some(80 + 1));
        let ops = &trace.udp_conns.get(&query.connection).unwrap().socket_trace.as_ref().unwrap().socket_ops;
        assert_eq!(ops.len(), 1 + 80 + 1);
    }
}

#[tokio::test]
async fn nameservers_without_edns_are_queried_without_it() {
    for with_question in [true, false] {
        let sink = TraceSink::new();
        let server = DnsServer::start(move |query| {
            if query.message.edns.is_none() {
                return query.addresses(&["192.0.2.1"]);
            }
            let mut reply = query.reply();
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
async fn edns_can_be_disabled() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    let resolver = builder(&sink, [server.addr()]).edns_payload(None).build().unwrap();
    assert!(lookup(&resolver, &sink, "web.test").await.0.is_ok());
    assert!(server.queries().iter().all(|query| query.message.edns.is_none()));
}

#[tokio::test]
async fn a_refused_query_leads_to_the_next_nameserver_at_once() {
    let sink = TraceSink::new();
    let (closed_port, good) = (ClosedPort::bind(), DnsServer::answering(&["192.0.2.1"]).await);
    let refusing = closed_port.addr;
    let resolver = builder(&sink, [refusing, good.addr()]).build().unwrap();
    let (result, trace) = lookup(&resolver, &sink, "web.test").await;
    assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
    let refused: Vec<_> =
        trace.udp_conns.iter().filter(|c| c.addr_tuple.dst_port == refusing.port()).collect();
    assert_eq!(refused.len(), 2);
    for conn in refused {
        assert_eq!(conn.failure.as_ref().unwrap().as_str(), "connection_refused");
        assert_eq!(conn.end_reason, Some(EndReason::Failed));
        let ops: Vec<_> = conn.socket_trace.as_ref().unwrap().socket_ops.iter().collect();
        assert!(ops.len() == 2 && !ops[1].return_err.is_empty(), "{ops:?}");
    }

    let sink = TraceSink::new();
    let resolver = builder(&sink, [refusing]).build().unwrap();
    let error = lookup(&resolver, &sink, "web.test").await.0.unwrap_err();
    assert_eq!(error.failure().as_str(), "connection_refused");
    assert!(error.source().unwrap().is::<std::io::Error>());
}

#[tokio::test]
async fn a_dropped_lookup_ends_its_records_and_sockets() {
    for use_vc in [false, true] {
        let sink = TraceSink::new();
        let server = DnsServer::silent().await;
        let resolver = builder(&sink, [server.addr()]).use_vc(use_vc).build().unwrap();
        let mut lookup = Box::pin(resolver.lookup("web.test"));
        tokio::select! {
            _ = &mut lookup => panic!("the nameserver never answers"),
            () = server.wait_for_queries(2) => {}
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

/// Returns the number of UDP sockets on this machine that are connected to `remote`.
#[cfg(target_os = "linux")]
fn udp_sockets_to(remote: SocketAddr) -> usize {
    let remote = format!("0100007F:{:04X}", remote.port());
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    table.lines().filter(|line| line.split_whitespace().nth(2) == Some(&remote)).count()
}
