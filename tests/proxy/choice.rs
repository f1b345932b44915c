//! How a proxy is chosen for a request, and which requests may share a connection.

use crate::{Site, client, finished, get, greet, proxy, stories};
use http::Uri;
use nettrace::{Failure, TraceSink, proxy::ProxySelector};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use test_support::{
    check,
    proxies::{microsocks, squid, tinyproxy},
    require::require_tool,
    web::{Web, redirect},
};

#[tokio::test]
async fn the_selector_is_called_for_every_request_and_redirect_hop() {
    require_tool!("tinyproxy", "microsocks");
    let (http, socks) = (tinyproxy(""), microsocks(false));
    let last = Web::start(greet);
    let to = last.url("/end");
    let first = Web::start(async move |_| redirect(302, &to));
    let selector_calls = Arc::new(Mutex::new(Vec::new()));
    let candidates = [proxy(&http.url("http")), proxy(&socks.url("socks5"))];
    let calls = selector_calls.clone();
    let selector = ProxySelector::new(move |uri: &Uri| {
        calls.lock().unwrap().push(uri.to_string());
        Ok(match uri.path() {
            "/begin" => Some(candidates[0].clone()),
            "/end" => Some(candidates[1].clone()),
            _ => None,
        })
    });
    let (client, sink) = client(selector, |builder| builder);
    get(&client, &first.url("/begin")).await.unwrap();
    get(&client, &last.url("/direct")).await.unwrap();
    assert_eq!(*selector_calls.lock().unwrap(), [first.url("/begin"), last.url("/end"), last.url("/direct")]);
    let trace = finished(&client, &sink).await;
    let proxies: Vec<_> =
        stories(&trace).iter().map(|story| story.request.network_proxy.to_string()).collect();
    assert_eq!(proxies, [http.url("http"), socks.url("socks5"), String::new()]);
    assert_eq!(trace.tcp_conns.len(), 3, "no two requests share a connection");
}

#[tokio::test]
async fn an_error_of_the_selector_fails_the_request() {
    let (client, sink) = client(ProxySelector::new(|_| Err("who knows".into())), |builder| builder);
    let error = get(&client, "http://web.test/").await.unwrap_err();
    assert!(matches!(error.failure(), Failure::Unknown(_)) && error.to_string() == "who knows", "{error}");
    let trace = finished(&client, &sink).await;
    assert!(trace.dials.is_empty() && trace.http_requests[0].network_proxy.is_empty());
}

/// A connection is reused only for the same proxy and login, even over HTTP/2, where one connection to the server would
/// be enough.
#[tokio::test]
async fn connections_are_not_shared_between_proxies_and_logins() {
    require_tool!("squid", "microsocks");
    let site = Site::new();
    let web = site.web(&["h2"]);
    let (http, socks) = (squid(None), microsocks(false));
    let with_login = proxy(&http.url_with_login("http"));
    let routes = [
        None,
        Some(with_login.clone()),
        Some(proxy(&socks.url("socks5"))),
        Some(proxy(&socks.url("socks5h"))),
        Some(proxy(&socks.url_with_login("socks5h"))),
    ];
    let current = Arc::new(Mutex::new(None));
    let selected = current.clone();
    let selector = ProxySelector::new(move |_: &Uri| Ok(selected.lock().unwrap().clone()));
    let (client, sink) = client(selector, |builder| builder.roots(site.roots()));
    let url = format!("https://localhost:{}/", web.addr().port());
    for route in routes.iter().chain(&routes) {
        current.lock().unwrap().clone_from(route);
        get(&client, &url).await.unwrap();
    }
    let trace = finished(&client, &sink).await;
    assert_eq!(trace.tcp_conns.len(), routes.len());
    for (story, route) in stories(&trace).iter().zip(routes.iter().chain(&routes)) {
        let name = route.as_ref().map(ToString::to_string).unwrap_or_default();
        assert_eq!(story.request.network_proxy, name);
    }
}

#[tokio::test]
async fn no_proxy_hosts_are_connected_directly() {
    require_tool!("tinyproxy");
    let (server, web) = (tinyproxy(""), Web::start(greet));
    let selector = ProxySelector::from(proxy(&server.url("http"))).no_proxy("web.test, 127.0.0.0/8");
    let (client, sink) = client(selector, |builder| builder);
    let port = web.addr().port();
    get(&client, &web.url("/")).await.unwrap();
    get(&client, &format!("http://localhost:{port}/")).await.unwrap();
    let trace = finished(&client, &sink).await;
    let proxies: Vec<_> =
        stories(&trace).iter().map(|story| story.request.network_proxy.to_string()).collect();
    assert_eq!(proxies, [String::new(), server.url("http")]);
}

/// With a disabled sink, the responses are the same and nothing is recorded.
#[tokio::test]
async fn a_disabled_sink_changes_no_response() {
    require_tool!("squid", "microsocks");
    let site = Site::new();
    let (http, socks) = (squid(Some((&site.leaf.pem, &site.leaf.key_pem()))), microsocks(true));
    let (open, secure) = (Web::start(greet), site.web(&["h2"]));
    let proxies = [proxy(&http.url_with_login("https")), proxy(&socks.url_with_login("socks5"))];
    for proxy in proxies {
        for (sink, is_on) in [(TraceSink::disabled(), false), (TraceSink::new(), true)] {
            sink.set_enabled(is_on);
            let client =
                nettrace::Client::builder(&sink).proxy(proxy.clone()).roots(site.roots()).build().unwrap();
            let urls = [open.url("/a"), format!("https://localhost:{}/a", secure.addr().port())];
            for url in urls {
                assert_eq!(get(&client, &url).await.unwrap(), "200 hello /a");
            }
            client.close().await;
            let trace = sink.snapshot("");
            assert_eq!(trace.http_requests.is_empty(), !is_on);
            if is_on {
                check::finished(&trace);
            }
        }
    }
}

/// Recording is switched on or off while the connection through the proxy is being established.
#[tokio::test]
async fn recording_can_be_switched_while_connecting() {
    require_tool!("tinyproxy");
    let (site, server) = (Site::new(), tinyproxy(""));
    let web = site.web(&[]);
    let on = AtomicBool::new(false);
    let sink = TraceSink::new();
    for _ in 0..2 {
        sink.set_enabled(on.fetch_xor(true, Relaxed));
        let selector = ProxySelector::from(proxy(&server.url("http")));
        let client = nettrace::Client::builder(&sink).proxy(selector).roots(site.roots()).build().unwrap();
        let mut response = std::pin::pin!(client.get(format!("https://localhost:{}/", web.addr().port())));
        assert!(futures_util::poll!(response.as_mut()).is_pending());
        sink.set_enabled(on.load(Relaxed));
        response.await.unwrap();
        client.close().await;
        check::finished(&sink.snapshot(""));
    }
}
