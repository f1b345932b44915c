//! Handshakes that succeed.

use futures_util::future::{BoxFuture, join_all};
use hyper_util::{client::legacy::connect::Connection, rt::TokioIo};
use nettrace::{
    ConnRef, Failure, TraceSink,
    record::EndReason,
    tls::{ClientCertificate, TlsVersion, TraceTlsLayer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream as RustlsStream;
use tower::{Layer, ServiceExt, service_fn};

use crate::clients::{TestClient, VERSIONS, connect, exchange, tcp};
use test_support::pki::{Authority, serve_tls, serve_tls_echo};

#[tokio::test]
async fn a_successful_handshake_is_recorded() {
    for (name, version, supported) in VERSIONS {
        let client = TestClient::new();
        let leaf = client.authority.issue(&["web.test", "192.0.2.1"]);
        let address = serve_tls_echo(leaf.server_with(&[supported], None)).await;
        let layer = client.builder().min_version(version).max_version(version).build();
        let stream = exchange(connect(&layer, address, "https://web.test/").await.unwrap()).await.unwrap();

        let open = client.tunnel();
        assert_eq!((open.tls_version.as_str(), open.server_name.as_str()), (name, "web.test"));
        assert_eq!(open.cipher_suite, if version == TlsVersion::Tls13 { 0x1302 } else { 0xc02c });
        assert!(["x25519", "X25519MLKEM768"].contains(&open.key_exchange_group.as_str()), "{open:?}");
        assert_eq!((open.negotiated_proto.as_str(), open.alert.as_str()), ("", ""));
        assert!(!open.did_resume);
        assert!(open.handshake_end_at >= open.handshake_begin_at);
        assert_eq!((open.failure, open.end_reason, open.close_at.is_undefined()), (None, None, true));
        assert_eq!(open.tcp_conn.as_str(), "", "the connection below is not traced");
        let [web, authority] = &*open.peer_certs else { panic!("{:?}", open.peer_certs) };
        assert_eq!((web.subject.as_str(), web.is_ca), ("CN=web.test", false));
        assert!(web.issuer.starts_with("CN=nettrace test CA"), "{}", web.issuer);
        assert_eq!(web.sans, ["web.test", "192.0.2.1"]);
        assert_eq!((&authority.subject, authority.is_ca), (&web.issuer, true));

        drop(stream);
        let closed = client.tunnel();
        assert_eq!((closed.end_reason, closed.failure), (Some(EndReason::Closed), None));
        assert!(closed.close_at >= closed.handshake_end_at);
    }
}

#[tokio::test]
async fn sessions_are_resumed() {
    for (_, version, supported) in VERSIONS {
        let client = TestClient::new();
        let address =
            serve_tls_echo(client.authority.issue(&["web.test"]).server_with(&[supported], None)).await;
        let layer = client.builder().max_version(version).build();
        for _ in 0..2 {
            // The exchange makes the client read the session tickets of TLS 1.3.
            exchange(connect(&layer, address, "https://web.test/").await.unwrap()).await.unwrap();
        }
        let [first, second] = &client.tunnels()[..] else { panic!("two tunnels") };
        assert_eq!((first.did_resume, second.did_resume), (false, true));
        assert_eq!(first.peer_certs, second.peer_certs);
        assert_eq!(first.peer_certs.len(), 2);
    }
}

#[tokio::test]
async fn the_negotiated_protocol_is_recorded() {
    for (offered, chosen) in [(&["h2", "http/1.1"][..], "h2"), (&["http/1.1"], "http/1.1"), (&[], "")] {
        let client = TestClient::new();
        let mut config = client.authority.issue(&["web.test"]).server();
        config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
        let address = serve_tls_echo(config).await;
        let stream =
            connect(&client.builder().alpn(offered).build(), address, "https://web.test/").await.unwrap();
        assert_eq!(stream.connected().is_negotiated_h2(), chosen == "h2");
        assert_eq!(client.tunnel().negotiated_proto, chosen);
    }
}

#[tokio::test]
async fn a_client_certificate_is_sent() {
    for (_, version, supported) in VERSIONS {
        let client = TestClient::new();
        let clients = Authority::new("clients");
        let leaf = client.authority.issue(&["web.test"]);
        let address = serve_tls_echo(leaf.server_with(&[supported], Some(&clients))).await;
        let me = clients.issue(&["me"]);
        let certificate = ClientCertificate::from_pem(&me.pem, me.key_pem()).unwrap();
        let layer = client.builder().max_version(version).client_certificate(certificate).build();
        exchange(connect(&layer, address, "https://web.test/").await.unwrap()).await.unwrap();
        assert_eq!((client.tunnel().failure, client.tunnel().end_reason), (None, Some(EndReason::Closed)));
    }
}

#[tokio::test]
async fn invalid_certificates_are_accepted_on_request() {
    for (_, version, supported) in VERSIONS {
        let client = TestClient::new();
        let leaf = Authority::new("somebody").issue(&["other.test"]);
        let address = serve_tls_echo(leaf.server_with(&[supported], None)).await;
        let layer = client.builder().danger_accept_invalid_certs().max_version(version).build();
        exchange(connect(&layer, address, "https://web.test/").await.unwrap()).await.unwrap();
        assert_eq!(client.tunnel().peer_certs[0].subject, "CN=other.test");
    }
}

#[tokio::test]
async fn always_and_server_name_override_the_uri() {
    let client = TestClient::new();
    let address = serve_tls_echo(client.authority.issue(&["web.test", "127.0.0.1", "::1"]).server()).await;
    let always = client.builder().always();
    exchange(connect(&always.clone().build(), address, "http://web.test/").await.unwrap()).await.unwrap();
    let other = always.server_name("web.test").build();
    exchange(connect(&other, address, "unix://no.such.name/").await.unwrap()).await.unwrap();
    for uri in ["https://127.0.0.1/", "https://[::1]/"] {
        exchange(connect(&client.builder().build(), address, uri).await.unwrap()).await.unwrap();
    }
    let names: Vec<String> = client.tunnels().into_iter().map(|tunnel| tunnel.server_name.into()).collect();
    assert_eq!(names, ["web.test", "web.test", "", ""], "no name is sent for an address");
}

#[tokio::test]
async fn tls_runs_inside_tls() {
    let client = TestClient::new();
    let server = serve_tls_echo(client.authority.issue(&["web.test"]).server()).await;
    // Decrypts the outer TLS and forwards the inner TLS.
    let proxy = serve_tls(client.authority.issue(&["proxy.test"]).server(), move |mut stream| async move {
        let mut server = TcpStream::connect(server).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
    })
    .await;
    let to_proxy = client.builder().server_name("proxy.test").build();
    let connector = client.builder().build().layer(to_proxy.layer(service_fn(move |_| tcp(proxy))));
    let stream = connector.oneshot("https://web.test/".parse().unwrap()).await.unwrap();
    let mut stream = TokioIo::new(stream);
    stream.write_all(&[7; 100_000]).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = vec![0; 100_000];
    stream.read_exact(&mut answer).await.unwrap();
    assert!(answer.iter().all(|byte| *byte == 7));
    drop(stream);
    let names: Vec<String> = client.tunnels().into_iter().map(|tunnel| tunnel.server_name.into()).collect();
    assert_eq!(names, ["proxy.test", "web.test"]);
    assert!(client.tunnels().iter().all(|tunnel| tunnel.end_reason == Some(EndReason::Closed)));
}

#[tokio::test]
async fn the_end_of_a_tunnel_is_recorded() {
    type Close = fn(RustlsStream<TcpStream>) -> BoxFuture<'static, ()>;
    let orderly: Close = |mut stream| {
        Box::pin(async move {
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
    };
    let without_close_notify: Close = |stream| Box::pin(async { drop(stream) });
    let reset: Close = |stream| {
        Box::pin(async move {
            let _ = stream.into_inner().0.set_zero_linger();
        })
    };
    for (_, version, supported) in VERSIONS {
        for (close, reason, failure) in [
            (orderly, EndReason::PeerClosed, None),
            (without_close_notify, EndReason::PeerClosed, None),
            (reset, EndReason::Failed, Some(Failure::ConnectionReset)),
        ] {
            let client = TestClient::new();
            let leaf = client.authority.issue(&["web.test"]);
            let address = serve_tls(leaf.server_with(&[supported], None), move |mut stream| async move {
                let ping = stream.read_u32().await.unwrap();
                stream.write_u32(ping).await.unwrap();
                stream.flush().await.unwrap();
                stream.read_u8().await.unwrap(); // the client has read the echo
                close(stream).await;
            })
            .await;
            let layer = client.builder().max_version(version).build();
            let stream = exchange(connect(&layer, address, "https://web.test/").await.unwrap()).await;
            let mut stream = TokioIo::new(stream.unwrap());
            stream.write_u8(0).await.unwrap();
            stream.flush().await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
            drop(stream);

            let tunnel = client.tunnel();
            assert_eq!(tunnel.handshake_err, "", "the handshake succeeded");
            assert_eq!(tunnel.conn_err.contains("reset"), tunnel.failure.is_some(), "{tunnel:?}");
            assert_eq!((tunnel.end_reason, tunnel.failure), (Some(reason), failure));
        }
    }
}

#[tokio::test]
async fn an_untraced_connection_below_has_no_id() {
    let client = TestClient::new();
    let address = serve_tls_echo(client.authority.issue(&["web.test"]).server()).await;
    let conn_of = |stream: &dyn Connection| {
        let mut extensions = http::Extensions::new();
        stream.connected().get_extras(&mut extensions);
        ConnRef::from_extensions(&extensions).cloned()
    };
    // Without a traced connector below, the connection has a reference but no ID.
    let stream = connect(&client.builder().build(), address, "https://web.test/").await.unwrap();
    assert_eq!(conn_of(&stream).unwrap().id().as_str(), "");
    let disabled = TraceTlsLayer::builder(&TraceSink::disabled()).danger_accept_invalid_certs().build();
    let stream = connect(&disabled, address, "https://web.test/").await.unwrap();
    assert!(conn_of(&stream).is_none());
}

#[cfg(feature = "connect")]
#[tokio::test]
async fn tunnels_are_linked_to_the_connection_below() {
    use nettrace::connect::TraceConnectLayer;

    let client = TestClient::new();
    let server = serve_tls_echo(client.authority.issue(&["web.test"]).server()).await;
    let proxy = serve_tls(client.authority.issue(&["proxy.test"]).server(), move |mut stream| async move {
        let mut server = TcpStream::connect(server).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
    })
    .await;
    let traced = TraceConnectLayer::new(&client.sink).layer(service_fn(move |_| tcp(proxy)));
    let to_proxy = client.builder().server_name("proxy.test").build().layer(traced);
    let connector = client.builder().build().layer(to_proxy);
    let stream = connector.oneshot("https://web.test/".parse().unwrap()).await.unwrap();
    let mut extensions = http::Extensions::new();
    stream.connected().get_extras(&mut extensions);
    let conn = ConnRef::from_extensions(&extensions).unwrap();
    drop(stream);

    let trace = client.sink.snapshot("test");
    let [tcp] = &trace.tcp_conns[..] else { panic!("one connection") };
    assert_eq!(tcp.trace_id, conn.id());
    let links: Vec<_> =
        trace.tls_tunnels.iter().map(|tunnel| (&*tunnel.server_name, &tunnel.tcp_conn)).collect();
    assert_eq!(links, [("proxy.test", &tcp.trace_id), ("web.test", &tcp.trace_id)]);
    for tunnel in trace.tls_tunnels.iter() {
        assert!(tunnel.close_at <= tcp.conn_close_at, "a tunnel ends before the connection below it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_handshakes_record_their_own_certificates() {
    let client = TestClient::new();
    let layer = client.builder().build();
    let stranger = Authority::new("somebody");
    let dials = join_all((0..32).map(async |number| {
        let name = format!("server{number}.test");
        let authority = if number % 2 == 0 { &stranger } else { &client.authority };
        let address = serve_tls_echo(authority.issue(&[&name]).server()).await;
        let layer = layer.clone();
        let dial =
            tokio::spawn(async move { connect(&layer, address, &format!("https://{name}/")).await.is_ok() });
        assert_eq!(dial.await.unwrap(), number % 2 == 1);
    }));
    dials.await;
    let tunnels = client.tunnels();
    assert_eq!(tunnels.len(), 32);
    for tunnel in tunnels {
        assert_eq!(tunnel.peer_certs[0].subject, format!("CN={}", tunnel.server_name));
    }
}
