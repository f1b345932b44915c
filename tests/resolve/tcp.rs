//! DNS over TCP.

use super::*;

#[tokio::test]
async fn truncated_replies_are_repeated_over_tcp() {
    let sink = TraceSink::new();
    let many: Vec<String> = (0..200).map(|n| format!("10.0.0.{n}")).collect();
    let all = ips(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let server = DnsServer::start(move |query| {
        if query.tcp {
            return query.addresses(&many.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let mut reply = query.reply();
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
        // A message is recorded without the two bytes of its length that precede it.
        assert_eq!(conn.total_sent_bytes, u64::from(query.dns_query_msgs[0].size) + 2);
        assert_eq!(conn.total_recv_bytes, u64::from(query.dns_reply_msgs[0].size) + 2);
        assert_eq!(query.dns_query_msgs[0].questions[0].name, "big.test.");
        assert_eq!(conn.end_reason, Some(EndReason::Closed));
    }
    assert_eq!(over_tcp.iter().map(|query| query.dns_reply_msgs[0].answers.len()).max(), Some(200));
    let ids: std::collections::HashSet<_> =
        server.queries().iter().map(|query| query.message.metadata.id).collect();
    assert!(ids.len() >= 3, "fresh IDs: {ids:?}");
}

#[tokio::test]
async fn use_vc_sends_all_queries_over_tcp() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    let resolver = builder(&sink, [server.addr()]).use_vc(true).build().unwrap();
    let (result, trace) = lookup(&resolver, &sink, "web.test").await;
    assert_eq!(result.unwrap(), ips(&["192.0.2.1"]));
    assert!(server.queries().iter().all(|query| query.tcp));
    assert_eq!((trace.udp_conns.len(), trace.tcp_conns.len()), (0, 2));
}

#[tokio::test]
async fn an_incomplete_or_malformed_reply_leads_to_the_next_nameserver() {
    type Cut = fn(&ReceivedQuery) -> Vec<u8>;
    let whole: Cut = |query| {
        let message = wire(&query.addresses(&["192.0.2.66"]));
        [&(message.len() as u16).to_be_bytes()[..], &message].concat()
    };
    let nothing: Cut = |_| Vec::new();
    let half: Cut = |query| wire(&query.reply())[..10].to_vec();
    let empty_frame: Cut = |_| vec![0, 0];
    let garbage: Cut = |_| [&[0, 20][..], &[0xff; 20]].concat();
    for (what, cut, failure) in [
        ("nothing", nothing, "eof_error"),
        ("half a message", half, "eof_error"),
        ("an empty message", empty_frame, "x_dns_malformed"),
        ("garbage", garbage, "x_dns_malformed"),
    ] {
        let sink = TraceSink::new();
        let bad = DnsServer::start(move |query| Action::RawAndClose(cut(query))).await;
        let good = DnsServer::answering(&["192.0.2.1"]).await;
        let resolver = builder(&sink, [bad.addr(), good.addr()]).use_vc(true).build().unwrap();
        let (result, trace) = lookup(&resolver, &sink, "web.test").await;
        assert_eq!(result.unwrap(), ips(&["192.0.2.1"]), "{what}");
        let failed: Vec<_> = trace.dns_queries.iter().filter_map(|query| query.failure.as_ref()).collect();
        assert_eq!(failed.iter().filter(|f| f.as_str() == failure).count(), 2, "{what}: {failed:?}");
    }
    let sink = TraceSink::new();
    let server = DnsServer::start(move |query| Action::RawAndClose(whole(query))).await;
    let resolver = builder(&sink, [server.addr()]).use_vc(true).build().unwrap();
    assert_eq!(
        lookup(&resolver, &sink, "web.test").await.0.unwrap(),
        ips(&["192.0.2.66"]),
        "closed after a complete reply"
    );
}

#[tokio::test]
async fn a_refused_tcp_connection_fails_the_lookup() {
    let sink = TraceSink::new();
    let closed_port = ClosedPort::bind();
    let resolver = builder(&sink, [closed_port.addr]).use_vc(true).attempts(1).build().unwrap();
    let (result, trace) = lookup(&resolver, &sink, "web.test").await;
    assert_eq!(result.unwrap_err().failure().as_str(), "connection_refused");
    assert_eq!((trace.tcp_conns.len(), trace.dns_queries.len()), (2, 0));
    assert!(trace.tcp_conns.iter().all(|c| !c.connected && c.end_reason == Some(EndReason::Failed)));
}
