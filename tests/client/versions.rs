//! The choice of the HTTP version.

use nettrace::client::HttpVersion;
use nettrace::tls::Roots;

use crate::{client, read};
use test_support::pki::Authority;
use test_support::web::{Web, reply};

/// Makes a request to a TLS server with the ALPN protocols `supported`. Returns the version that the server saw and the
/// recorded major version.
async fn version_over_tls(version: HttpVersion, supported: &[&str]) -> (String, u8) {
    let authority = Authority::new("versions");
    let mut config = authority.issue(&["127.0.0.1"]).server();
    config.alpn_protocols = supported.iter().map(|name| name.as_bytes().to_vec()).collect();
    let web = Web::tls(config, async |request| reply(format!("{:?}", request.version)));
    let roots = Roots::from_pem(authority.pem()).unwrap();
    let (client, sink) = client(|builder| builder.http_version(version).roots(roots));
    let (_, body) = read(client.get(format!("https://{}/", web.addr())).await).await;
    let trace = sink.snapshot("");
    let request = &trace.http_requests[0];
    let tunnel = trace.tls_tunnels.get(&request.tls_tunnel).expect("a tunnel");
    let agreed = if body == "HTTP/2.0" { "h2" } else { "http/1.1" };
    assert!(supported.is_empty() || tunnel.negotiated_proto == agreed, "{}", tunnel.negotiated_proto);
    (body, request.proto_major)
}

#[tokio::test]
async fn alpn_selects_the_version_over_tls() {
    let h1 = ("HTTP/1.1".to_owned(), 1);
    let h2 = ("HTTP/2.0".to_owned(), 2);
    for (version, supported, expected) in [
        (HttpVersion::Auto, &["h2", "http/1.1"][..], &h2),
        (HttpVersion::Auto, &["http/1.1"], &h1),
        (HttpVersion::Auto, &[], &h1),
        (HttpVersion::PreferHttp1, &["http/1.1", "h2"], &h1),
        (HttpVersion::PreferHttp1, &["h2"], &h2),
        (HttpVersion::Http1Only, &["h2", "http/1.1"], &h1),
        (HttpVersion::Http2Only, &["h2", "http/1.1"], &h2),
    ] {
        assert_eq!(&version_over_tls(version, supported).await, expected, "{version:?} to {supported:?}");
    }
}

#[tokio::test]
async fn http1_is_used_without_tls_unless_http2_is_required() {
    let web = Web::start(async |request| reply(format!("{:?}", request.version)));
    for (version, expected) in [
        (HttpVersion::Auto, "HTTP/1.1"),
        (HttpVersion::PreferHttp1, "HTTP/1.1"),
        (HttpVersion::Http1Only, "HTTP/1.1"),
        (HttpVersion::Http2Only, "HTTP/2.0"),
    ] {
        let (client, _) = client(|builder| builder.http_version(version));
        assert_eq!(read(client.get(web.url("/")).await).await.1, expected, "{version:?}");
    }
}

#[tokio::test]
async fn a_handshake_without_a_common_protocol_fails() {
    let authority = Authority::new("versions");
    let mut config = authority.issue(&["127.0.0.1"]).server();
    config.alpn_protocols = vec!["h2".into()];
    let web = Web::tls(config, async |_| reply("never"));
    let roots = Roots::from_pem(authority.pem()).unwrap();
    let (client, sink) = client(|builder| builder.http_version(HttpVersion::Http1Only).roots(roots));
    let error = client.get(format!("https://{}/", web.addr())).await.unwrap_err();
    assert_eq!(sink.snapshot("").tls_tunnels[0].alert, "received no_application_protocol", "{error}");
}

/// A configuration without ALPN protocols gets those of the client's HTTP version.
#[tokio::test]
async fn alpn_protocols_of_a_given_configuration_take_precedence() {
    for (own, expected) in [(&["http/1.1"][..], "HTTP/1.1"), (&[], "HTTP/2.0")] {
        let authority = Authority::new("versions");
        let mut config = authority.issue(&["127.0.0.1"]).server();
        config.alpn_protocols = vec!["h2".into(), "http/1.1".into()];
        let web = Web::tls(config, async |request| reply(format!("{:?}", request.version)));
        let mut tls = rustls::ClientConfig::builder_with_provider(test_support::pki::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(authority.store())
            .with_no_client_auth();
        tls.alpn_protocols = own.iter().map(|name| name.as_bytes().to_vec()).collect();
        let (client, _) = client(|builder| builder.tls_config(tls.into()));
        assert_eq!(read(client.get(format!("https://{}/", web.addr())).await).await.1, expected);
    }
}
