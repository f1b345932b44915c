//! Lookups as parts of a dial, with nameservers that are reachable, unreachable and skipped.

use super::*;

#[tokio::test]
async fn lookups_belong_to_their_dial() {
    let sink = TraceSink::new();
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (closed_port, good) = (ClosedPort::bind(), DnsServer::answering(&["127.0.0.1"]).await);
    let refusing = closed_port.addr;
    let resolver = builder(&sink, [refusing, good.addr()]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    dial(resolver, &sink, target.local_addr().unwrap().port()).await.unwrap();

    let trace = sink.snapshot("dial");
    assert_sound(&trace);
    let dial = trace.dials.first().unwrap();
    assert!(dial.resolve_begin_at >= dial.dial_begin_at && dial.resolve_end_at <= dial.dial_end_at);
    let nameservers: Vec<_> = dial.resolver_dials.iter().map(|d| d.nameserver.as_str()).collect();
    assert_eq!(nameservers, [refusing.to_string(), good.addr().to_string()]);
    let connections: Vec<_> = dial.resolver_dials.iter().map(|d| d.established_conn.clone()).collect();
    let query_connections: Vec<_> = trace.dns_queries.iter().map(|q| q.connection.clone()).collect();
    assert_eq!(connections, query_connections);
    assert!(trace.dns_queries.iter().all(|q| q.from_dial == dial.trace_id));
    assert!(trace.udp_conns.iter().all(|c| c.from_dial == dial.trace_id));
}

#[tokio::test]
async fn unreachable_nameservers_are_recorded() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["127.0.0.1"]).await;
    let closed_port = ClosedPort::bind();
    let refusing = closed_port.addr;
    // Sending to the broadcast address fails without `SO_BROADCAST`.
    let unreachable = SocketAddr::from(([255, 255, 255, 255], 53));
    let resolver =
        builder(&sink, [unreachable, server.addr()]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    dial(resolver, &sink, refusing.port()).await.unwrap_err();
    let trace = sink.snapshot("dial");
    assert_sound(&trace);
    let dials = &trace.dials.first().unwrap().resolver_dials;
    assert_eq!(dials.len(), 2);
    assert!(dials[0].failure.is_some() && !dials[0].dial_err.is_empty(), "{dials:?}");
    assert!(dials[0].established_conn.is_undefined() && dials[1].failure.is_none());

    let sink = TraceSink::new();
    let resolver = builder(&sink, [refusing])
        .use_vc(true)
        .attempts(1)
        .ip_strategy(IpStrategy::Ipv4Only)
        .build()
        .unwrap();
    let error = dial(resolver, &sink, refusing.port()).await.unwrap_err();
    let trace = sink.snapshot("dial");
    let dial = trace.dials.first().unwrap();
    assert_eq!(dial.resolver_dials[0].failure.as_ref().unwrap().as_str(), "connection_refused");
    assert_eq!(dial.failure.as_ref().unwrap().as_str(), "connection_refused");
    let cause = error.source().and_then(|error| error.downcast_ref::<ResolveError>()).unwrap();
    assert_eq!(cause.nameserver(), Some(refusing));
}

#[tokio::test]
async fn skipped_nameservers_are_recorded_once() {
    let sink = TraceSink::new();
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (first, second) =
        (DnsServer::answering(&["127.0.0.9"]).await, DnsServer::answering(&["127.0.0.1"]).await);
    let skipped = first.addr();
    let skip = move |ip: IpAddr, port| {
        ((ip, port) == (skipped.ip(), skipped.port())).then(|| "not on this port".into())
    };
    let resolver = builder(&sink, [first.addr(), second.addr()]).skip_nameserver(skip).build().unwrap();
    dial(resolver, &sink, target.local_addr().unwrap().port()).await.unwrap();
    let trace = sink.snapshot("dial");
    assert_sound(&trace);
    let dial = trace.dials.first().unwrap();
    assert_eq!(dial.skipped_nameservers, [skipped.to_string()]);
    assert_eq!(dial.skip_reasons, ["not on this port"]);
    assert!(first.queries().is_empty() && second.queries().len() == 2);
}

#[tokio::test]
async fn if_all_nameservers_are_skipped_no_query_is_sent() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let resolver = builder(&sink, [server.addr()])
        .search(["a.test", "b.test"])
        .skip_nameserver(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            Some("none of these".into())
        })
        .build()
        .unwrap();
    let (result, trace) = lookup(&resolver, &sink, "web").await;
    let error = result.unwrap_err();
    assert_eq!(error.failure().as_str(), "x_nameservers_skipped");
    assert!(error.to_string().contains("none of these") && error.nameserver().is_none(), "{error}");
    assert!(server.queries().is_empty() && trace.udp_conns.is_empty());
    assert_eq!(calls.load(Ordering::Relaxed), 2, "once for each family");
}

#[tokio::test]
async fn a_panic_of_the_callback_skips_the_nameserver() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    let resolver = builder(&sink, [server.addr()])
        .skip_nameserver(|_, _| panic::resume_unwind(Box::new("no message on stderr")))
        .build()
        .unwrap();
    let error = lookup(&resolver, &sink, "web.test").await.0.unwrap_err();
    assert_eq!(error.failure().as_str(), "x_nameservers_skipped");
}

#[tokio::test]
async fn rotate_begins_each_lookup_with_the_next_nameserver() {
    let sink = TraceSink::new();
    let servers = [DnsServer::answering(&["192.0.2.1"]).await, DnsServer::answering(&["192.0.2.2"]).await];
    let resolver = builder(&sink, servers.iter().map(DnsServer::addr)).rotate(true).build().unwrap();
    for expected in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        assert_eq!(resolver.clone().lookup("web.test").await.unwrap(), ips(&[expected]));
    }
}

#[tokio::test]
async fn the_source_address_is_not_used_for_loopback_nameservers() {
    let sink = TraceSink::new();
    let server = DnsServer::answering(&["192.0.2.1"]).await;
    for source in ["127.0.0.9", "192.0.2.200", "2001:db8::200"] {
        let source: IpAddr = source.parse().unwrap();
        for use_vc in [false, true] {
            let resolver = builder(&sink, [server.addr()]).source_ip(source).use_vc(use_vc).build().unwrap();
            resolver.lookup("web.test").await.unwrap();
        }
    }
    assert!(server.queries().iter().all(|query| query.from.ip() == Ipv4Addr::LOCALHOST));
}
