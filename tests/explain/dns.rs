//! Lookups that fail.

use crate::{assert_nothing, client, explained, quoted, root, trace_of};
use hickory_proto::op::ResponseCode;
use nettrace::{
    Client, NetTrace, TraceSink,
    explain::{Finding, Severity},
    resolve::{IpStrategy, StubResolver, StubResolverBuilder},
};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use test_support::{
    dns::{Action, ClosedPort, DnsServer, ReceivedQuery, wire},
    lab::{Hook, Ns},
    raw::{Refused, Server},
    require::require_lab,
    wait,
    web::{Web, reply},
};

const LIMIT: Duration = Duration::from_millis(100);

fn with_nameservers(sink: &TraceSink, servers: &[&DnsServer]) -> Client {
    client(sink).nameservers(servers.iter().map(|server| server.addr())).build().unwrap()
}

/// Returns a builder of a resolver that asks each nameserver once, for a short time, and reads no configuration.
fn resolver(sink: &TraceSink, servers: &[SocketAddr]) -> StubResolverBuilder {
    let builder = StubResolver::builder(sink).nameservers(servers.iter().copied());
    builder.hosts_file(None).resolv_conf(None).timeout(LIMIT).attempts(1)
}

fn with_resolver(sink: &TraceSink, resolver: StubResolverBuilder) -> Client {
    client(sink).resolver(resolver.build().unwrap()).build().unwrap()
}

/// Requests `http://web.test/`, whose lookup fails.
async fn failed_lookup(server: &DnsServer) -> NetTrace {
    let sink = TraceSink::new();
    let client = with_resolver(&sink, resolver(&sink, &[server.addr()]));
    trace_of(&sink, &client, "http://web.test/").await
}

fn hello() -> Web {
    Web::start(async |_| reply("hello"))
}

fn url(host: &str, web: &Web) -> String {
    format!("http://{host}:{}/", web.addr().port())
}

/// Returns the finding with this code.
#[track_caller]
fn finding(trace: &NetTrace, code: &str) -> Finding {
    let explanation = explained(trace);
    let mut findings = explanation.verdicts.iter().flat_map(|verdict| &verdict.findings);
    let finding = findings.find(|finding| finding.code == code);
    finding.unwrap_or_else(|| panic!("no {code}: {explanation:#?}")).clone()
}

#[tokio::test]
async fn a_name_that_does_not_exist() {
    let (sink, dns) =
        (TraceSink::new(), DnsServer::start(|query| query.nothing(ResponseCode::NXDomain)).await);
    let trace = trace_of(&sink, &with_nameservers(&sink, &[&dns]), "http://nowhere.test/").await;
    let root = root(&trace, "dns_nxdomain");
    assert_eq!(quoted(&root, "failure"), "dns_nxdomain_error");
    assert_eq!(root.about, "nowhere.test");
    assert_eq!(
        root.sentence,
        format!("The name nowhere.test does not exist, says the nameserver {}.", dns.addr())
    );
}

#[tokio::test]
async fn nameservers_that_fail_or_refuse() {
    for (reply, code, about) in [
        (ResponseCode::ServFail, "dns_servfail", "server-fail"),
        (ResponseCode::Refused, "dns_refused", "query-refused"),
        (ResponseCode::NotImp, "dns_server_misbehaving", "not-implemented"),
    ] {
        let dns = DnsServer::start(move |query| query.nothing(reply)).await;
        let root = root(&failed_lookup(&dns).await, code);
        assert_eq!((root.about.as_str(), quoted(&root, "dnsReplyMsgs.rCode")), ("web.test", about));
        assert!(root.sentence.starts_with(&format!("The nameserver {} ", dns.addr())), "{}", root.sentence);
    }
}

#[tokio::test]
async fn a_name_without_addresses() {
    let dns = DnsServer::start(|query| query.nothing(ResponseCode::NoError)).await;
    let found = root(&failed_lookup(&dns).await, "dns_no_data");
    assert!(found.sentence.contains("has no A or AAAA record"), "{}", found.sentence);

    let (sink, dns) = (TraceSink::new(), DnsServer::answering(&["127.0.0.1"]).await);
    let only_v6 = resolver(&sink, &[dns.addr()]).ip_strategy(IpStrategy::Ipv6Only);
    let trace = trace_of(&sink, &with_resolver(&sink, only_v6), "http://web.test/").await;
    let found = root(&trace, "dns_no_data");
    assert!(found.sentence.contains("has no AAAA record"), "{}", found.sentence);
}

#[tokio::test]
async fn an_alias_that_leads_nowhere() {
    for (chain, code, sentence) in [
        (&["cdn.test"][..], ResponseCode::NoError, "alias (CNAME) of cdn.test, which has no address"),
        (
            &["cdn.test", "gone.test"],
            ResponseCode::NXDomain,
            "alias (CNAME) of gone.test, which does not exist",
        ),
        (
            &["cdn.test", "web.test"],
            ResponseCode::NoError,
            "aliases (CNAME) of web.test lead back to web.test",
        ),
    ] {
        let dns = DnsServer::start(move |query| {
            let mut reply = query.aliases(chain, &[]);
            reply.metadata.response_code = code;
            reply
        });
        let root = root(&failed_lookup(&dns.await).await, "dns_dangling_cname");
        assert!(root.sentence.contains(sentence), "{}", root.sentence);
        assert!(quoted(&root, "dnsReplyMsgs.answers").starts_with("web.test → cdn.test"), "{root}");
    }
}

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

/// A nameserver that is no recursive one refers to others.
#[tokio::test]
async fn a_nameserver_that_refers_to_others() {
    let dns = DnsServer::start(|query: &ReceivedQuery| {
        let mut reply = query.reply();
        (reply.metadata.recursion_available, reply.edns) = (false, None);
        reply
    });
    let root = root(&failed_lookup(&dns.await).await, "dns_server_misbehaving");
    assert_eq!((root.about.as_str(), quoted(&root, "dnsReplyMsgs.rCode")), ("web.test", "no-error"));
}

/// That the name does not exist is known before the search domain is asked for.
#[tokio::test]
async fn a_search_domain_that_is_not_answered() {
    let sink = TraceSink::new();
    let dns = DnsServer::start(|query: &ReceivedQuery| match query.name().as_str() {
        "nowhere.test" => query.nothing(ResponseCode::NXDomain).into(),
        _ => Action::Silence,
    });
    let dns = dns.await;
    let resolver = resolver(&sink, &[dns.addr()]).search(["corp.test"]);
    let trace = trace_of(&sink, &with_resolver(&sink, resolver), "http://nowhere.test/").await;
    assert_eq!(root(&trace, "dns_nxdomain").about, "nowhere.test");
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

#[tokio::test]
async fn replies_that_are_ignored() {
    let dns = DnsServer::start(|query| {
        let mut reply = query.addresses(&["127.0.0.1"]);
        reply.metadata.id ^= 1;
        reply
    });
    let dns = dns.await;
    let found = root(&failed_lookup(&dns).await, "dns_spoofed");
    assert_eq!(
        (found.about.as_str(), quoted(&found, "dnsReplyMsgs.ignored")),
        (&*dns.addr().to_string(), "id mismatch")
    );

    let dns = DnsServer::start(|query| {
        let mut bytes = wire(&query.addresses(&["127.0.0.1"]));
        bytes.truncate(bytes.len() / 2);
        Action::Send(vec![bytes])
    });
    let found = root(&failed_lookup(&dns.await).await, "dns_malformed");
    assert!(quoted(&found, "dnsReplyMsgs.ignored").starts_with("malformed: "), "{found}");
}

#[tokio::test]
async fn a_public_name_with_an_address_of_this_host() {
    let (dns, refused, web) =
        (DnsServer::answering(&["127.0.0.1"]).await, Refused::on("127.0.0.1:0"), hello());
    let sink = TraceSink::new();
    let blocked = format!("http://ads.company.com:{}/", refused.addr.port());
    let found = root(&trace_of(&sink, &with_nameservers(&sink, &[&dns]), &blocked).await, "dns_bogon");
    assert_eq!(
        (found.about.as_str(), quoted(&found, "dnsReplyMsgs.answers")),
        ("ads.company.com", "127.0.0.1")
    );

    // A name that developers use for this host, and one that is private anyway.
    let sink = TraceSink::new();
    assert_nothing(&trace_of(&sink, &with_nameservers(&sink, &[&dns]), &url("dev.company.com", &web)).await);
    let private = blocked.replace(".com", ".test");
    let sink = TraceSink::new();
    root(&trace_of(&sink, &with_nameservers(&sink, &[&dns]), &private).await, "tcp_refused");
}

#[test]
fn a_public_name_with_a_private_address() {
    require_lab!();
    let traces = Ns::new().block_on(async {
        let (inside, outside) =
            (DnsServer::answering(&["10.8.0.1"]).await, DnsServer::answering(&["203.0.113.1"]).await);
        let sink = TraceSink::new();
        let alone = trace_of(&sink, &with_nameservers(&sink, &[&inside]), "http://shop.company.com/").await;
        let both = trace_of(&sink, &with_nameservers(&sink, &[&outside]), "http://shop.company.com/").await;
        [alone, both]
    });
    // A private address alone is what companies use inside.
    root(&traces[0], "tcp_no_route");
    let found = finding(&traces[1], "dns_bogon");
    assert!(found.sentence.contains("at the private address 10.8.0.1"), "{}", found.sentence);
    assert_eq!(quoted(&found, "dnsReplyMsgs.answers"), "203.0.113.1");
}

/// Returns the trace of a request for `web.test`, with a search domain in which names do not exist.
async fn with_search_domain(sink: &TraceSink, delay: Option<Duration>) -> NetTrace {
    let dns =
        DnsServer::start(move |query: &ReceivedQuery| match (query.name().ends_with("corp.test"), delay) {
            (false, _) => query.addresses(&["127.0.0.1"]).into(),
            (true, None) => query.nothing(ResponseCode::NXDomain).into(),
            (true, Some(delay)) => Action::Later(delay, vec![wire(&query.nothing(ResponseCode::NXDomain))]),
        })
        .await;
    let web = hello();
    let resolver =
        resolver(sink, &[dns.addr()]).search(["corp.test"]).ndots(2).timeout(Duration::from_secs(5));
    trace_of(sink, &with_resolver(sink, resolver), &url("web.test", &web)).await
}

#[tokio::test]
async fn a_search_domain_delays_the_lookup() {
    let sink = TraceSink::new();
    let root = root(&with_search_domain(&sink, Some(LIMIT)).await, "dns_search_detour");
    assert_eq!((root.about.as_str(), root.severity), ("web.test", Severity::Degraded));
    assert!(root.sentence.contains("in vain for web.test.corp.test"), "{}", root.sentence);
    assert!(quoted(&root, "failure").ends_with(": dns_nxdomain_error"), "{root}");
}

#[tokio::test]
async fn a_search_domain_whose_nameserver_is_fast() {
    assert_nothing(&with_search_domain(&TraceSink::new(), None).await);
}

#[tokio::test]
async fn a_lookup_that_takes_far_longer_than_others() {
    let dns = DnsServer::start(|query: &ReceivedQuery| {
        let reply = query.addresses(&["127.0.0.1"]);
        match query.name().as_str() {
            "slow.test" => Action::Later(LIMIT * 2, vec![wire(&reply)]),
            _ => reply.into(),
        }
    });
    let (sink, dns, web) = (TraceSink::new(), dns.await, hello());
    let client = with_nameservers(&sink, &[&dns]);
    for at in 0..10 {
        client.get(url(&format!("web{at}.test"), &web)).await.unwrap().into_body().bytes().await.unwrap();
    }
    let root = root(&trace_of(&sink, &client, &url("slow.test", &web)).await, "dns_slow");
    assert_eq!((root.about.as_str(), root.severity), (&*dns.addr().to_string(), Severity::Degraded));
    assert!(quoted(&root, "dnsQueryMsgs.sentAt").starts_with("slow.test "), "{root}");
}

#[tokio::test]
async fn a_hosts_file_with_an_old_address() {
    let (dns, web) = (DnsServer::answering(&["127.0.0.1"]).await, hello());
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.2 web.test\n").unwrap();
    let sink = TraceSink::new();
    let old = with_resolver(&sink, resolver(&sink, &[dns.addr()]).hosts_file(Some(hosts)));
    let url = url("web.test", &web);
    root(&trace_of(&sink, &old, &url).await, "tcp_refused"); // nothing says that another address is right
    let old_and_new = trace_of(&sink, &with_nameservers(&sink, &[&dns]), &url).await;
    let root = root(&old_and_new, "dns_hosts_override");
    assert_eq!((root.about.as_str(), quoted(&root, "addrTuple.dstIP")), ("web.test", "127.0.0.2"));
    assert_eq!(quoted(&root, "dnsReplyMsgs.answers"), "127.0.0.1");
}

/// The first request opens a connection. Then the name moves, which another client learns. The first client's
/// connection leads to the old address, where the next request is not answered.
#[tokio::test]
async fn an_open_connection_to_an_old_address() {
    let moved = std::sync::Arc::new(AtomicUsize::new(0));
    let address = moved.clone();
    let dns = DnsServer::start(move |query: &ReceivedQuery| {
        query.addresses(&[["127.0.0.1", "127.0.0.2"][address.load(Ordering::Relaxed)]])
    })
    .await;
    let old = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
        conn.read_to_end().await
    });
    let sink = TraceSink::new();
    let port = old.addr().port();
    let new = Server::on(std::net::TcpListener::bind(("127.0.0.2", port)).unwrap(), async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await
    });
    let url = format!("http://web.test:{port}/");
    let first = client(&sink).nameservers([dns.addr()]).timeout(4 * LIMIT).build().unwrap();
    first.get(&url).await.unwrap().into_body().bytes().await.unwrap();
    wait::until("the connection is idle", || !sink.snapshot("").http_requests[0].end_at.is_undefined()).await;
    moved.store(1, Ordering::Relaxed);
    let second = with_nameservers(&sink, &[&dns]);
    second.get(&url).await.unwrap().into_body().bytes().await.unwrap();
    second.close().await;
    let root = root(&trace_of(&sink, &first, &url).await, "dns_stale_address");
    assert_eq!((root.about.as_str(), quoted(&root, "addrTuple.dstIP")), ("web.test", "127.0.0.1"));
    assert_eq!(quoted(&root, "dnsReplyMsgs.answers"), "127.0.0.2");
    drop(new);
}
