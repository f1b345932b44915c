//! DNS over HTTPS.

use super::*;

/// Starts a server whose certificate is valid for its address.
async fn https_server<T: Into<HttpAction>>(
    fixture: &Fixture,
    behaviour: impl Fn(&ReceivedQuery) -> T + Send + Sync + 'static,
) -> EncryptedDnsServer {
    EncryptedDnsServer::https(&fixture.authority.issue(&["127.0.0.1"]), behaviour).await
}

fn https(server: &EncryptedDnsServer) -> Nameserver {
    format!("https://{}/dns-query", server.addr()).parse().unwrap()
}

/// Makes one lookup with this server, of IPv4 addresses.
async fn lookup(fixture: &Fixture, server: &EncryptedDnsServer) -> Result<Vec<IpAddr>, ResolveError> {
    let resolver = fixture.builder([https(server)]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    resolver.lookup("web.test").await
}

#[tokio::test]
async fn each_query_is_a_recorded_request() {
    let fixture = Fixture::new();
    let server = https_server(&fixture, |query| query.addresses(&["192.0.2.1", "2001:db8::1"])).await;
    let resolver = fixture.resolver([https(&server)]);
    for _ in 0..2 {
        let mut found = resolver.lookup("web.test").await.unwrap();
        found.sort();
        assert_eq!(found, ips(&["192.0.2.1", "2001:db8::1"]));
    }
    assert_eq!(server.accepted(), 1);
    assert!(server.queries().iter().all(|query| query.message.metadata.id == 0), "as caches like it");
    drop(resolver);
    let is_over = || fixture.sink.snapshot("").tcp_conns.iter().all(|conn| conn.end_reason.is_some());
    wait::until("the end", is_over).await;
    let trace = fixture.sink.snapshot("lookups");
    check::finished(&trace);
    let (conn, tunnel) = (&trace.tcp_conns[0], &trace.tls_tunnels[0]);
    assert_eq!(
        (tunnel.negotiated_proto.as_str(), conn.end_reason.as_ref()),
        ("h2", Some(&EndReason::Closed))
    );
    assert_eq!((trace.dns_queries.len(), trace.http_requests.len()), (4, 4));
    for query in &trace.dns_queries {
        assert_eq!(query.connection, conn.trace_id);
        let request = trace.http_requests.get(&query.http_req).unwrap();
        assert_eq!((request.req_method.as_str(), request.resp_status_code), ("POST", 200));
        assert_eq!(request.req_url, https(&server).to_string());
        assert_eq!((&request.tcp_conn, &request.tls_tunnel), (&conn.trace_id, &tunnel.trace_id));
        assert_eq!(u64::from(query.dns_query_msgs[0].size), request.req_content_len);
        assert_eq!(u64::from(query.dns_reply_msgs[0].size), request.resp_content_len);
    }
}

#[tokio::test]
async fn bad_responses_have_codes_of_their_own() {
    let page = || HttpAction::Respond { status: 200, content_type: "text/html", body: b"<html>".into() };
    let error = || HttpAction::Respond { status: 500, content_type: "text/plain", body: b"oops".into() };
    let garbage =
        || HttpAction::Respond { status: 200, content_type: "application/dns-message", body: vec![0xff; 20] };
    let endless = || HttpAction::Respond {
        status: 200,
        content_type: "application/dns-message",
        body: vec![0; 70_000],
    };
    type Respond = fn() -> HttpAction;
    for (respond, failure, text, status) in [
        (error as Respond, Failure::DnsHttpStatus, "HTTP status 500 Internal Server Error", 500),
        (page, Failure::DnsHttpContentType, "content type \"text/html\"", 200),
        (garbage, Failure::DnsMalformed, "bad reply: id mismatch", 200),
        (endless, Failure::DnsMalformed, "longer than 65535 bytes", 200),
    ] {
        let fixture = Fixture::new();
        let server = https_server(&fixture, move |_| respond()).await;
        let error = lookup(&fixture, &server).await.unwrap_err();
        assert_eq!(error.failure(), failure, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        let trace = fixture.finish();
        assert_eq!(failures(&trace), [failure.as_str()]);
        let request = trace.http_requests.get(&trace.dns_queries[0].http_req).unwrap();
        assert_eq!(request.resp_status_code, status);
    }
}

#[tokio::test]
async fn a_broken_server_leads_to_the_next_one() {
    let fixture = Fixture::new();
    let broken =
        https_server(&fixture, |_| HttpAction::Respond { status: 503, content_type: "", body: Vec::new() })
            .await;
    let next = tls_server(&fixture, |query| query.addresses(&["192.0.2.9"])).await;
    let resolver = fixture.resolver([https(&broken), tls(&next)]);
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.9"]));
    let trace = fixture.finish();
    assert_eq!(failures(&trace).iter().filter(|failure| **failure == "x_dns_http_status").count(), 2);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_final() {
    let fixture = Fixture::new();
    let server = https_server(&fixture, |query| query.nothing(ResponseCode::NXDomain)).await;
    let error = lookup(&fixture, &server).await.unwrap_err();
    assert_eq!(error.failure(), Failure::DnsNxdomainError);
    assert_eq!(failures(&fixture.finish()), ["dns_nxdomain_error"]);
}

#[tokio::test]
async fn servers_without_http2_are_not_asked() {
    let fixture = Fixture::new();
    let leaf = fixture.authority.issue(&["127.0.0.1"]);
    let reply = |query: &ReceivedQuery| -> Message { query.addresses(&["192.0.2.66"]) };
    let server = EncryptedDnsServer::https_with_alpn(&leaf, &[], reply).await;
    let error = lookup(&fixture, &server).await.unwrap_err();
    assert_eq!(error.failure(), Failure::HttpProtocolError);
    assert!(error.to_string().contains("does not speak HTTP/2"), "{error}");
    assert!(server.queries().is_empty());
    fixture.finish();
}

#[tokio::test]
async fn a_silent_server_times_out() {
    let fixture = Fixture::new();
    let server = https_server(&fixture, |_| HttpAction::Silence).await;
    let resolver = fixture.builder([https(&server)]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    let lookup = tokio::spawn(async move { resolver.lookup("web.test").await });
    server.wait_for_queries(1).await;
    pass(LONG).await;
    assert_eq!(lookup.await.unwrap().unwrap_err().failure(), Failure::GenericTimeoutError);
    let trace = fixture.finish();
    assert_eq!(failures(&trace), ["generic_timeout_error"]);
    assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::Cancelled));
}

#[tokio::test]
async fn a_query_on_a_connection_that_was_closed_meanwhile_is_repeated_once() {
    let fixture = Fixture::new();
    let asked = AtomicUsize::new(0);
    let server = https_server(&fixture, move |query| match asked.fetch_add(1, Relaxed) {
        0 | 2 => query.addresses(&["192.0.2.1"]).into(),
        _ => HttpAction::Close,
    })
    .await;
    let resolver = fixture.builder([https(&server)]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    for accepted in [1, 2] {
        assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
        assert_eq!(server.accepted(), accepted);
    }
    let error = resolver.lookup("web.test").await.unwrap_err();
    assert_eq!((server.accepted(), server.queries().len()), (3, 5), "{error}");
    let trace = fixture.finish();
    let failed: Vec<_> = trace.dns_queries.iter().map(|query| query.failure.is_some()).collect();
    assert_eq!(failed, [false, true, false, true, true]);
    assert_eq!(trace.http_requests.len(), 5);
}

#[tokio::test]
async fn the_reset_of_a_stream_is_not_the_end_of_the_connection() {
    let fixture = Fixture::new();
    let server = https_server(&fixture, |query| match query.name().as_str() {
        "reset.test" => HttpAction::Reset,
        _ => query.addresses(&["192.0.2.1"]).into(),
    })
    .await;
    let resolver = fixture.builder([https(&server)]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    let error = resolver.lookup("reset.test").await.unwrap_err();
    assert_eq!(error.failure(), Failure::Http2StreamReset, "{error}");
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
    assert_eq!((server.accepted(), server.queries().len()), (1, 2));
    fixture.finish();
}

#[tokio::test]
async fn a_connection_without_any_answer_is_not_used_again() {
    let fixture = Fixture::new();
    let server = https_server(&fixture, |query| match query.name().as_str() {
        "silent.test" => HttpAction::Silence,
        _ => query.addresses(&["192.0.2.1"]).into(),
    })
    .await;
    let resolver = fixture.builder([https(&server)]).ip_strategy(IpStrategy::Ipv4Only).build().unwrap();
    for (accepted, name) in [(1, "silent.test"), (2, "silent.test")] {
        let lookup = tokio::spawn({
            let resolver = resolver.clone();
            async move { resolver.lookup(name).await }
        });
        server.wait_for_queries(accepted).await;
        assert_eq!(server.accepted(), accepted);
        lookup.abort();
        assert!(lookup.await.unwrap_err().is_cancelled());
        pass(Duration::from_secs(3)).await;
    }
    assert_eq!(resolver.lookup("web.test").await.unwrap(), ips(&["192.0.2.1"]));
    assert_eq!(server.accepted(), 3);
    fixture.finish();
}

#[tokio::test]
async fn the_query_of_the_url_is_masked() {
    let fixture = Fixture {
        sink: TraceSink::builder().mask_query(true).build(),
        authority: Authority::new("nameservers"),
    };
    let server = https_server(&fixture, |query| query.nothing(ResponseCode::NXDomain)).await;
    let secret: Nameserver = format!("{}?token=secret", https(&server)).parse().unwrap();
    let error = fixture.resolver([secret.clone()]).lookup("web.test").await.unwrap_err();
    let masked = format!("{}?***", https(&server));
    assert_eq!(error.to_string(), format!("lookup web.test on {masked}: no such host"));
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    // In the record of a request, too.
    let client = nettrace::client::Client::builder(&fixture.sink).resolver(fixture.resolver([secret]));
    let client = client.build().unwrap();
    client.get("http://web.test/").await.unwrap_err();
    client.close().await;
    let trace = fixture.finish();
    let text = serde_json::to_string(&trace).unwrap();
    assert!(!text.contains("secret"), "{text}");
    assert!(trace.dials.iter().flat_map(|dial| &dial.resolver_dials).all(|dial| dial.nameserver == masked));
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let fixture = Fixture::new();
    let server = https_server(&fixture, |query| query.addresses(&["192.0.2.1"])).await;
    let resolver = fixture.resolver([https(&server)]);
    resolver.lookup("web.test").await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    let ended = || fixture.sink.snapshot("").tcp_conns[0].end_reason.clone();
    wait::until("the end of the connection", || ended().is_some()).await;
    tokio::time::resume();
    assert_eq!(ended(), Some(EndReason::IdleLimit));
    fixture.finish();
}
