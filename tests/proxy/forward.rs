//! Requests to `http` URLs, which an HTTP proxy forwards.

use crate::{client, finished, get, greet, proxy, stories, story};
use nettrace::{Failure, record::EndReason};
use std::sync::Arc;
use test_support::{
    check,
    proxies::{squid, tinyproxy},
    raw::{Refused, Server},
    require::require_tool,
    web::{Web, redirect},
};
use tokio::sync::Notify;

#[tokio::test]
async fn tinyproxy_forwards_http_requests() {
    require_tool!("tinyproxy");
    let (server, web) = (tinyproxy(""), Web::start(greet));
    let (client, sink) = client(proxy(&server.url("http")), |builder| builder);
    assert_eq!(get(&client, &web.url("/a?b")).await.unwrap(), "200 hello /a");
    let requests = web.requests();
    assert!(requests[0].header("via").contains("tinyproxy"), "{requests:?}");
    assert_eq!(
        (requests[0].uri.to_string().as_str(), requests[0].header("host")),
        ("/a?b", &*web.addr().to_string())
    );

    let trace = finished(&client, &sink).await;
    let story = story(&trace);
    assert_eq!(story.request.network_proxy, server.url("http"));
    assert_eq!(story.request.req_url, web.url("/a?b"));
    assert!(story.connect.is_none() && story.tunnel.is_none());
    assert_eq!(story.conn().addr_tuple.dst_port, server.addr.port());
    assert_eq!(story.dial.unwrap().dst_address, server.addr.to_string());
    assert_eq!(
        story.request.resp_header.get("via").map(|via| via.field_val.contains("tinyproxy")),
        Some(true)
    );
}

#[tokio::test]
async fn credentials_are_sent_to_the_proxy_only() {
    require_tool!("tinyproxy", "squid");
    let web = Web::start(greet);
    for server in [tinyproxy("BasicAuth joe secret"), squid(None)] {
        let (client, sink) = client(proxy(&server.url_with_login("http")), |builder| builder);
        assert_eq!(get(&client, &web.url("/")).await.unwrap(), "200 hello /");
        assert!(!web.requests().last().unwrap().headers.contains_key("proxy-authorization"));
        let trace = finished(&client, &sink).await;
        assert_eq!(story(&trace).request.network_proxy, format!("http://***@{}", server.addr));
    }
}

/// A response of the proxy itself is returned like one of the server, not as an error.
#[tokio::test]
async fn missing_or_wrong_credentials_yield_a_response() {
    require_tool!("tinyproxy", "squid");
    let web = Web::start(greet);
    for (server, rejected) in [(tinyproxy("BasicAuth joe secret"), 401), (squid(None), 407)] {
        let wrong = proxy(&server.url("http")).credentials("joe", "wrong").unwrap();
        for (proxy, status) in [(proxy(&server.url("http")), 407), (wrong, rejected)] {
            let (client, sink) = client(proxy, |builder| builder);
            let response = client.get(web.url("/")).await.unwrap();
            assert_eq!(response.status(), status);
            drop(response);
            let trace = finished(&client, &sink).await;
            assert_eq!(story(&trace).request.resp_status_code, status);
        }
    }
    assert!(web.requests().is_empty());
}

#[tokio::test]
async fn an_unreachable_target_yields_the_proxys_response() {
    require_tool!("squid");
    let (server, refused) = (squid(None), Refused::on("127.0.0.1:0"));
    let (client, sink) = client(proxy(&server.url_with_login("http")), |builder| builder);
    let answer = get(&client, &format!("http://{}/", refused.addr)).await.unwrap();
    assert!(answer.starts_with("503 "), "{answer}");
    let trace = finished(&client, &sink).await;
    let error = story(&trace).request.resp_header.get("x-squid-error").unwrap();
    assert_eq!(error.field_val, "ERR_CONNECT_FAIL 111");
}

#[tokio::test]
async fn forwarded_requests_to_all_servers_share_a_connection() {
    require_tool!("squid");
    let (server, first, second) = (squid(None), Web::start(greet), Web::start(greet));
    let (client, sink) = client(proxy(&server.url_with_login("http")), |builder| builder);
    for web in [&first, &second, &first] {
        get(&client, &web.url("/x")).await.unwrap();
    }
    assert_eq!([first.requests().len(), second.requests().len()], [2, 1]);
    for web in [first, second] {
        assert!(web.requests().iter().all(|request| request.header("host") == web.addr().to_string()));
    }
    let trace = finished(&client, &sink).await;
    assert_eq!((trace.dials.len(), trace.tcp_conns.len()), (1, 1));
    for story in stories(&trace) {
        assert_eq!(story.request.network_proxy, format!("http://***@{}", server.addr));
        assert_eq!(story.request.tcp_conn, trace.tcp_conns[0].trace_id);
    }
}

/// If the proxy has closed the pooled connection, the same request is sent again over a new one.
#[tokio::test]
async fn a_forwarded_request_is_retried_over_a_new_connection() {
    let close = Arc::new(Notify::new());
    let close_now = close.clone();
    let server = Server::start(async move |mut conn| {
        let head = conn.read_head().await?;
        assert!(head.starts_with("GET http://web.test/x HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("host: web.test\r\n"), "{head}");
        assert!(head.contains("proxy-authorization: Basic am9lOnNlY3JldA==\r\n"), "{head}");
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
        close_now.notified().await;
        conn.close().await
    });
    let (client, sink) = client(proxy(&format!("http://joe:secret@{}", server.addr())), |builder| builder);
    assert_eq!(get(&client, "http://web.test/x").await.unwrap(), "200 ok");
    close.notify_one();
    server.ended_unseen(1).await;
    assert_eq!(get(&client, "http://web.test/x").await.unwrap(), "200 ok");
    close.notify_one();
    let trace = finished(&client, &sink).await;
    assert_eq!(stories(&trace)[1].request.attempts.len(), 2);
    check::finished(&trace);
}

#[tokio::test]
async fn an_unreachable_proxy_fails_the_request() {
    let refused = Refused::on("127.0.0.1:0");
    let (client, sink) = client(proxy(&format!("http://joe:secret@{}", refused.addr)), |builder| builder);
    for url in ["http://web.test/", "https://web.test/"] {
        let error = get(&client, url).await.unwrap_err();
        assert_eq!(error.failure(), Failure::ConnectionRefused);
        assert!(error.to_string().contains(&refused.addr.to_string()), "{error}");
        let trace = error.request().trace();
        let story = story(&trace);
        assert_eq!(story.request.network_proxy, format!("http://***@{}", refused.addr));
        assert_eq!(story.dial.unwrap().dst_address, refused.addr.to_string());
        assert_eq!(story.request.end_reason, Some(EndReason::Failed));
    }
    assert_eq!(finished(&client, &sink).await.dials.len(), 2);
}

#[tokio::test]
async fn every_redirect_hop_goes_through_the_proxy() {
    require_tool!("squid");
    let server = squid(None);
    let last = Web::start(greet);
    let to = last.url("/end");
    let first = Web::start(async move |_| redirect(302, &to));
    let (client, sink) = client(proxy(&server.url_with_login("http")), |builder| builder);
    assert_eq!(get(&client, &first.url("/begin")).await.unwrap(), "200 hello /end");
    let trace = finished(&client, &sink).await;
    let stories = stories(&trace);
    assert_eq!(stories[1].request.prev_hop, stories[0].request.trace_id);
    let name = format!("http://***@{}", server.addr);
    assert!(stories.iter().all(|story| story.request.network_proxy == name));
}
