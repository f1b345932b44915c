//! DNS over TLS.

use super::*;

#[tokio::test]
async fn addresses_are_looked_up_over_one_connection() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.addresses(&["192.0.2.1", "2001:db8::1"])).await;
    let resolver = fixture.resolver([tls(&server)]);
    for name in ["web.test", "a-much-longer-name.web.test"] {
        let mut found = resolver.lookup(name).await.unwrap();
        found.sort();
        assert_eq!(found, ips(&["192.0.2.1", "2001:db8::1"]));
    }
    assert_eq!(server.accepted(), 1);
    drop(resolver);

    wait::until("the end", || {
        fixture.sink.snapshot("").tcp_conns.iter().all(|conn| conn.end_reason.is_some())
    })
    .await;
    let trace = fixture.sink.snapshot("lookups");
    check::finished(&trace);
    assert_eq!((trace.dials.len(), trace.tcp_conns.len(), trace.udp_conns.len()), (1, 1, 0));
    let (dial, conn, tunnel) = (&trace.dials[0], &trace.tcp_conns[0], &trace.tls_tunnels[0]);
    assert_eq!(dial.dst_address, server.addr().to_string());
    assert_eq!((&dial.established_conn, &conn.from_dial), (&conn.trace_id, &dial.trace_id));
    assert!(dial.triggered_by.is_undefined() && dial.resolve_begin_at.is_undefined());
    assert_eq!((&tunnel.tcp_conn, tunnel.server_name.as_str()), (&conn.trace_id, NAME));
    assert_eq!((&conn.end_reason, &tunnel.end_reason), (&Some(EndReason::Closed), &Some(EndReason::Closed)));
    assert_eq!(trace.dns_queries.len(), 4);
    for query in &trace.dns_queries {
        assert_eq!(
            (&query.connection, query.end_reason.as_ref()),
            (&conn.trace_id, Some(&EndReason::Closed))
        );
        assert_eq!(query.dns_reply_msgs[0].answers.len(), 1);
        // RFC 8467: the length tells nothing of the name.
        assert_eq!(query.dns_query_msgs[0].size, 128);
    }
    assert!(server.queries().iter().all(|query| query.tcp));
}

#[tokio::test]
async fn many_lookups_share_a_connection() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.addresses(&["192.0.2.1"])).await;
    let resolver = fixture.builder([tls(&server)]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    let lookups = (0..100).map(|n| {
        let resolver = resolver.clone();
        async move { resolver.lookup(&format!("host-{n}.test")).await.map(|_| ()) }
    });
    for result in futures_util::future::join_all(lookups).await {
        result.unwrap();
    }
    assert_eq!((server.accepted(), server.queries().len()), (1, 100));
    assert_eq!(fixture.finish().dns_queries.len(), 100);
}

#[tokio::test]
async fn replies_may_come_in_any_order() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| match query.name().as_str() {
        "first.test" => Action::AfterNext(vec![wire(&query.addresses(&["192.0.2.1"]))]),
        _ => query.addresses(&["192.0.2.2"]).into(),
    })
    .await;
    let resolver = fixture.builder([tls(&server)]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    let first = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.lookup("first.test").await }
    });
    server.wait_for_queries(1).await;
    assert_eq!(resolver.lookup("second.test").await.unwrap(), ips(&["192.0.2.2"]));
    assert_eq!(first.await.unwrap().unwrap(), ips(&["192.0.2.1"]));
    assert_eq!(server.accepted(), 1);
    assert_eq!(failures(&fixture.finish()), ["", ""]);
}

/// Looks up a name that every nameserver after the first knows.
async fn lookup_after(fixture: &Fixture, first: Nameserver) -> Result<Vec<IpAddr>, ResolveError> {
    let next = tls_server(fixture, |query| query.addresses(&["192.0.2.9"])).await;
    let resolver = fixture.builder([first, tls(&next)]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    resolver.lookup("web.test").await
}

#[tokio::test]
async fn certificates_must_be_valid_for_the_name() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.addresses(&["192.0.2.66"])).await;
    let other: Nameserver = format!("tls://{}#other.test", server.addr()).parse().unwrap();
    let error = fixture.resolver([other.clone()]).lookup("web.test").await.unwrap_err();
    assert_eq!(error.failure(), Failure::SslInvalidHostname);
    assert_eq!((error.server(), error.nameserver()), (Some(&other), Some(server.addr())));
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("lookup web.test on {other}: TLS handshake with other.test")),
        "{text}"
    );
    assert!(std::error::Error::source(&error).is_some_and(|source| source.is::<nettrace::tls::TlsError>()));
    // The queries for both families waited for the same handshake.
    assert_eq!((server.accepted(), server.queries().len()), (1, 0));
    assert!(!server.is_asked_in_plain_text());

    assert_eq!(lookup_after(&fixture, other).await.unwrap(), ips(&["192.0.2.9"]));
    let trace = fixture.finish();
    let failed =
        trace.tls_tunnels.iter().filter(|tunnel| tunnel.failure == Some(Failure::SslInvalidHostname));
    assert_eq!(failed.count(), 2);
    assert!(trace.tls_tunnels[0].peer_certs.iter().any(|certificate| certificate.sans == [NAME]));
    assert_eq!(trace.dns_queries.len(), 1, "no message went to the server without a valid certificate");
}

#[tokio::test]
async fn certificates_must_be_of_a_known_authority() {
    let fixture = Fixture::new();
    let unknown = Authority::new("unknown").issue(&[NAME]);
    let server = EncryptedDnsServer::tls(&unknown, |query| query.addresses(&["192.0.2.66"])).await;
    let error = fixture.resolver([tls(&server)]).lookup("web.test").await.unwrap_err();
    assert_eq!(error.failure(), Failure::SslUnknownAuthority);
    fixture.finish();
}

#[tokio::test]
async fn without_a_name_the_certificate_must_be_valid_for_the_address() {
    let fixture = Fixture::new();
    let leaf = fixture.authority.issue(&["127.0.0.1"]);
    let server = EncryptedDnsServer::tls(&leaf, |query| query.addresses(&["192.0.2.1"])).await;
    let address: Nameserver = format!("tls://{}", server.addr()).parse().unwrap();
    assert_eq!(fixture.resolver([address]).lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
    let error = fixture.resolver([tls(&server)]).lookup("web.test").await.unwrap_err();
    assert_eq!(error.failure(), Failure::SslInvalidHostname);
    fixture.finish();
}

#[tokio::test]
async fn an_unreachable_server_leads_to_the_next_one() {
    let fixture = Fixture::new();
    let closed = ClosedPort::bind();
    let refusing: Nameserver = format!("tls://{}#{NAME}", closed.addr).parse().unwrap();
    let error = fixture.resolver([refusing.clone()]).lookup("web.test").await.unwrap_err();
    assert_eq!(error.failure(), Failure::ConnectionRefused);
    assert_eq!(lookup_after(&fixture, refusing).await.unwrap(), ips(&["192.0.2.9"]));
    let trace = fixture.finish();
    let failed = trace.dials.iter().filter(|dial| dial.failure == Some(Failure::ConnectionRefused));
    assert_eq!(failed.count(), 2);
}

#[tokio::test]
async fn a_configured_plain_server_may_follow_an_encrypted_one() {
    let fixture = Fixture::new();
    let closed = ClosedPort::bind();
    let plain = DnsServer::answering(&["192.0.2.7"]).await;
    let refusing: Nameserver = format!("tls://{}#{NAME}", closed.addr).parse().unwrap();
    let resolver = fixture.resolver([refusing, plain.addr().into()]);
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.7"]));
    assert_eq!(fixture.finish().udp_conns.len(), 2);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_final() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.nothing(ResponseCode::NXDomain)).await;
    let next = DnsServer::answering(&["192.0.2.66"]).await;
    let resolver = fixture.resolver([tls(&server), next.addr().into()]);
    let error = resolver.lookup("nx.test").await.unwrap_err();
    assert_eq!((error.failure(), error.server()), (Failure::DnsNxdomainError, Some(&tls(&server))));
    assert!(next.queries().is_empty());
    assert_eq!(failures(&fixture.finish()), ["dns_nxdomain_error"; 2]);
}

/// Lets the timeout of what is under way pass.
async fn pass_timeout() {
    pass(LONG).await;
}

#[tokio::test]
async fn a_silent_server_times_out_and_is_connected_to_again() {
    let fixture = Fixture::new();
    let is_silent = Arc::new(AtomicUsize::new(1));
    let silent = is_silent.clone();
    let server = tls_server(&fixture, move |query| match silent.load(Relaxed) {
        0 => query.addresses(&["192.0.2.1"]).into(),
        _ => Action::Silence,
    })
    .await;
    let resolver = fixture.resolver([tls(&server)]);
    let lookup = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.lookup("web.test").await }
    });
    server.wait_for_queries(2).await;
    pass_timeout().await;
    let error = lookup.await.unwrap().unwrap_err();
    assert_eq!(error.failure(), Failure::GenericTimeoutError);

    is_silent.store(0, Relaxed);
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
    assert_eq!(server.accepted(), 2, "the connection may be dead");
    let trace = fixture.finish();
    assert_eq!(failures(&trace)[..2], ["generic_timeout_error"; 2]);
    assert_eq!(trace.dns_queries[0].end_reason, Some(EndReason::Timeout));
}

#[tokio::test]
async fn a_handshake_without_an_answer_times_out() {
    let fixture = Fixture::new();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = silent.local_addr().unwrap();
    let server: Nameserver = format!("tls://{addr}#{NAME}").parse().unwrap();
    let resolver = fixture.resolver([server]);
    let lookup = tokio::spawn(async move { resolver.lookup("web.test").await });
    let (mut stream, _) = silent.accept().await.unwrap();
    tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap();
    pass_timeout().await;
    assert_eq!(lookup.await.unwrap().unwrap_err().failure(), Failure::GenericTimeoutError);
    let trace = fixture.finish();
    assert_eq!(trace.tls_tunnels[0].end_reason, Some(EndReason::Timeout));
    assert!(trace.dns_queries.is_empty());
}

#[tokio::test]
async fn replies_that_are_cut_off_or_malformed_fail() {
    type Bytes = fn(&ReceivedQuery) -> Vec<u8>;
    let nothing: Bytes = |_| Vec::new();
    let half: Bytes = |query| framed(&query.reply())[..20].to_vec();
    let empty_frame: Bytes = |_| vec![0, 0];
    let cut_message: Bytes = |query| {
        let message = framed(&query.reply());
        [&[0, 20], &message[2..22]].concat()
    };
    for (what, bytes, failure) in [
        ("nothing", nothing, Failure::EofError),
        ("half a message", half, Failure::EofError),
        ("an empty message", empty_frame, Failure::DnsMalformed),
        ("a message without its end", cut_message, Failure::DnsMalformed),
    ] {
        let fixture = Fixture::new();
        let server = tls_server(&fixture, move |query| Action::RawAndClose(bytes(query))).await;
        let error = lookup_from(&fixture, tls(&server)).await.unwrap_err();
        assert_eq!(error.failure(), failure, "{what}: {error}");
        assert_eq!((server.accepted(), server.queries().len()), (1, 1), "{what}: not repeated");
        assert_eq!(lookup_after(&fixture, tls(&server)).await.unwrap(), ips(&["192.0.2.9"]), "{what}");
        let trace = fixture.finish();
        assert_eq!(failures(&trace), [failure.as_str(), failure.as_str(), ""], "{what}");
    }
}

/// Looks up IPv4 addresses, so that there is one query.
async fn lookup_from(fixture: &Fixture, server: Nameserver) -> Result<Vec<IpAddr>, ResolveError> {
    let resolver = fixture.builder([server]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    resolver.lookup("web.test").await
}

#[tokio::test]
async fn a_query_on_a_connection_that_was_closed_meanwhile_is_repeated_once() {
    let fixture = Fixture::new();
    let asked = AtomicUsize::new(0);
    // The first lookup is answered, and the second one on a new connection.
    let server = tls_server(&fixture, move |query| match asked.fetch_add(1, Relaxed) {
        0 | 2 => query.addresses(&["192.0.2.1"]).into(),
        _ => Action::RawAndClose(Vec::new()),
    })
    .await;
    let resolver = fixture.builder([tls(&server)]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    for accepted in [1, 2] {
        assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
        assert_eq!(server.accepted(), accepted);
    }
    // The repeated query fails, too.
    let error = resolver.lookup("web.test").await.unwrap_err();
    assert_eq!(error.failure(), Failure::EofError);
    assert_eq!((server.accepted(), server.queries().len()), (3, 5));
    let trace = fixture.finish();
    assert_eq!(failures(&trace), ["", "eof_error", "", "eof_error", "eof_error"]);
    let conns: Vec<_> = trace.dns_queries.iter().map(|query| &query.connection).collect();
    assert!(conns[0] == conns[1] && conns[2] == conns[3]);
    assert!(conns[1] != conns[2] && conns[3] != conns[4]);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| query.addresses(&["192.0.2.1"])).await;
    let resolver = fixture.resolver([tls(&server)]);
    resolver.lookup("web.test").await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    let ended = || fixture.sink.snapshot("").tcp_conns[0].end_reason.clone();
    wait::until("the end of the connection", || ended().is_some()).await;
    tokio::time::resume();
    assert_eq!(ended(), Some(EndReason::IdleLimit));
    resolver.lookup("web.test").await.unwrap();
    assert_eq!(server.accepted(), 2);
    fixture.finish();
}

#[tokio::test]
async fn a_dial_that_nobody_waits_for_is_given_up() {
    let fixture = Fixture::new();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server: Nameserver = format!("tls://{}#{NAME}", silent.local_addr().unwrap()).parse().unwrap();
    let resolver = fixture.resolver([server]);
    let lookup = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.lookup("web.test").await }
    });
    let (mut stream, _) = silent.accept().await.unwrap();
    tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap();
    lookup.abort();
    assert!(lookup.await.unwrap_err().is_cancelled());
    let tunnels = || fixture.sink.snapshot("").tls_tunnels.into_vec();
    wait::until("the end of the handshake", || tunnels().iter().all(|tunnel| tunnel.end_reason.is_some()))
        .await;
    assert_eq!(tunnels()[0].end_reason, Some(EndReason::Cancelled));
    drop(resolver);
    check::finished(&fixture.sink.snapshot("cancelled"));
}

#[tokio::test]
async fn a_query_that_is_given_up_does_not_disturb_others() {
    let fixture = Fixture::new();
    let server = tls_server(&fixture, |query| match query.name().as_str() {
        "silent.test" => Action::Silence,
        _ => query.addresses(&["192.0.2.1"]).into(),
    })
    .await;
    let resolver = fixture.builder([tls(&server)]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    let lookup = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.lookup("silent.test").await }
    });
    server.wait_for_queries(1).await;
    lookup.abort();
    assert!(lookup.await.unwrap_err().is_cancelled());
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
    assert_eq!(server.accepted(), 1);
    let trace = fixture.finish();
    assert_eq!(failures(&trace), ["interrupted", ""]);
}

#[tokio::test]
async fn records_that_are_kept_keep_the_shared_connection() {
    let fixture = Fixture {
        sink: TraceSink::builder().retention(nettrace::Retention::bounded().connections(10)).build(),
        authority: Authority::new("nameservers"),
    };
    let server = tls_server(&fixture, |query| {
        // The server closes after every second query, so that there are many connections.
        if query.is_a() { query.addresses(&["192.0.2.1"]).into() } else { Action::RawAndClose(Vec::new()) }
    })
    .await;
    let resolver = fixture.builder([tls(&server)]).single_request(true).build().unwrap();
    for n in 0..200 {
        assert_eq!(resolver.lookup(&format!("host-{n}.test")).await.unwrap(), ips(&["192.0.2.1"]));
    }
    check::running(&fixture.sink.snapshot("some"));
    assert!(fixture.sink.snapshot("").tcp_conns.len() < 200);
    fixture.sink.clear();
    let trace = fixture.sink.snapshot("cleared");
    check::running(&trace);
    assert!(trace.dns_queries.is_empty() && trace.tcp_conns.len() <= 1);
}

#[test]
fn a_connection_does_not_outlive_its_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (fixture, servers) = (Fixture::new(), runtime());
    let leaf = fixture.authority.issue(&[NAME]);
    let answering = |query: &ReceivedQuery| query.addresses(&["192.0.2.1"]);
    std::thread::scope(|scope| {
        let (server, ready) = std::sync::mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (servers, leaf) = (&servers, &leaf);
        scope.spawn(move || {
            servers.block_on(async {
                let dns = EncryptedDnsServer::tls(leaf, answering).await;
                server.send(tls(&dns)).unwrap();
                stopped.await.unwrap_err();
            });
        });
        let resolver = fixture.resolver([ready.recv().unwrap()]);
        for _ in 0..2 {
            let found = runtime().block_on(resolver.lookup("web.test")).unwrap();
            assert_eq!(found, ips(&["192.0.2.1"]));
        }
        drop(stop);
    });
    assert_eq!(fixture.finish().tcp_conns.len(), 2);
}
