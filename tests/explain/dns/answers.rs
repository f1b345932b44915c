//! Answers of nameservers that are no help.

use super::*;

/// No nameserver is asked.
#[tokio::test]
async fn a_host_that_is_no_name() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    let client = with_resolver(&sink, resolver(&sink, &[server.addr()]));
    let trace = trace_of(&sink, &client, "http://a..b/").await;
    let root = root(&trace, "dns_invalid_name");
    assert_eq!((root.about.as_str(), quoted(&root, "failure")), ("a..b", "x_dns_invalid_name"));
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
