//! Lookups that are slow or have other addresses, compared with others of the trace.

use super::*;

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
