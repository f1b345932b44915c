//! Nameservers that do not answer, or only some queries.

use super::*;

/// The client's time limit is what ends the request, but the nameserver is why.
#[tokio::test]
async fn a_silent_nameserver_is_the_root_of_a_time_limit() {
    let (sink, dns) = (TraceSink::new(), DnsServer::silent().await);
    let client = client(&sink).nameservers([dns.addr()]).timeout(3 * LIMIT).build().unwrap();
    let trace = trace_of(&sink, &client, "http://web.test/").await;
    let root = root(&trace, "dns_server_silent");
    assert_eq!(root.about, dns.addr().to_string());
}

#[tokio::test]
async fn all_nameservers_are_silent() {
    let (sink, one, two) = (TraceSink::new(), DnsServer::silent().await, DnsServer::silent().await);
    let client = with_resolver(&sink, resolver(&sink, &[one.addr(), two.addr()]));
    let root = root(&trace_of(&sink, &client, "http://web.test/").await, "dns_server_silent");
    for server in [&one, &two] {
        assert!(root.about.contains(&server.addr().to_string()), "{}", root.about);
    }
    assert!(root.sentence.contains("did not answer 4 queries for web.test"), "{}", root.sentence);
}

#[test]
fn a_nameserver_is_silent_over_tcp() {
    require_lab!();
    let ns = Ns::new();
    ns.nft(Hook::Input, "tcp dport 53 drop");
    let trace = ns.block_on(async {
        let sink = TraceSink::new();
        let over_tcp = resolver(&sink, &["127.0.0.1:53".parse().unwrap()]).use_vc(true);
        trace_of(&sink, &with_resolver(&sink, over_tcp), "http://web.test/").await
    });
    let root = root(&trace, "dns_server_silent");
    assert_eq!((root.about.as_str(), quoted(&root, "endReason")), ("127.0.0.1:53", "timeout"));
    assert!(root.sentence.contains("connections over TCP"), "{}", root.sentence);
}

/// Without a measure, nobody knows whether the answer was late. With one, it was.
#[tokio::test]
async fn a_lookup_that_the_program_gives_up() {
    let answer = |query: &ReceivedQuery| match query.name().as_str() {
        "web.test" => query.addresses(&["127.0.0.1"]).into(),
        _ => Action::Silence,
    };
    let (sink, dns, web) = (TraceSink::new(), DnsServer::start(answer).await, hello());
    let client = with_nameservers(&sink, &[&dns]);
    let silent = client.get("http://silent.test/");
    tokio::select! {
        _ = silent => panic!("no answer"),
        () = dns.wait_for_queries(2) => {}
    }
    let root_of = |sink: &TraceSink, code| root(&sink.snapshot(""), code);
    root_of(&sink, "caller_gave_up");
    sink.clear();

    client.get(url("web.test", &web)).await.unwrap().into_body().bytes().await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(300), client.get("http://silent.test/"));
    assert!(given_up.await.is_err());
    client.close().await;
    assert_eq!(root_of(&sink, "dns_server_silent").about, dns.addr().to_string());
}

#[tokio::test]
async fn a_port_that_no_nameserver_listens_on() {
    let (sink, closed) = (TraceSink::new(), ClosedPort::bind());
    for over_tcp in [false, true] {
        sink.clear();
        let resolver = resolver(&sink, &[closed.addr]).use_vc(over_tcp);
        let trace = trace_of(&sink, &with_resolver(&sink, resolver), "http://web.test/").await;
        let root = root(&trace, "dns_port_closed");
        assert_eq!(root.about, closed.addr.to_string());
        let field = if over_tcp { "resolverDials.failure" } else { "failure" };
        assert_eq!(quoted(&root, field), "connection_refused");
    }
}

#[test]
fn a_nameserver_without_a_route_to_it() {
    require_lab!();
    let trace = Ns::new().block_on(async {
        let sink = TraceSink::new();
        let resolver = resolver(&sink, &["10.8.1.1:53".parse().unwrap()]);
        trace_of(&sink, &with_resolver(&sink, resolver), "http://web.test/").await
    });
    let root = root(&trace, "dns_server_unreachable");
    assert_eq!(
        (root.about.as_str(), quoted(&root, "resolverDials.failure")),
        ("10.8.1.1:53", "network_unreachable")
    );
}

#[tokio::test]
async fn a_first_nameserver_that_is_dead_delays_every_lookup() {
    let (sink, web) = (TraceSink::new(), hello());
    let (dead, alive) = (DnsServer::silent().await, DnsServer::answering(&["127.0.0.1"]).await);
    let client = with_resolver(&sink, resolver(&sink, &[dead.addr(), alive.addr()]));
    let root = root(&trace_of(&sink, &client, &url("web.test", &web)).await, "dns_first_server_dead");
    assert_eq!((root.about.as_str(), root.severity), (&*dead.addr().to_string(), Severity::Degraded));
}

#[tokio::test]
async fn a_query_that_is_lost() {
    let lost = AtomicUsize::new(0);
    let dns =
        DnsServer::start(move |query| match query.is_a() && lost.fetch_add(1, Ordering::Relaxed) == 0 {
            true => Action::Silence,
            false => query.addresses(&["127.0.0.1"]).into(),
        })
        .await;
    let (sink, web) = (TraceSink::new(), hello());
    let client = with_resolver(&sink, resolver(&sink, &[dns.addr()]).attempts(2));
    let trace = trace_of(&sink, &client, &url("web.test", &web)).await;
    let root = root(&trace, "dns_query_lost");
    assert_eq!((root.about.as_str(), root.severity), (&*dns.addr().to_string(), Severity::Degraded));
    assert!(root.sentence.starts_with("The query web.test A to "), "{}", root.sentence);
}

/// The nameserver answers other queries, so that it is not dead.
#[tokio::test]
async fn a_query_that_is_lost_before_another_nameserver_is_asked() {
    let answer = |query: &ReceivedQuery| match query.name().as_str() {
        "lost.test" => Action::Silence,
        _ => query.addresses(&["127.0.0.1"]).into(),
    };
    let (one, two) = (DnsServer::start(answer).await, DnsServer::answering(&["127.0.0.1"]).await);
    let (sink, web) = (TraceSink::new(), hello());
    let client = with_resolver(&sink, resolver(&sink, &[one.addr(), two.addr()]));
    client.get(url("web.test", &web)).await.unwrap().into_body().bytes().await.unwrap();
    let root = root(&trace_of(&sink, &client, &url("lost.test", &web)).await, "dns_query_lost");
    assert_eq!((root.about.as_str(), root.severity), (&*one.addr().to_string(), Severity::Degraded));
}

#[tokio::test]
async fn one_nameserver_fails_and_the_other_is_silent() {
    let (sink, silent) = (TraceSink::new(), DnsServer::silent().await);
    let failing = DnsServer::start(|query| query.nothing(ResponseCode::ServFail)).await;
    let client = with_resolver(&sink, resolver(&sink, &[failing.addr(), silent.addr()]));
    let root = root(&trace_of(&sink, &client, "http://web.test/").await, "dns_servfail");
    assert!(root.sentence.contains(&failing.addr().to_string()), "{}", root.sentence);
}

#[tokio::test]
async fn all_nameservers_are_skipped() {
    let (sink, dns) = (TraceSink::new(), DnsServer::silent().await);
    let builder = client(&sink).nameservers([dns.addr()]);
    let client = builder.skip_nameserver(|_, _| Some("it is for guests".to_owned())).build().unwrap();
    let root = root(&trace_of(&sink, &client, "http://web.test/").await, "dns_all_skipped");
    assert_eq!(quoted(&root, "skippedNameservers"), dns.addr().to_string());
    assert_eq!(quoted(&root, "skipReasons"), "it is for guests");
}

#[tokio::test]
async fn a_nameserver_drops_queries_for_ipv6_addresses() {
    let only_a = |query: &ReceivedQuery| match query.is_a() {
        true => query.addresses(&["127.0.0.1"]).into(),
        false => Action::Silence,
    };
    let (dns, web) = (DnsServer::start(only_a).await, hello());
    let sink = TraceSink::new();
    let client = with_resolver(&sink, resolver(&sink, &[dns.addr()]));
    let found = root(&trace_of(&sink, &client, &url("web.test", &web)).await, "dns_aaaa_dropped");
    assert_eq!((found.about.as_str(), found.severity), (&*dns.addr().to_string(), Severity::Degraded));
    assert_eq!(quoted(&found, "dnsQueryMsgs.sentAt"), "web.test AAAA");
    assert_eq!(quoted(&found, "dnsReplyMsgs.recvAt"), "web.test A");

    // The time limit of the request runs out before that of the query.
    let sink = TraceSink::new();
    let builder = crate::client(&sink).nameservers([dns.addr()]).timeout(4 * LIMIT);
    let trace = trace_of(&sink, &builder.build().unwrap(), &url("web.test", &web)).await;
    assert_eq!(root(&trace, "dns_aaaa_dropped").severity, Severity::Failure);
}

#[test]
fn a_long_reply_that_cannot_be_requested_over_tcp() {
    require_lab!();
    let ns = Ns::new();
    ns.nft(Hook::Input, "tcp flags syn drop");
    let (trace, addr) = ns.block_on(async {
        let dns = DnsServer::start(|query| {
            let mut reply = query.reply();
            reply.metadata.truncation = true;
            reply
        });
        let dns = dns.await;
        (failed_lookup(&dns).await, dns.addr())
    });
    let root = root(&trace, "dns_tcp_blocked");
    assert_eq!(
        (root.about.as_str(), quoted(&root, "failure")),
        (&*addr.to_string(), "generic_timeout_error")
    );
    assert!(quoted(&root, "dnsReplyMsgs.truncated").starts_with("web.test A"), "{root}");
}
