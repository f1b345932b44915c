//! The hosts file and resolv.conf.

use super::*;

/// Replaces the file in one step, so that no lookup reads half of it.
fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Advances the clock by the interval after which the resolver checks its files again.
async fn advance_to_next_check() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_is_read_again() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    replace(&hosts, "10.0.0.1 web.test\n10.0.0.2 web.test localhost\n");
    let resolver = builder(&sink, [server.addr()]).hosts_file(Some(hosts.clone())).build().unwrap();
    assert_eq!(resolver.lookup("Web.Test.").await.unwrap(), ips(&["10.0.0.1", "10.0.0.2"]));
    assert_eq!(resolver.lookup("localhost").await.unwrap(), ips(&["10.0.0.2"]));
    assert!(server.queries().is_empty());

    replace(&hosts, "10.0.0.3 web.test\n");
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["10.0.0.1", "10.0.0.2"]));
    advance_to_next_check().await;
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["10.0.0.3"]));
    std::fs::remove_file(&hosts).unwrap();
    advance_to_next_check().await;
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
}

#[tokio::test]
async fn resolv_conf_is_read_again() {
    let sink = TraceSink::new();
    let server = DnsServer::start(|query| query.nothing(ResponseCode::NXDomain)).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("resolv.conf");
    replace(&path, "nonsense\nsearch a.test\noptions single-request\n");
    let resolver = StubResolver::builder(&sink)
        .nameservers([server.addr()])
        .resolv_conf(Some(path.clone()))
        .ip_strategy(IpStrategy::Ipv4Only)
        .hosts_file(None)
        .timeout(LONG)
        .build()
        .unwrap();
    resolver.lookup("web").await.unwrap_err();
    assert_eq!(server.questions(), ["web.a.test A", "web A"]);
    replace(&path, "search b.test\noptions ndots:0\n");
    advance_to_next_check().await;
    resolver.lookup("web").await.unwrap_err();
    assert_eq!(server.questions()[2..], ["web A", "web.b.test A"]);
}

#[tokio::test]
async fn invalid_configurations_are_rejected() {
    let sink = TraceSink::new();
    let error = builder(&sink, []).search(["not a domain"]).build().unwrap_err();
    assert!(error.to_string().contains("not a domain"), "{error}");
    let directory = tempfile::tempdir().unwrap();
    let error = builder(&sink, []).resolv_conf(Some(directory.path().to_owned())).build().unwrap_err();
    assert!(
        error.to_string().contains(directory.path().to_str().unwrap()) && error.source().is_some(),
        "{error}"
    );
    assert!(builder(&sink, []).resolv_conf(Some(directory.path().join("missing"))).build().is_ok());
}

#[tokio::test]
async fn overlong_and_endless_files_are_rejected() {
    let (sink, directory) = (TraceSink::new(), tempfile::tempdir().unwrap());
    let long = directory.path().join("long");
    std::fs::File::create(&long).unwrap().set_len((64 << 20) + 1).unwrap();
    for path in [long, "/dev/zero".into()] {
        let hosts_error = builder(&sink, []).hosts_file(Some(path.clone())).build().unwrap_err();
        assert!(hosts_error.to_string().contains("the file is longer than 64 MiB"), "{hosts_error}");
        let resolv_conf_error = builder(&sink, []).resolv_conf(Some(path)).build().unwrap_err();
        assert!(
            resolv_conf_error.to_string().contains("the file is longer than 64 MiB"),
            "{resolv_conf_error}"
        );
    }
}
