//! Tunnels that are opened with CONNECT, through tinyproxy and squid.

use crate::{Site, client, finished, get, proxy, stories, story};
use http::StatusCode;
use nettrace::{
    Failure,
    client::HttpVersion,
    proxy::ProxyError,
    record::{EndReason, HttpReqTrace},
};
use std::error::Error;
use test_support::{
    check,
    proxies::{ProxyServer, squid, tinyproxy},
    raw::Refused,
    require::require_tool,
};

fn proxy_error<'a>(error: &'a (dyn Error + 'static)) -> &'a ProxyError {
    test_support::errors::find(error).expect("a `ProxyError` among the sources")
}

#[tokio::test]
async fn requests_share_a_connect_tunnel() {
    require_tool!("tinyproxy", "squid");
    let site = Site::new();
    let web = site.web(&["h2", "http/1.1"]);
    let target = format!("localhost:{}", web.addr().port());
    let servers = [(tinyproxy("BasicAuth joe secret"), (1, 0)), (squid(None), (1, 1))];
    for (server, version) in servers {
        let name = format!("http://***@{}", server.addr);
        let (client, sink) =
            client(proxy(&server.url_with_login("http")), |builder| builder.roots(site.roots()));
        for _ in 0..2 {
            assert_eq!(get(&client, &format!("https://{target}/a")).await.unwrap(), "200 hello /a");
        }
        let trace = finished(&client, &sink).await;
        let [first, second] = &stories(&trace)[..] else { panic!("two requests") };
        for story in [first, second] {
            assert_eq!(story.request.network_proxy, name);
            assert_eq!(story.request.proto_major, 2);
            assert_eq!(story.tunnel.unwrap().server_name, "localhost");
            assert!(story.proxy_tunnel.is_none());
            assert_eq!(story.conn().addr_tuple.dst_port, server.addr.port());
        }
        assert_eq!(first.dial.unwrap().dst_address, server.addr.to_string());
        assert!(second.connect.is_none() && second.dial.is_none());

        let connect = first.connect();
        assert_eq!((connect.req_method.as_str(), connect.req_url.as_str()), ("CONNECT", target.as_str()));
        assert_eq!((connect.resp_status_code, &connect.end_reason), (200, &Some(EndReason::Closed)));
        assert_eq!((connect.proto_major, connect.proto_minor), version);
        assert_eq!(connect.tcp_conn, first.request.tcp_conn);
        assert!(connect.tls_tunnel.is_undefined() && connect.proxy_tls_tunnel.is_undefined());
        assert_eq!(connect.network_proxy, name);
        assert!(connect.req_header.get("host").is_some_and(|host| host.field_val == target));
        assert!(!connect.first_byte_at.is_undefined() && !connect.conn_acquired_at.is_undefined());

        // Only the request that opened the tunnel has proxy time.
        let timings = first.request.timings(&trace);
        assert!(timings.proxy.is_some_and(|time| !time.is_zero()) && timings.tls.is_some(), "{timings}");
        assert!(second.request.timings(&trace).proxy.is_none());
    }
}

#[track_caller]
fn assert_refused(connect: &HttpReqTrace, status: u16, failure: &Failure) {
    assert_eq!(connect.resp_status_code, status);
    assert_eq!(connect.failure.as_ref(), Some(failure));
    assert_eq!(connect.end_reason, Some(EndReason::Failed));
}

/// Requests `target` through the proxy, asserts that the proxy refuses the CONNECT, and returns the error message.
async fn refused_connect(
    server: &ProxyServer,
    scheme: &str,
    target: &str,
    status: u16,
    failure: Failure,
) -> String {
    let mut message = String::new();
    for version in [HttpVersion::Auto, HttpVersion::Http1Only] {
        let proxy = proxy(&server.url_with_login(scheme));
        let (client, sink) = client(proxy, |builder| builder.http_version(version));
        let error = get(&client, &format!("https://{target}/")).await.unwrap_err();
        assert_eq!(error.failure(), failure, "{error}");
        assert_eq!(proxy_error(&error).status(), StatusCode::from_u16(status).ok());
        message = error.to_string();

        // The request's own trace contains the same records.
        let slice = error.request().trace();
        check::running(&slice);
        let slice_story = story(&slice);
        assert_refused(slice_story.connect(), status, &failure);
        let trace = finished(&client, &sink).await;
        let story = story(&trace);
        assert_refused(story.connect(), status, &failure);
        assert_eq!(story.request.failure, Some(failure.clone()));
        assert_eq!(story.request.req_error, message);
        assert_eq!(story.conn().trace_id, story.connect().tcp_conn);
        assert!(story.tunnel.is_none());
        let (proxy, total) = (story.request.timings(&trace).proxy, story.request.timings(&trace).total);
        assert!(proxy.is_some() && proxy <= total);
    }
    message
}

#[tokio::test]
async fn a_refused_connect_names_the_proxy_and_the_target() {
    require_tool!("tinyproxy");
    let server = tinyproxy("BasicAuth joe secret\nConnectPort 443");
    let message = refused_connect(&server, "http", "localhost:444", 403, Failure::ProxyRefused).await;
    let expected = format!(
        "the proxy http://***@{} did not connect to localhost:444: 403 Access violation",
        server.addr
    );
    assert_eq!(message, expected);
}

#[tokio::test]
async fn an_unreachable_target_fails_the_connect() {
    require_tool!("tinyproxy", "squid");
    let target = Refused::on("127.0.0.1:0");
    let target_addr = target.addr.to_string();
    let message =
        refused_connect(&tinyproxy("BasicAuth joe secret"), "http", &target_addr, 500, Failure::ProxyRefused)
            .await;
    assert!(
        message.ends_with(&format!("did not connect to {target_addr}: 500 Unable to connect")),
        "{message}"
    );
    let message = refused_connect(&squid(None), "http", &target_addr, 503, Failure::ProxyRefused).await;
    assert!(message.ends_with("503 Service Unavailable"), "{message}");
}

#[tokio::test]
async fn a_forbidden_target_fails_the_connect() {
    require_tool!("squid");
    let message = refused_connect(&squid(None), "http", "127.0.0.9:443", 403, Failure::ProxyRefused).await;
    assert!(message.ends_with("403 Forbidden"), "{message}");
}

#[tokio::test]
async fn missing_or_wrong_credentials_fail_the_connect() {
    require_tool!("tinyproxy", "squid");
    // tinyproxy answers wrong credentials with 401, squid with 407.
    for (server, rejected_status) in [(tinyproxy("BasicAuth joe secret"), 401), (squid(None), 407)] {
        let without_login = proxy(&server.url("http"));
        let wrong = without_login.credentials("joe", "wrong").unwrap();
        let cases =
            [(without_login, 407, "there are no credentials"), (wrong, rejected_status, "were not accepted")];
        for (proxy, status, hint) in cases {
            let (client, sink) = client(proxy, |builder| builder);
            let error = get(&client, "https://localhost:444/").await.unwrap_err();
            assert_eq!(error.failure(), Failure::ProxyAuthenticationRequired);
            assert!(error.to_string().contains(&format!("localhost:444: {status} ")), "{error}");
            assert!(error.to_string().contains(hint), "{error}");
            let trace = finished(&client, &sink).await;
            let connect = story(&trace).connect();
            assert_refused(connect, status, &Failure::ProxyAuthenticationRequired);
            let field = if status == 407 { "proxy-authenticate" } else { "www-authenticate" };
            let challenge = connect.resp_header.get(field).map(|field| field.field_val.as_str());
            assert!(
                status == 401 || challenge.is_some_and(|challenge| challenge.starts_with("Basic ***")),
                "{challenge:?}"
            );
        }
    }
}

/// HTTP/2 without TLS uses a CONNECT tunnel, so the proxy does not forward the request itself.
#[tokio::test]
async fn http2_with_prior_knowledge_is_tunnelled() {
    require_tool!("tinyproxy");
    let (server, web) = (tinyproxy(""), test_support::web::Web::start(crate::greet));
    let (client, sink) =
        client(proxy(&server.url("http")), |builder| builder.http_version(HttpVersion::Http2Only));
    assert_eq!(get(&client, &web.url("/a")).await.unwrap(), "200 hello /a");
    let trace = finished(&client, &sink).await;
    let story = story(&trace);
    assert_eq!((story.request.proto_major, story.connect().resp_status_code), (2, 200));
}
