//! HTTPS proxies: TLS inside TLS.

use crate::{Site, client, finished, get, greet, proxy, stories, story};
use nettrace::{Failure, record::EndReason, tls::Roots};
use test_support::{proxies::squid, require::require_tool, web::Web};

#[tokio::test]
async fn tls_to_the_server_runs_inside_tls_to_the_proxy() {
    require_tool!("squid");
    let site = Site::new();
    let server = squid(Some((&site.leaf.pem, &site.leaf.key_pem())));
    let (secure, open) = (site.web(&["h2", "http/1.1"]), Web::start(greet));
    let (client, sink) =
        client(proxy(&server.url_with_login("https")), |builder| builder.roots(site.roots()));
    let url = format!("https://localhost:{}/a", secure.addr().port());
    for url in [&url, &url, &open.url("/b")] {
        get(&client, url).await.unwrap();
    }
    let trace = finished(&client, &sink).await;
    let [first, second, forwarded] = &stories(&trace)[..] else { panic!("three requests") };
    for story in [first, second] {
        let (outer, inner) = (story.proxy_tunnel.unwrap(), story.tunnel.unwrap());
        assert_eq!((outer.server_name.as_str(), inner.server_name.as_str()), ("", "localhost"));
        assert_eq!((outer.negotiated_proto.as_str(), inner.negotiated_proto.as_str()), ("", "h2"));
        assert_eq!((&outer.tcp_conn, &inner.tcp_conn), (&story.request.tcp_conn, &story.request.tcp_conn));
        assert_ne!(outer.trace_id, inner.trace_id);
        assert_eq!(outer.peer_certs[0].subject, "CN=localhost");
        assert_eq!(story.request.network_proxy, format!("https://***@{}", server.addr));
    }
    let connect = first.connect();
    assert_eq!(connect.proxy_tls_tunnel, first.request.proxy_tls_tunnel);
    assert!(connect.tls_tunnel.is_undefined(), "the CONNECT precedes the TLS handshake with the server");
    let timings = first.request.timings(&trace);
    assert!(timings.proxy.is_some() && timings.tls.is_some(), "{timings}");

    // A forwarded request has only the TLS tunnel to the proxy.
    assert!(forwarded.proxy_tunnel.is_some() && forwarded.tunnel.is_none() && forwarded.connect.is_none());
    assert_eq!(trace.tls_tunnels.len(), 3);
}

#[tokio::test]
async fn an_untrusted_certificate_of_the_proxy_fails_the_request() {
    require_tool!("squid");
    let (site, other) = (Site::new(), Site::of("somebody else"));
    let server = squid(Some((&other.leaf.pem, &other.leaf.key_pem())));
    for url in ["http://localhost:1/", "https://localhost:1/"] {
        let (client, sink) =
            client(proxy(&server.url_with_login("https")), |builder| builder.roots(site.roots()));
        let error = get(&client, url).await.unwrap_err();
        assert_eq!(error.failure(), Failure::SslUnknownAuthority);
        let trace = finished(&client, &sink).await;
        let story = story(&trace);
        let tunnel = story.proxy_tunnel.expect("the tunnel that failed");
        assert_eq!(tunnel.failure, Some(Failure::SslUnknownAuthority));
        assert_eq!(tunnel.peer_certs[0].subject, "CN=localhost");
        assert!(story.tunnel.is_none() && story.connect.is_none());
        assert_eq!(story.conn().trace_id, tunnel.tcp_conn);
        assert_eq!(story.request.network_proxy, format!("https://***@{}", server.addr));
    }
}

/// The tunnel to the proxy is established; the handshake with the server fails.
#[tokio::test]
async fn an_untrusted_certificate_of_the_server_fails_the_request() {
    require_tool!("squid");
    let (site, other) = (Site::new(), Site::of("somebody else"));
    let server = squid(Some((&site.leaf.pem, &site.leaf.key_pem())));
    let web = other.web(&[]);
    let (client, sink) =
        client(proxy(&server.url_with_login("https")), |builder| builder.roots(site.roots()));
    let error = get(&client, &format!("https://localhost:{}/", web.addr().port())).await.unwrap_err();
    assert_eq!(error.failure(), Failure::SslUnknownAuthority);
    let trace = finished(&client, &sink).await;
    let story = story(&trace);
    assert_eq!(story.tunnel.unwrap().end_reason, Some(EndReason::Failed));
    assert_ne!(story.proxy_tunnel.unwrap().end_reason, Some(EndReason::Failed));
    assert_eq!(story.connect().resp_status_code, 200);
}

#[tokio::test]
async fn a_proxy_without_tls_fails_the_request() {
    require_tool!("squid");
    let server = squid(None);
    let (client, sink) = client(proxy(&server.url_with_login("https")), |builder| {
        builder.roots(Roots::from_pem(Site::new().authority.pem()).unwrap())
    });
    let error = get(&client, "https://localhost:1/").await.unwrap_err();
    assert_eq!(error.failure(), Failure::TlsNotTls, "{error}");
    let trace = finished(&client, &sink).await;
    assert!(story(&trace).proxy_tunnel.is_some());
}
