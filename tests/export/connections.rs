//! The spans of connections: attempts, proxies, retries.

use crate::{client, decoded::SpanExt as _, exported, trace_of};
use nettrace::{proxy::Proxy, tls::Roots};
use std::sync::Arc;
use test_support::{
    dns::DnsServer,
    pki::Authority,
    raw::Server,
    web::{Web, reply},
};
use tokio_rustls::TlsAcceptor;

#[tokio::test]
async fn each_attempt_has_a_span_also_one_that_failed() {
    let web = Web::start(async |_| reply("hello"));
    // Nothing listens on the port at the first address.
    let nameserver = DnsServer::answering(&["127.0.0.2", "127.0.0.1"]).await;
    let (client, sink) = client(|builder| builder.nameservers([nameserver.addr()]));
    let port = web.addr().port();
    let trace = trace_of(&sink, &client, &[&format!("http://web.test:{port}/")]).await;
    let spans = exported(&trace);
    let setup = spans.only(&format!("HTTP connection_setup web.test:{port}"));
    let refused = spans.only(&format!("socket connect 127.0.0.2:{port}"));
    let established = spans.only(&format!("socket connect 127.0.0.1:{port}"));
    assert!(refused.is_error() && refused.text("error.type") == "connection_refused", "{refused:?}");
    assert!(established.status.is_none() && setup.status.is_none(), "{setup:?}");
    assert_eq!(setup.text("network.peer.address"), "127.0.0.1");
    let conn = trace.tcp_conns.iter().find(|conn| !conn.connected && !conn.from_resolver).unwrap();
    refused.assert_times(&trace, conn.handshake_begin_at, conn.handshake_end_at);
    assert!(spans.only("GET").links_to(setup));
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_an_error_of_the_lookup() {
    let nameserver = DnsServer::start(|query| query.nothing(hickory_proto::op::ResponseCode::NXDomain)).await;
    let (client, sink) = client(|builder| builder.nameservers([nameserver.addr()]));
    let spans = exported(&trace_of(&sink, &client, &["http://web.test:81/"]).await);
    for name in ["DNS lookup web.test", "HTTP connection_setup web.test:81", "GET"] {
        let span = spans.only(name);
        assert!(span.is_error() && span.text("error.type") == "dns_nxdomain_error", "{span:?}");
    }
}

#[tokio::test]
async fn a_handshake_that_failed_is_an_error_of_the_setup() {
    let (trusted, other) = (Authority::new("trusted"), Authority::new("other"));
    let web = Web::tls(other.issue(&["127.0.0.1"]).server(), async |_| reply(""));
    let (client, sink) = client(|builder| builder.roots(Roots::from_pem(trusted.pem()).unwrap()));
    let trace = trace_of(&sink, &client, &[&format!("https://{}/", web.addr())]).await;
    let spans = exported(&trace);
    let setup = spans.only(&format!("HTTP connection_setup {}", web.addr()));
    let handshake = spans.only("TLS client handshake 127.0.0.1");
    for span in [setup, handshake, spans.only("GET")] {
        assert!(span.is_error() && span.text("error.type") == "ssl_unknown_authority", "{span:?}");
    }
    let attempt = spans.only(&format!("socket connect {}", web.addr()));
    assert!(attempt.status.is_none(), "TCP connected: {attempt:?}");
    setup.assert_times(&trace, trace.dials[0].dial_begin_at, trace.tls_tunnels[0].handshake_end_at);
}

#[tokio::test]
async fn a_connect_to_a_proxy_is_a_child_of_the_setup() {
    let authority = Authority::new("test CA");
    let acceptor = TlsAcceptor::from(Arc::new(authority.issue(&["web.test"]).server()));
    // A proxy that is the server behind it, too.
    let proxy = Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        let mut conn = conn.upgrade(|stream| acceptor.accept(stream)).await?;
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
        conn.read_to_end().await
    });
    let (client, sink) = client(|builder| {
        let address: Proxy = format!("http://user:secret@{}", proxy.addr()).parse().unwrap();
        builder.roots(Roots::from_pem(authority.pem()).unwrap()).proxy(address)
    });
    let trace = trace_of(&sink, &client, &["https://web.test/"]).await;
    let spans = exported(&trace);
    let setup = spans.only(&format!("HTTP connection_setup {}", proxy.addr()));
    let connect = spans.only("CONNECT");
    assert!(spans.children_of(setup).contains(&connect) && connect.links.is_empty(), "{connect:?}");
    assert_eq!(
        (connect.text("server.address"), connect.number("server.port")),
        ("web.test".into(), Some(443))
    );
    assert!(spans.children_of(setup).contains(&spans.only("TLS client handshake web.test")));
    assert!(spans.only("GET").links_to(setup) && setup.status.is_none());
    assert!(!format!("{spans:?}").contains("secret"), "{spans:?}");
}
