//! Options that concern addresses: nameservers, the resolver, and the source address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nettrace::resolve::{IpStrategy, StubResolver};

use crate::{client, read};
use test_support::dns::{ClosedPort, DnsServer};
use test_support::web::{Web, reply};

fn web() -> Web {
    Web::start(async |request| reply(request.peer.ip().to_string()))
}

fn url(web: &Web) -> String {
    format!("http://web.test:{}/", web.addr().port())
}

#[tokio::test]
async fn nameservers_are_asked_in_the_given_order() {
    let (web, refuses) = (web(), ClosedPort::bind());
    let answers = DnsServer::answering(&["127.0.0.1"]).await;
    let never = DnsServer::answering(&["127.0.0.1"]).await;
    let (client, sink) = client(|builder| builder.nameservers([refuses.addr, answers.addr(), never.addr()]));
    read(client.get(url(&web)).await).await;
    assert!(never.queries().is_empty() && !answers.queries().is_empty());
    let dial = sink.snapshot("").dials[0].clone();
    let asked: Vec<_> = dial.resolver_dials.iter().map(|dial| dial.nameserver.to_string()).collect();
    assert!(
        asked.contains(&refuses.addr.to_string()) && asked.contains(&answers.addr().to_string()),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_skipped_nameserver_is_recorded_with_the_reason() {
    let web = web();
    let (first, second) = (DnsServer::silent().await, DnsServer::answering(&["127.0.0.1"]).await);
    let unwanted = first.addr();
    let (client, sink) = client(|builder| {
        builder.nameservers([first.addr(), second.addr()]).skip_nameserver(move |ip, port| {
            (SocketAddr::new(ip, port) == unwanted).then(|| "on another interface".to_owned())
        })
    });
    read(client.get(url(&web)).await).await;
    assert!(first.queries().is_empty());
    let dial = sink.snapshot("").dials[0].clone();
    assert_eq!(dial.skipped_nameservers, [unwanted.to_string()]);
    assert_eq!(dial.skip_reasons, ["on another interface"]);
}

#[tokio::test]
async fn the_callers_own_resolver_replaces_the_nameservers() {
    let web = web();
    let (server, unused) = (DnsServer::answering(&["127.0.0.1"]).await, DnsServer::silent().await);
    let (client, sink) = client(|builder| {
        let sink = nettrace::TraceSink::disabled();
        let resolver = StubResolver::builder(&sink).nameservers([server.addr()]).build().unwrap();
        builder.nameservers([unused.addr()]).resolver(resolver)
    });
    read(client.get(url(&web)).await).await;
    assert!(unused.queries().is_empty() && !server.queries().is_empty());
    assert!(sink.snapshot("").dns_queries.is_empty(), "the resolver records to another sink");
}

#[tokio::test]
async fn connections_use_the_given_source_address() {
    let web = web();
    let source = Ipv4Addr::new(127, 0, 0, 42);
    let nameserver = DnsServer::answering(&["127.0.0.1", "::1"]).await;
    let (client, sink) =
        client(|builder| builder.source_ip(IpAddr::from(source)).nameservers([nameserver.addr()]));
    assert_eq!(read(client.get(url(&web)).await).await.1, "127.0.0.42");
    let trace = sink.snapshot("");
    let tuples: Vec<_> = trace.tcp_conns.iter().map(|conn| conn.addr_tuple.src_ip.as_str()).collect();
    assert_eq!(tuples, ["127.0.0.42"], "an address of the other family is not tried");
    assert_eq!(trace.dials[0].source_ip, "127.0.0.42");
    // The source address does not apply to queries to a nameserver on the loopback interface.
    assert!(nameserver.queries().iter().all(|query| query.from.ip() == Ipv4Addr::LOCALHOST));
}

#[tokio::test]
async fn one_address_family_can_be_chosen() {
    let web = web();
    for (strategy, asked, tried) in [
        (IpStrategy::Ipv4Only, &["web.test A"][..], "127.0.0.1"),
        (IpStrategy::Ipv6Only, &["web.test AAAA"], "::1"),
    ] {
        let nameserver = DnsServer::answering(&["127.0.0.1", "::1"]).await;
        let (client, sink) = client(|builder| builder.ip_strategy(strategy).nameservers([nameserver.addr()]));
        let response = client.get(url(&web)).await;
        // The server listens on its IPv4 address only.
        assert_eq!(response.is_ok(), tried == "127.0.0.1", "{response:?}");
        assert_eq!(nameserver.questions(), asked);
        let trace = sink.snapshot("");
        let tuples: Vec<_> = trace.tcp_conns.iter().map(|conn| conn.addr_tuple.dst_ip.as_str()).collect();
        assert_eq!(tuples, [tried]);
    }
}
