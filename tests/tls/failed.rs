//! Handshakes that fail or are dropped.

use std::{error::Error, io, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use hyper_util::rt::TokioIo;
use nettrace::{
    Failure, TraceSink,
    record::EndReason,
    tls::{ClientCertificate, Roots, TlsVersion, TraceTlsLayerBuilder},
};
use rustls::{
    sign::{CertifiedKey, SingleCertAndKey},
    version,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};

use crate::clients::{TestClient, VERSIONS, connect, refused};
use test_support::pki::{self, Authority, serve_tcp, serve_tls_echo};

#[tokio::test]
async fn unacceptable_certificates_fail_the_handshake() {
    let stranger = Authority::new("somebody");
    let client = TestClient::new();
    let trusted = &client.authority;
    let expired =
        trusted.issue_with(&["web.test"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let early =
        trusted.issue_with(&["web.test"], |params| params.not_before = rcgen::date_time_ymd(3000, 1, 1));
    let cases = [
        (stranger.issue(&["web.test"]), Failure::SslUnknownAuthority, "sent unknown_ca", "trusted authority"),
        (expired, Failure::SslInvalidCertificate, "sent certificate_expired", "expired"),
        (early, Failure::SslInvalidCertificate, "sent certificate_expired", "not valid yet"),
        (trusted.issue(&["other.test"]), Failure::SslInvalidHostname, "sent bad_certificate", "other.test"),
    ];
    for (leaf, failure, alert, text) in cases {
        for (name, version, supported) in VERSIONS {
            let client = TestClient { sink: TraceSink::new(), authority: Authority::new("unused") };
            let address = serve_tls_echo(leaf.server_with(&[supported], None)).await;
            let roots = Roots::from_der([trusted.der()]).unwrap();
            let layer = client.builder().roots(roots).min_version(version).max_version(version).build();
            let error = refused(&layer, address).await;
            assert_eq!(error.failure(), failure);
            assert_eq!(error.to_string(), "TLS handshake with web.test failed");
            let io = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
            assert!(io.get_ref().unwrap().is::<rustls::Error>());

            let tunnel = client.tunnel();
            assert_eq!(tunnel.failure.as_ref(), Some(&failure));
            assert_eq!(tunnel.end_reason, Some(EndReason::Failed));
            assert!(tunnel.handshake_err.contains(text), "{}", tunnel.handshake_err);
            assert_eq!((tunnel.alert.as_str(), tunnel.tls_version.as_str()), (alert, name));
            assert_eq!(tunnel.server_name, "web.test");
            assert_eq!(tunnel.cipher_suite, if version == TlsVersion::Tls13 { 0x1302 } else { 0xc02c });
            assert!(["x25519", "X25519MLKEM768"].contains(&tunnel.key_exchange_group.as_str()), "{tunnel:?}");
            assert_eq!(tunnel.peer_certs.len(), 2);
            assert!(tunnel.peer_certs[0].subject.ends_with(".test"));
            assert!(tunnel.handshake_end_at >= tunnel.handshake_begin_at);
        }
    }
}

#[tokio::test]
async fn pinned_certificates_must_be_for_servers_and_name_the_host() {
    use rcgen::ExtendedKeyUsagePurpose::{Any, ServerAuth};

    let for_all = |purposes| pki::self_signed(&["web.test"], |params| params.extended_key_usages = purposes);
    for (pinned, expected) in [
        (for_all(vec![Any]), Err((Failure::SslInvalidCertificate, "extended key usage"))), // webpki rejects it likewise
        (for_all(vec![Any, ServerAuth]), Ok(())),
        (pki::self_signed(&[], |_| {}), Err((Failure::SslInvalidHostname, "\"web.test\", it names no host"))),
    ] {
        let client = TestClient::new();
        let address = serve_tls_echo(pinned.server()).await;
        let layer = client.builder().roots(Roots::from_pem(&pinned.pem).unwrap()).build();
        let outcome = connect(&layer, address, "https://web.test/").await;
        let tunnel = client.tunnel();
        match expected {
            Ok(()) => assert!(outcome.is_ok(), "{}", tunnel.handshake_err),
            Err((failure, text)) => {
                assert_eq!(tunnel.failure, Some(failure));
                assert!(tunnel.handshake_err.contains(text), "{}", tunnel.handshake_err);
            }
        }
    }
}

/// A server must have the private key of the pinned certificate that it presents.
#[tokio::test]
async fn a_pinned_certificate_with_another_key_fails_the_handshake() {
    let pinned = pki::self_signed(&["web.test"], |_| {});
    for (_, version, supported) in VERSIONS {
        let mut config = pinned.server_with(&[supported], None);
        let other = pki::self_signed(&["web.test"], |_| {});
        let key = pki::provider().key_provider.load_private_key(other.key_der()).unwrap();
        let mismatched = CertifiedKey::new(pinned.chain.clone(), key);
        config.cert_resolver = Arc::new(SingleCertAndKey::from(mismatched));
        let address = serve_tls_echo(config).await;
        let client = TestClient::new();
        let roots = Roots::from_pem(&pinned.pem).unwrap();
        let error = refused(
            &client.builder().roots(roots).min_version(version).max_version(version).build(),
            address,
        )
        .await;
        assert_eq!(error.failure(), Failure::SslInvalidCertificate);
        assert!(client.tunnel().handshake_err.contains("bad signature"), "{}", client.tunnel().handshake_err);
    }
}

/// A CA certificate that another CA has issued is not self-signed.
#[tokio::test]
async fn a_ca_certificate_of_a_server_fails_the_handshake() {
    let client = TestClient::new();
    let leaf = client.authority.issue_with(&["web.test"], |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let error = refused(&client.builder().build(), serve_tls_echo(leaf.server()).await).await;
    assert_eq!(error.failure(), Failure::SslInvalidCertificate);
    assert!(client.tunnel().handshake_err.ends_with("not meant for this purpose"), "{:?}", client.tunnel());
}

#[tokio::test]
async fn parameters_after_a_hello_retry_request_are_recorded() {
    let stranger = Authority::new("somebody");
    let config = stranger.issue(&["web.test"]).server_that_retries();
    let client = TestClient::new();
    refused(&client.builder().build(), serve_tls_echo(config).await).await;
    let tunnel = client.tunnel();
    assert_eq!((tunnel.tls_version.as_str(), tunnel.key_exchange_group.as_str()), ("TLSv1.3", "secp384r1"));
    assert!(tunnel.hello_retry_request && tunnel.client_hello_len.is_some_and(|len| len.get() > 100));
}

#[tokio::test]
async fn no_common_alpn_protocol_fails_the_handshake() {
    let client = TestClient::new();
    let mut config = client.authority.issue(&["web.test"]).server();
    config.alpn_protocols = vec![b"spdy/3".into()];
    let address = serve_tls_echo(config).await;
    let error = refused(&client.builder().alpn(["h2"]).build(), address).await;
    assert_eq!(error.failure(), Failure::SslFailedHandshake);
    assert_eq!(client.tunnel().alert, "received no_application_protocol");
}

#[tokio::test]
async fn no_common_version_fails_the_handshake() {
    let client = TestClient::new();
    let address =
        serve_tls_echo(client.authority.issue(&["web.test"]).server_with(&[&version::TLS12], None)).await;
    let error = refused(&client.builder().min_version(TlsVersion::Tls13).build(), address).await;
    assert_eq!(error.failure(), Failure::SslFailedHandshake);
    assert_eq!(client.tunnel().alert, "received protocol_version");
}

#[tokio::test]
async fn a_server_without_tls_fails_the_handshake() {
    for (greeting, is_http) in
        [("HTTP/1.1 400 Bad Request\r\n\r\n", true), ("SSH-2.0-OpenSSH_9.2p1\r\n", false)]
    {
        let client = TestClient::new();
        let address = serve_tcp(async |mut stream: TcpStream| {
            let _ = stream.write_all(greeting.as_bytes()).await;
            let _ = stream.read(&mut [0; 4096]).await;
        })
        .await;
        let error = refused(&client.builder().build(), address).await;
        assert_eq!(error.failure(), Failure::TlsNotTls);
        let tunnel = client.tunnel();
        assert_eq!(tunnel.failure, Some(Failure::TlsNotTls));
        assert_eq!(tunnel.handshake_err.contains("plain HTTP"), is_http, "{}", tunnel.handshake_err);
        assert_eq!((tunnel.tls_version.as_str(), tunnel.cipher_suite), ("", 0));
    }
}

#[tokio::test]
async fn a_closed_connection_fails_the_handshake() {
    let client = TestClient::new();
    let address = serve_tcp(async |mut stream: TcpStream| drop(stream.read(&mut [0; 4096]).await)).await;
    let error = refused(&client.builder().build(), address).await;
    assert_eq!(error.failure(), Failure::EofError);
    let tunnel = client.tunnel();
    assert_eq!((tunnel.failure, tunnel.end_reason), (Some(Failure::EofError), Some(EndReason::Failed)));
    assert_eq!(tunnel.handshake_err, "tls handshake eof");
}

#[tokio::test]
async fn a_reset_connection_fails_the_handshake() {
    let client = TestClient::new();
    let address = serve_tcp(async |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 16]).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    let error = refused(&client.builder().build(), address).await;
    assert_eq!(error.failure(), Failure::ConnectionReset);
    let io = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(io.kind(), io::ErrorKind::ConnectionReset, "the error of the socket");
    assert_eq!(client.tunnel().failure, Some(Failure::ConnectionReset));
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_times_out() {
    let client = TestClient::new();
    let address = serve_tcp(async |stream: TcpStream| {
        let _stream = stream;
        std::future::pending().await
    })
    .await;
    let layer = client.builder().handshake_timeout(Duration::from_secs(10)).build();
    let error = refused(&layer, address).await;
    assert_eq!(error.failure(), Failure::GenericTimeoutError);
    assert_eq!(error.to_string(), "TLS handshake with web.test timed out");
    let io = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(io.kind(), io::ErrorKind::TimedOut);
    let tunnel = client.tunnel();
    assert_eq!(
        (tunnel.failure, tunnel.end_reason),
        (Some(Failure::GenericTimeoutError), Some(EndReason::Timeout))
    );
    assert!(tunnel.handshake_err.contains("10s"), "{}", tunnel.handshake_err);
}

#[tokio::test]
async fn a_dropped_handshake_is_cancelled() {
    let client = TestClient::new();
    let (hello, hello_received) = oneshot::channel();
    let hello = std::sync::Mutex::new(Some(hello));
    let address = serve_tcp(move |mut stream: TcpStream| {
        let hello = hello.lock().unwrap().take();
        async move {
            let _ = stream.read(&mut [0; 16]).await;
            let _ = hello.unwrap().send(());
            std::future::pending().await
        }
    })
    .await;
    let layer = client.builder().build();
    {
        let dial = pin!(connect(&layer, address, "https://web.test/"));
        assert!(matches!(select(dial, hello_received).await, Either::Right(_)));
        let tunnel = client.tunnel();
        assert_eq!((tunnel.end_reason, tunnel.handshake_end_at.is_undefined()), (None, true));
    }
    let tunnel = client.tunnel();
    assert_eq!((tunnel.failure, tunnel.end_reason), (Some(Failure::Interrupted), Some(EndReason::Cancelled)));
    assert!(tunnel.handshake_end_at >= tunnel.handshake_begin_at);
}

#[tokio::test]
async fn a_handshake_dropped_after_the_servers_choice_records_it() {
    let client = TestClient::new();
    let server = serve_tls_echo(client.authority.issue(&["web.test"]).server_that_retries()).await;
    let (second_hello, hello_received) = oneshot::channel();
    let second_hello = std::sync::Mutex::new(Some(second_hello));
    // Forwards the server's HelloRetryRequest, but nothing after the client's second hello.
    let address = serve_tcp(move |mut stream: TcpStream| {
        let second_hello = second_hello.lock().unwrap().take();
        async move {
            let mut server = TcpStream::connect(server).await.unwrap();
            let mut buffer = [0; 4096];
            let len = stream.read(&mut buffer).await.unwrap();
            server.write_all(&buffer[..len]).await.unwrap();
            let len = server.read(&mut buffer).await.unwrap();
            stream.write_all(&buffer[..len]).await.unwrap();
            let _ = stream.read(&mut buffer).await;
            let _ = second_hello.unwrap().send(());
            std::future::pending().await
        }
    })
    .await;
    let layer = client.builder().build();
    {
        let dial = pin!(connect(&layer, address, "https://web.test/"));
        assert!(matches!(select(dial, hello_received).await, Either::Right(_)));
    }
    let tunnel = client.tunnel();
    assert_eq!(tunnel.end_reason, Some(EndReason::Cancelled));
    assert_eq!((tunnel.tls_version.as_str(), tunnel.cipher_suite), ("TLSv1.3", 0x1302));
    assert_eq!(tunnel.key_exchange_group, "secp384r1");
}

#[tokio::test]
async fn a_required_client_certificate_fails_the_tls12_handshake() {
    let client = TestClient::new();
    let leaf = client.authority.issue(&["web.test"]);
    let address = serve_tls_echo(leaf.server_with(&[&version::TLS12], Some(&client.authority))).await;
    let error = refused(&client.builder().build(), address).await;
    assert_eq!(error.failure(), Failure::TlsClientCertificateRequired);
    let tunnel = client.tunnel();
    assert_eq!(
        (tunnel.end_reason, tunnel.alert.as_str()),
        (Some(EndReason::Failed), "received certificate_required")
    );
    assert!(tunnel.handshake_err.ends_with("(the server had asked for a client certificate)"));
    assert_eq!(tunnel.peer_certs[0].subject, "CN=web.test");
}

#[tokio::test]
async fn a_required_client_certificate_fails_the_tls13_tunnel() {
    let clients = Authority::new("clients");
    let stranger = Authority::new("somebody").issue(&["me"]);
    let stranger = ClientCertificate::from_der(&stranger.chain, stranger.key_der().secret_der()).unwrap();
    for (certificate, alert) in [(None, "certificate_required"), (Some(stranger), "unknown_ca")] {
        let client = TestClient::new();
        let leaf = client.authority.issue(&["web.test"]);
        let address = serve_tls_echo(leaf.server_with(&[&version::TLS13], Some(&clients))).await;
        let builder = client.builder();
        let layer = certificate.into_iter().fold(builder, TraceTlsLayerBuilder::client_certificate).build();
        // In TLS 1.3 the client completes the handshake before the server has verified the client's certificate.
        let mut stream = TokioIo::new(connect(&layer, address, "https://web.test/").await.unwrap());
        assert_eq!(client.tunnel().end_reason, None);
        let error = stream.read_u8().await.unwrap_err();
        assert!(error.get_ref().unwrap().is::<rustls::Error>(), "passed on unchanged: {error:?}");
        drop(stream);
        let tunnel = client.tunnel();
        assert_eq!(tunnel.failure, Some(Failure::TlsClientCertificateRequired));
        assert_eq!(tunnel.end_reason, Some(EndReason::Failed));
        assert_eq!(
            (tunnel.alert, tunnel.handshake_err),
            (format!("received {alert}").into(), format!("received fatal alert: {alert}").into())
        );
        assert_eq!((tunnel.tls_version.as_str(), tunnel.peer_certs.len()), ("TLSv1.3", 2));
    }
}
