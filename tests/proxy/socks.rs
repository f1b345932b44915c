//! SOCKS5 through microsocks.

use crate::{Site, client, finished, get, greet, proxy, stories, story};
use nettrace::{Failure, record::EndReason};
use std::net::Ipv4Addr;
use test_support::{
    dns::DnsServer, dnsmasq::Dnsmasq, proxies::microsocks, raw::Refused, require::require_tool, wait,
    web::Web,
};

#[tokio::test]
async fn with_socks5h_the_proxy_resolves_names() {
    require_tool!("microsocks");
    let (site, server) = (Site::new(), microsocks(false));
    let (open, secure) = (Web::start(greet), site.web(&["h2", "http/1.1"]));
    // Nothing listens at the nameserver's address, so a lookup by the client would fail.
    let (client, sink) = client(proxy(&server.url("socks5h")), |builder| {
        builder.roots(site.roots()).nameservers([Refused::on("127.0.0.1:0").addr])
    });
    let urls =
        [("http", open.addr().port()), ("https", secure.addr().port()), ("https", secure.addr().port())];
    for (scheme, port) in urls {
        assert_eq!(get(&client, &format!("{scheme}://localhost:{port}/a")).await.unwrap(), "200 hello /a");
    }
    let trace = finished(&client, &sink).await;
    assert!(trace.dns_queries.is_empty());
    let stories = stories(&trace);
    for (story, (scheme, port)) in stories.iter().zip(urls) {
        assert_eq!(story.request.network_proxy, server.url("socks5h"));
        assert!(story.connect.is_none());
        assert_eq!(story.tunnel.is_some(), scheme == "https");
        let socks = story.conn().socks.as_deref().expect("a handshake");
        assert_eq!(socks.target, format!("localhost:{port}"));
        assert_eq!((&socks.failure, &socks.end_reason), (&None, &Some(EndReason::Closed)));
    }
    assert_eq!(open.requests()[0].header("host"), format!("localhost:{}", open.addr().port()));
    assert_eq!(stories[1].request.tcp_conn, stories[2].request.tcp_conn);
    let timings = stories[1].request.timings(&trace);
    assert!(timings.proxy.is_some() && timings.tls.is_some(), "{timings}");
}

/// Both names, the server's and the proxy's, are resolved within the dial to the proxy.
#[tokio::test]
async fn with_socks5_the_client_resolves_names() {
    require_tool!("microsocks", "dnsmasq");
    let (site, server) = (Site::new(), microsocks(false));
    let web = site.web(&[]);
    let dns = Dnsmasq::builder()
        .host("web.test", &[Ipv4Addr::LOCALHOST.into()])
        .host("proxy.test", &[Ipv4Addr::LOCALHOST.into()])
        .domain("test")
        .start();
    let url = format!("socks5://proxy.test:{}", server.addr.port());
    let (client, sink) = client(proxy(&url), |builder| builder.roots(site.roots()).nameservers([dns.addr]));
    assert_eq!(
        get(&client, &format!("https://web.test:{}/", web.addr().port())).await.unwrap(),
        "200 hello /"
    );
    let trace = finished(&client, &sink).await;
    let story = story(&trace);
    let dial = story.dial.unwrap();
    assert_eq!(dial.dst_address, format!("proxy.test:{}", server.addr.port()));
    assert_eq!(story.conn().socks.as_ref().unwrap().target, format!("127.0.0.1:{}", web.addr().port()));
    assert_eq!(story.tunnel.unwrap().server_name, "web.test");
    let names = trace.dns_queries.iter().flat_map(|query| &query.dns_query_msgs);
    let mut names: Vec<_> = names.map(|message| message.questions[0].name.as_str()).collect();
    names.dedup();
    assert_eq!(names, ["web.test.", "proxy.test."]);
    assert!(trace.dns_queries.iter().all(|query| query.from_dial == dial.trace_id));
    assert_eq!(trace.dials.len(), 1);
}

#[tokio::test]
async fn with_socks5_an_unknown_name_fails_the_dial() {
    require_tool!("dnsmasq");
    let dns = Dnsmasq::builder().domain("test").start();
    let (client, sink) = client(proxy("socks5://127.0.0.1:9"), |builder| builder.nameservers([dns.addr]));
    let error = get(&client, "http://web.test/").await.unwrap_err();
    assert_eq!(error.failure(), Failure::DnsNxdomainError);
    assert!(
        error.to_string().contains("web.test:80") && error.to_string().contains("socks5://127.0.0.1:9"),
        "{error}"
    );
    let trace = finished(&client, &sink).await;
    let dial = story(&trace).dial.unwrap();
    assert_eq!((&dial.failure, dial.dst_address.as_str()), (&Some(Failure::DnsNxdomainError), "127.0.0.1:9"));
    assert!(trace.tcp_conns.iter().all(|conn| conn.from_resolver));
    assert_eq!(story(&trace).request.network_proxy, "socks5://127.0.0.1:9");
}

#[tokio::test]
async fn a_request_dropped_during_the_lookup_cancels_the_dial() {
    let silent = DnsServer::silent().await;
    let (client, sink) =
        client(proxy("socks5://127.0.0.1:9"), |builder| builder.nameservers([silent.addr()]));
    {
        let mut response = std::pin::pin!(client.get("http://web.test/"));
        wait::polling_until("a query", response.as_mut(), || !sink.snapshot("").dns_queries.is_empty()).await;
    }
    let trace = finished(&client, &sink).await;
    assert_eq!(story(&trace).dial.unwrap().end_reason, Some(EndReason::Cancelled));
}

#[tokio::test]
async fn credentials_are_accepted_and_redacted() {
    require_tool!("microsocks");
    let (server, web) = (microsocks(true), Web::start(greet));
    let (client, sink) = client(proxy(&server.url_with_login("socks5h")), |builder| builder);
    assert_eq!(get(&client, &web.url("/")).await.unwrap(), "200 hello /");
    let trace = finished(&client, &sink).await;
    assert_eq!(story(&trace).request.network_proxy, format!("socks5h://***@{}", server.addr));
}

#[tokio::test]
async fn missing_or_wrong_credentials_fail_the_handshake() {
    require_tool!("microsocks");
    let server = microsocks(true);
    let without_login = proxy(&server.url("socks5"));
    let wrong = without_login.credentials("joe", "wrong").unwrap();
    for (proxy, text) in
        [(without_login, "it demands authentication"), (wrong, "rejects the user name or password")]
    {
        let (client, sink) = client(proxy, |builder| builder);
        let error = get(&client, "http://127.0.0.1:1/").await.unwrap_err();
        assert_eq!(error.failure(), Failure::ProxyAuthenticationRequired);
        assert!(error.to_string().contains(text), "{error}");
        let slice = error.request().trace();
        assert!(story(&slice).conn().socks.is_some());
        let trace = finished(&client, &sink).await;
        let socks = story(&trace).conn().socks.as_deref().unwrap();
        assert_eq!(socks.failure, Some(Failure::ProxyAuthenticationRequired));
        assert_eq!(socks.handshake_err, story(&trace).request.req_error);
    }
}

#[tokio::test]
async fn an_unreachable_target_fails_the_handshake() {
    require_tool!("microsocks");
    let (server, refused) = (microsocks(false), Refused::on("127.0.0.1:0"));
    let (client, sink) = client(proxy(&server.url("socks5")), |builder| builder);
    let error = get(&client, &format!("https://{}/", refused.addr)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::ProxyRefused);
    let text = format!("did not connect to {}: connection refused (5)", refused.addr);
    assert!(error.to_string().ends_with(&text), "{error}");
    let trace = finished(&client, &sink).await;
    let story = story(&trace);
    assert_eq!(story.conn().socks.as_ref().unwrap().end_reason, Some(EndReason::Failed));
    assert!(story.request.timings(&trace).proxy.is_some());
}
