//! Nameservers of others: Debian's unbound and dnsdist.

use super::*;
use test_support::{dnsdist::Dnsdist, require_tool, unbound::Unbound};

const RECORDS: [&str; 3] =
    ["web.test. 60 IN A 192.0.2.1", "web.test. 60 IN AAAA 2001:db8::1", "dns.test. 60 IN A 127.0.0.1"];

/// Looks up a name that exists and one that does not, over one connection.
async fn look_up(fixture: &Fixture, nameserver: &str) {
    let nameserver: Nameserver = nameserver.parse().unwrap();
    let resolver = fixture.resolver([nameserver.clone()]);
    for _ in 0..3 {
        let mut found = resolver.lookup("web.test").await.unwrap_or_else(|error| panic!("{error}"));
        found.sort();
        assert_eq!(found, ips(&["192.0.2.1", "2001:db8::1"]), "{nameserver}");
    }
    let error = resolver.lookup("nx.test").await.unwrap_err();
    assert_eq!(error.failure(), Failure::DnsNxdomainError, "{nameserver}: {error}");
    drop(resolver);
    let is_over = || fixture.sink.snapshot("").tcp_conns.iter().all(|conn| conn.end_reason.is_some());
    wait::until("the end", is_over).await;
    let trace = fixture.sink.snapshot("lookups");
    check::finished(&trace);
    assert_eq!((trace.tcp_conns.len(), trace.tls_tunnels.len(), trace.dns_queries.len()), (1, 1, 8));
    let is_https = nameserver.to_string().starts_with("https:");
    assert_eq!(trace.http_requests.len(), if is_https { 8 } else { 0 }, "{nameserver}");
    fixture.sink.clear();
}

#[tokio::test]
async fn unbound_is_asked_over_tls_and_https() {
    require_tool!("unbound");
    let fixture = Fixture::new();
    let unbound = Unbound::start(&fixture.authority.issue(&[NAME, "127.0.0.1"]), &RECORDS);
    look_up(&fixture, &format!("tls://{}#{NAME}", unbound.tls)).await;
    look_up(&fixture, &format!("https://{}/dns-query", unbound.https)).await;
    assert!(unbound.questions().iter().any(|question| question == "web.test. AAAA"));
}

#[tokio::test]
async fn dnsdist_is_asked_over_tls_and_https() {
    require_tool!("unbound");
    require_tool!("dnsdist");
    let fixture = Fixture::new();
    let leaf = fixture.authority.issue(&[NAME, "127.0.0.1"]);
    let unbound = Unbound::start(&leaf, &RECORDS);
    let dnsdist = Dnsdist::start(&leaf, unbound.plain);
    look_up(&fixture, &format!("tls://{}#{NAME}", dnsdist.tls)).await;
    look_up(&fixture, &format!("https://{}/dns-query", dnsdist.https)).await;
}

#[tokio::test]
async fn the_name_of_unbound_is_looked_up_in_plain_text() {
    require_tool!("unbound");
    let fixture = Fixture::new();
    let unbound = Unbound::start(&fixture.authority.issue(&[NAME]), &RECORDS);
    let by_name: Nameserver = format!("https://{NAME}:{}/dns-query", unbound.https.port()).parse().unwrap();
    let resolver = fixture.resolver([by_name, unbound.plain.into()]);
    assert_eq!(resolver.lookup("web.test").await.unwrap().len(), 2);
    let trace = fixture.finish();
    assert_eq!(trace.dials[0].dst_address, format!("{NAME}:{}", unbound.https.port()));
    assert_eq!((trace.udp_conns.len(), trace.http_requests.len()), (2, 2));
}
