//! Nameservers that are configured by name.

use super::*;

/// Returns the server as its name, asked over TLS.
fn by_name(server: &EncryptedDnsServer) -> Nameserver {
    format!("tls://{NAME}:{}", server.addr().port()).parse().unwrap()
}

#[tokio::test]
async fn the_name_is_looked_up_with_the_plain_nameservers() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.addresses(&["192.0.2.1"])).await;
    let plain = DnsServer::answering(&["127.0.0.1"]).await;
    let resolver = fixture.resolver([by_name(&server), plain.addr().into()]);
    for _ in 0..2 {
        assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
    }
    let mut questions = plain.questions();
    questions.sort();
    assert_eq!(questions, ["dns.test A", "dns.test AAAA"]);
    let trace = fixture.finish();
    let dial = &trace.dials[0];
    assert_eq!(dial.dst_address, format!("{NAME}:{}", server.addr().port()));
    assert!(!dial.resolve_begin_at.is_undefined() && !dial.resolve_end_at.is_undefined());
    let of_dial = trace.dns_queries.iter().filter(|query| query.from_dial == dial.trace_id);
    assert_eq!(of_dial.count(), 2, "the lookup of the nameserver's name belongs to its dial");
    assert_eq!(trace.dns_queries.len(), 2 + 4);
}

#[tokio::test]
async fn the_name_may_be_in_the_hosts_file() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.addresses(&["192.0.2.1"])).await;
    let plain = DnsServer::silent().await;
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 {NAME}\n")).unwrap();
    let resolver = fixture.builder([by_name(&server), plain.addr().into()]).hosts_file(Some(hosts));
    assert_eq!(resolver.build().unwrap().lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
    assert!(plain.queries().is_empty());
    fixture.finish();
}

#[tokio::test]
async fn the_system_is_asked_if_no_plain_nameserver_is_configured() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.addresses(&["192.0.2.1"])).await;
    let directory = tempfile::tempdir().unwrap();
    let [hosts, resolv_conf] = ["hosts", "resolv.conf"].map(|name| directory.path().join(name));
    std::fs::write(&hosts, "").unwrap();
    // Nobody is there: what counts is who was asked.
    std::fs::write(&resolv_conf, "nameserver 127.0.0.254\noptions attempts:1 timeout:1\n").unwrap();
    let builder = StubResolver::builder(&fixture.sink).nameservers([by_name(&server)]);
    let resolver = builder.hosts_file(Some(hosts)).resolv_conf(Some(resolv_conf)).build().unwrap();
    let error = resolver.lookup("web.test").await.unwrap_err();
    assert_eq!(error.failure(), Failure::NameserverUnresolved);
    assert!(error.to_string().contains(&format!("lookup {NAME} on 127.0.0.254:53")), "{error}");
    assert_eq!(server.accepted(), 0);
    fixture.finish();
}

#[tokio::test]
async fn https_records_of_the_name_are_not_asked_for() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.addresses(&["192.0.2.1"])).await;
    let plain = DnsServer::answering(&["127.0.0.1"]).await;
    let builder = fixture.builder([by_name(&server), plain.addr().into()]).https_records(true);
    assert_eq!(builder.build().unwrap().lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
    let mut questions = plain.questions();
    questions.sort();
    assert_eq!(questions, ["dns.test A", "dns.test AAAA"]);
    fixture.finish();
}

#[tokio::test]
async fn skipped_addresses_do_not_end_the_search() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.addresses(&["192.0.2.66"])).await;
    let plain = DnsServer::start(|query| match query.name().as_str() {
        NAME => query.addresses(&["127.0.0.1"]),
        "web.corp.test" => query.addresses(&["192.0.2.1"]),
        _ => query.nothing(ResponseCode::ServFail),
    })
    .await;
    let port = server.addr().port();
    let skip = move |_, at| (at == port).then(|| "not this one".to_owned());
    let servers = || [plain.addr().into(), by_name(&server)];
    let resolver = fixture.builder(servers()).skip_nameserver(skip).build().unwrap();
    let error = resolver.lookup("web.test").await.unwrap_err();
    assert_eq!((error.failure(), error.server()), (Failure::NameserversSkipped, Some(&by_name(&server))));
    let text = error.to_string();
    assert!(text.contains("all addresses of the nameserver were skipped (127.0.0.1:"), "{text}");
    let searching = fixture.builder(servers()).search(["corp.test"]).skip_nameserver(skip);
    assert_eq!(searching.build().unwrap().lookup("web").await.unwrap(), ips(&["192.0.2.1"]));
    let resolver = fixture.builder(servers()).search(["other.test", "corp.test"]).skip_nameserver(skip);
    assert_eq!(resolver.build().unwrap().lookup("web").await.unwrap(), ips(&["192.0.2.1"]));
    assert_eq!(server.accepted(), 0);
    fixture.finish();
}

#[tokio::test]
async fn an_unknown_name_leads_to_the_next_server() {
    let fixture = Fixture::new();
    let plain = DnsServer::start(|query| match query.name().as_str() {
        NAME => query.nothing(ResponseCode::NXDomain),
        _ => query.addresses(&["192.0.2.5"]),
    })
    .await;
    let missing: Nameserver = format!("tls://{NAME}").parse().unwrap();
    let resolver = fixture.resolver([missing, plain.addr().into()]);
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.5"]));
    let trace = fixture.finish();
    assert_eq!(trace.dials[0].failure, Some(Failure::NameserverUnresolved));
    assert!(trace.dials[0].dial_err.contains("no such host"), "{:?}", trace.dials[0].dial_err);
}

#[tokio::test]
async fn all_addresses_of_the_name_are_tried() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.addresses(&["192.0.2.1"])).await;
    // Nothing listens at the first one.
    let plain = DnsServer::answering(&["127.0.0.2", "127.0.0.1"]).await;
    let resolver = fixture.resolver([by_name(&server), plain.addr().into()]);
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
    let trace = fixture.finish();
    let refused = trace.tcp_conns.iter().filter(|conn| conn.failure == Some(Failure::ConnectionRefused));
    assert_eq!((refused.count(), trace.tcp_conns.len()), (1, 2));
}

#[tokio::test]
async fn addresses_are_skipped_as_the_program_wants() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.addresses(&["192.0.2.66"])).await;
    let plain = DnsServer::answering(&["127.0.0.1"]).await;
    let port = server.addr().port();
    let builder = fixture.builder([by_name(&server)]).nameservers([by_name(&server), plain.addr().into()]);
    let skipping = builder.skip_nameserver(move |_, at| (at == port).then(|| "not this one".to_owned()));
    let resolver = skipping.build().unwrap();
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["127.0.0.1"]));
    assert_eq!(server.accepted(), 0);
    let trace = fixture.finish();
    assert_eq!(trace.dials[0].skipped_nameservers, [server.addr().to_string()]);
    assert_eq!(trace.dials[0].failure, Some(Failure::NameserversSkipped));
}
