//! Requests through proxies that are configured in reqwest and not in this crate's layers.

use nettrace::ResponseExt as _;
use nettrace::record::EndReason;
use reqwest::Proxy;

use crate::clients::{Variant, answer, linked, same};
use test_support::pki::Authority;
use test_support::proxies::{PASSWORD, ProxyServer, microsocks, tinyproxy};
use test_support::require::require_tool;
use test_support::web::{Web, reply};

/// Makes one request through the proxy with each client, and asserts that the outcomes are equal.
async fn check_request(proxy: &ProxyServer, scheme: &str, url: &str) {
    let proxy_url = proxy.url_with_login(scheme);
    let (observed, outcome) = same(async |variant| {
        let client = variant.builder().proxy(Proxy::all(&proxy_url).unwrap()).build().unwrap();
        answer(variant.send(client.get(url)).await).await
    })
    .await;
    assert_eq!(outcome.unwrap().body, Ok("hello".into()));

    let trace = observed.finished();
    let ([request], [dial], [conn]) = (&trace.http_requests[..], &trace.dials[..], &trace.tcp_conns[..])
    else {
        panic!("expected one of each: {trace:#?}")
    };
    assert_eq!((request.req_url.as_str(), &request.end_reason), (url, &Some(EndReason::Closed)));
    assert_eq!((&request.tcp_conn, &conn.from_dial), (&conn.trace_id, &dial.trace_id));
    assert_eq!((&dial.triggered_by, &dial.established_conn), (&request.trace_id, &conn.trace_id));
    assert_eq!(conn.addr_tuple.dst_port, proxy.addr.port(), "the connection leads to the proxy");
    let target = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    assert_eq!(dial.dst_address, target, "the dial names the origin");
    assert!(!serde_json::to_string(&trace).unwrap().contains(PASSWORD));
    assert!(!format!("{:?}", observed.sink).contains(PASSWORD));
}

#[tokio::test]
async fn requests_through_an_http_proxy_are_linked() {
    require_tool!("tinyproxy");
    let web = Web::start(async |_| reply("hello"));
    check_request(&tinyproxy("BasicAuth joe secret"), "http", &web.url("/")).await;
}

#[tokio::test]
async fn requests_through_a_socks_proxy_are_linked() {
    require_tool!("microsocks");
    let web = Web::start(async |_| reply("hello"));
    let proxy = microsocks(true);
    for scheme in ["socks5", "socks5h"] {
        check_request(&proxy, scheme, &web.url("/")).await;
    }
}

#[tokio::test]
async fn tls_inside_a_proxy_tunnel_is_linked() {
    require_tool!("tinyproxy", "microsocks");
    let authority = Authority::new("known");
    let web = Web::tls(authority.issue(&["127.0.0.1"]).server(), async |_| reply("hello"));
    let url = format!("https://{}/", web.addr());
    for (proxy, scheme) in [(tinyproxy("BasicAuth joe secret"), "http"), (microsocks(true), "socks5h")] {
        let variant = Variant::observed(authority.store());
        let proxy = Proxy::all(proxy.url_with_login(scheme)).unwrap();
        let client = variant.builder().proxy(proxy).build().unwrap();
        let response = variant.send(client.get(&url)).await.unwrap();
        let handle = response.request_handle().unwrap().clone();
        assert_eq!(response.text().await.unwrap(), "hello");
        let trace = variant.finished();
        let (request, conn) = linked(&trace, &handle);
        let [tunnel] = &trace.tls_tunnels[..] else { panic!("expected one tunnel") };
        assert_eq!(request.tls_tunnel, tunnel.trace_id, "{scheme}");
        assert_eq!(tunnel.tcp_conn, conn.expect("a linked connection").trace_id);
        assert_eq!(tunnel.peer_certs[0].sans, ["127.0.0.1"]);
        assert!(!serde_json::to_string(&trace).unwrap().contains(PASSWORD));
    }
}

#[tokio::test]
async fn a_refusal_by_the_proxy_fails_the_dial_and_the_request() {
    require_tool!("tinyproxy", "microsocks");
    let web = Web::start(async |_| reply("hello"));
    for (proxy, scheme) in [(tinyproxy("BasicAuth joe secret"), "http"), (microsocks(true), "socks5h")] {
        // For an `https` URL, the tunnel through the proxy is part of the dial.
        let url = format!("https://{}/", web.addr());
        let proxy_url = proxy.url(scheme);
        let (observed, outcome) = same(async |variant| {
            let client = variant.builder().proxy(Proxy::all(&proxy_url).unwrap()).build().unwrap();
            answer(variant.send(client.get(&url)).await).await
        })
        .await;
        assert_eq!(outcome.unwrap_err().is, ["request", "connect"], "{scheme}");
        let trace = observed.finished();
        assert!(trace.dials[0].failure.is_some() && trace.tls_tunnels.is_empty(), "{trace:#?}");
        assert_eq!(trace.http_requests[0].failure, trace.dials[0].failure);
    }
}
