//! The search list, and names that are resolved without a query.

use super::*;

#[tokio::test]
async fn a_lookup_without_nameservers_fails() {
    let sink = TraceSink::new();
    let resolver = builder(&sink, []).build().unwrap();
    let error = lookup(&resolver, &sink, "web.test").await.0.unwrap_err();
    assert_eq!(error.to_string(), "lookup web.test: no nameservers are configured");
}

#[tokio::test]
async fn the_search_list_is_tried_in_order() {
    let sink = TraceSink::new();
    let server = DnsServer::start(|query| match query.name().as_str() {
        "web.b.test" => query.addresses(&["192.0.2.1"]),
        _ => query.nothing(ResponseCode::NXDomain),
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
    assert_eq!(error.name(), "x.y", "the requested name, not the last one tried");
    assert_eq!(server.questions()[2..], ["x.y A", "x.y.a.test A", "x.y.b.test A"]);
    search(2).lookup("x.y").await.unwrap_err();
    assert_eq!(server.questions()[5..], ["x.y.a.test A", "x.y.b.test A", "x.y A"]);
    search(2).lookup("web.").await.unwrap_err();
    assert_eq!(server.questions()[8..], ["web A"]);
}

#[tokio::test]
async fn addresses_and_special_names_need_no_query() {
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
    assert!(server.queries().is_empty());
}
