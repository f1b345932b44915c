//! CONNECT through Debian's HTTP proxies.

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
    std::iter::successors(Some(error), |error| (*error).source())
        .find_map(|error| error.downcast_ref())
        .expect("an error of the proxy")
}

#[tokio::test]
async fn tunnels() {
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

        // The time of the CONNECT counts as proxy time only.
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

/// Asks for it and is refused by the proxy.
async fn refused(server: &ProxyServer, scheme: &str, target: &str, status: u16, failure: Failure) -> String {
    let mut said = String::new();
    for version in [HttpVersion::Auto, HttpVersion::Http1Only] {
        let proxy = proxy(&server.url_with_login(scheme));
        let (client, sink) = client(proxy, |builder| builder.http_version(version));
        let error = get(&client, &format!("https://{target}/")).await.unwrap_err();
        assert_eq!(error.failure(), failure, "{error}");
        assert_eq!(proxy_error(&error).status(), StatusCode::from_u16(status).ok());
        said = error.to_string();

        // The trace of the request alone has it all.
        let slice = error.request().trace();
        check::running(&slice);
        let of_slice = story(&slice);
        assert_refused(of_slice.connect(), status, &failure);
        let trace = finished(&client, &sink).await;
        let story = story(&trace);
        assert_refused(story.connect(), status, &failure);
        assert_eq!(story.request.failure, Some(failure.clone()));
        assert_eq!(story.request.req_error, said);
        assert_eq!(story.conn().trace_id, story.connect().tcp_conn);
        assert!(story.tunnel.is_none());
        let (proxy, total) = (story.request.timings(&trace).proxy, story.request.timings(&trace).total);
        assert!(proxy.is_some() && proxy <= total);
    }
    said
}

#[tokio::test]
async fn refused_by_tinyproxy() {
    require_tool!("tinyproxy");
    let server = tinyproxy("BasicAuth joe secret\nConnectPort 443");
    let said = refused(&server, "http", "localhost:444", 403, Failure::ProxyRefused).await;
    let why = format!(
        "the proxy http://***@{} did not connect to localhost:444: 403 Access violation",
        server.addr
    );
    assert_eq!(said, why);
}

#[tokio::test]
async fn to_a_server_that_refuses() {
    require_tool!("tinyproxy", "squid");
    let target = Refused::on("127.0.0.1:0");
    let at = target.addr.to_string();
    let said = refused(&tinyproxy("BasicAuth joe secret"), "http", &at, 500, Failure::ProxyRefused).await;
    assert!(said.ends_with(&format!("did not connect to {at}: 500 Unable to connect")), "{said}");
    let said = refused(&squid(None), "http", &at, 503, Failure::ProxyRefused).await;
    assert!(said.ends_with("503 Service Unavailable"), "{said}");
}

#[tokio::test]
async fn forbidden_by_squid() {
    require_tool!("squid");
    let said = refused(&squid(None), "http", "127.0.0.9:443", 403, Failure::ProxyRefused).await;
    assert!(said.ends_with("403 Forbidden"), "{said}");
}

#[tokio::test]
async fn without_credentials() {
    require_tool!("tinyproxy", "squid");
    // What is wrong in its eyes, tinyproxy calls unauthorized.
    for (server, rejected) in [(tinyproxy("BasicAuth joe secret"), 401), (squid(None), 407)] {
        let bare = proxy(&server.url("http"));
        let wrong = bare.credentials("joe", "wrong").unwrap();
        let cases = [(bare, 407, "there are no credentials"), (wrong, rejected, "were not accepted")];
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
            let asks = connect.resp_header.get(field).map(|field| field.field_val.as_str());
            assert!(status == 401 || asks.is_some_and(|asks| asks.starts_with("Basic ***")), "{asks:?}");
        }
    }
}

/// HTTP/2 without TLS goes through a CONNECT tunnel, so that the proxy sees no request.
#[tokio::test]
async fn for_http2_with_prior_knowledge() {
    require_tool!("tinyproxy");
    let (server, web) = (tinyproxy(""), test_support::web::Web::start(crate::greet));
    let (client, sink) =
        client(proxy(&server.url("http")), |builder| builder.http_version(HttpVersion::Http2Only));
    assert_eq!(get(&client, &web.url("/a")).await.unwrap(), "200 hello /a");
    let trace = finished(&client, &sink).await;
    let story = story(&trace);
    assert_eq!((story.request.proto_major, story.connect().resp_status_code), (2, 200));
}
