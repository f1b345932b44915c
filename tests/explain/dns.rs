//! Lookups that fail.

use crate::{client, quoted, root, trace_of};
use hickory_proto::op::ResponseCode;
use nettrace::{Client, TraceSink, explain::Severity};
use std::time::Duration;
use test_support::{
    dns::DnsServer,
    web::{Web, reply},
};

fn with_nameservers(sink: &TraceSink, servers: &[&DnsServer]) -> Client {
    client(sink).nameservers(servers.iter().map(|server| server.addr())).build().unwrap()
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

/// The client's time limit is what ends the request, but the nameserver is why.
#[tokio::test(start_paused = true)]
async fn a_silent_nameserver_is_the_root_of_a_time_limit() {
    let (sink, dns) = (TraceSink::new(), DnsServer::silent().await);
    let client = client(&sink).nameservers([dns.addr()]).timeout(Duration::from_secs(3)).build().unwrap();
    let trace = trace_of(&sink, &client, "http://web.test/").await;
    let root = root(&trace, "dns_server_silent");
    assert_eq!(root.about, dns.addr().to_string());
}

#[tokio::test]
async fn a_first_nameserver_that_is_dead_delays_every_lookup() {
    let sink = TraceSink::new();
    let web = Web::start(async |_| reply("hello"));
    let (dead, alive) = (DnsServer::silent().await, DnsServer::answering(&["127.0.0.1"]).await);
    let resolver = nettrace::resolve::StubResolver::builder(&sink)
        .nameservers([dead.addr(), alive.addr()])
        .timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    let client = client(&sink).resolver(resolver).build().unwrap();
    let trace = trace_of(&sink, &client, &format!("http://web.test:{}/", web.addr().port())).await;
    let root = root(&trace, "dns_first_server_dead");
    assert_eq!((root.about.as_str(), root.severity), (&*dead.addr().to_string(), Severity::Degraded));
}
