//! TLS handshakes that fail.

use std::io;

use nettrace::client::HttpVersion;
use nettrace::record::TlsTunnelTrace;
use nettrace::tls::{ClientCertificate, Roots, TlsError};
use rcgen::{CertificateParams, date_time_ymd};
use rustls::{SupportedProtocolVersion, version};

use crate::fixture::{Failed, Fixture, ended, failed, fetched, tls_server};
use test_support::pki::{self, Authority, Leaf};
use test_support::raw::Server;

const VERSIONS: [(&str, &SupportedProtocolVersion); 2] =
    [("TLSv1.2", &version::TLS12), ("TLSv1.3", &version::TLS13)];

#[tokio::test]
async fn a_reset_within_the_handshake_fails_the_request() {
    let fixture = Fixture::new().await;
    let server = Server::start(async |mut conn| {
        conn.read(16).await?;
        conn.reset()
    });
    let failed = failed(&fixture.client(), fixture.https(&server)).await;
    let tunnel = assert_handshake_failed(&failed, "connection_reset");
    assert_eq!((tunnel.tls_version.as_str(), tunnel.peer_certs.len()), ("", 0));
    assert_eq!(ended(failed.outcome.conn()), ("failed", "connection_reset"));
    assert_eq!(failed.cause::<io::Error>().kind(), io::ErrorKind::ConnectionReset, "the socket's error");
}

/// It depends on timing whether the connection is established before it is reset.
#[tokio::test]
async fn a_reset_right_after_the_accept_fails_the_request() {
    for _ in 0..20 {
        let fixture = Fixture::new().await;
        let server = Server::start(async |conn| conn.reset());
        let failed = failed(&fixture.client(), fixture.https(&server)).await;
        assert_eq!(ended(failed.outcome.conn()), ("failed", "connection_reset"));
        match failed.outcome.conn().connected {
            true => drop(assert_handshake_failed(&failed, "connection_reset")),
            false => failed.outcome.assert_dial_failed("failed", "connection_reset"),
        }
    }
}

#[tokio::test]
async fn a_close_within_the_handshake_is_an_eof_error() {
    let fixture = Fixture::new().await;
    let server = Server::start(async |mut conn| {
        conn.finish().await?;
        conn.read_to_end().await
    });
    let failed = failed(&fixture.client(), fixture.https(&server)).await;
    assert_handshake_failed(&failed, "eof_error");
    assert_eq!(ended(failed.outcome.conn()), ("peer-closed", ""));
}

#[tokio::test]
async fn a_certificate_of_an_untrusted_authority_is_refused() {
    let issue = |_: &Fixture| Authority::new("somebody").issue(&["web.test"]);
    assert_refused(issue, "ssl_unknown_authority", "sent unknown_ca", "not signed by a trusted authority")
        .await;
}

#[tokio::test]
async fn a_self_signed_certificate_is_refused_unless_it_is_pinned() {
    for (_, versions) in VERSIONS {
        let fixture = Fixture::new().await;
        let leaf = pki::self_signed(&["web.test"], |_| {});
        let server = tls_server(leaf.server_with(&[versions], None), async |mut conn| {
            conn.read_head().await?;
            conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await?;
            conn.read_to_end().await
        });
        let failed = failed(&fixture.client(), fixture.https(&server)).await;
        let tunnel = assert_handshake_failed(&failed, "ssl_unknown_authority");
        assert_eq!(tunnel.alert, "sent unknown_ca");
        let text = "TLS handshake with web.test failed: invalid peer certificate: \
                    not signed by a trusted authority (self-signed certificate)";
        assert_eq!(
            (failed.error.to_string(), failed.outcome.request.req_error.as_str()),
            (text.into(), text)
        );
        let rustls = failed.cause::<io::Error>().get_ref().and_then(|error| error.downcast_ref());
        let unknown_issuer = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert_eq!(rustls, Some(&unknown_issuer), "the error of rustls");

        let pinning = fixture.builder().roots(Roots::from_pem(&leaf.pem).unwrap()).build().unwrap();
        assert_eq!(fetched(&pinning, fixture.https(&server)).await.0, b"hello");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let end = |params: &mut CertificateParams| params.not_after = date_time_ymd(2001, 1, 1);
    let issue = |fixture: &Fixture| fixture.authority.issue_with(&["web.test"], end);
    assert_refused(issue, "ssl_invalid_certificate", "sent certificate_expired", "expired").await;
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    let issue = |fixture: &Fixture| fixture.authority.issue(&["other.test"]);
    assert_refused(issue, "ssl_invalid_hostname", "sent bad_certificate", "not valid for name").await;
}

/// Asserts that the client refuses the server's certificate, in both versions of TLS.
async fn assert_refused(issue: impl Fn(&Fixture) -> Leaf, failure: &str, alert: &str, text: &str) {
    for (version, versions) in VERSIONS {
        let fixture = Fixture::new().await;
        let server = tls_server(issue(&fixture).server_with(&[versions], None), async |_| Ok(()));
        let failed = failed(&fixture.client(), fixture.https(&server)).await;
        let tunnel = assert_handshake_failed(&failed, failure);
        assert_eq!((tunnel.tls_version.as_str(), tunnel.alert.as_str()), (version, alert));
        assert_eq!(tunnel.peer_certs.len(), 2);
        assert!(tunnel.cipher_suite != 0 && !tunnel.key_exchange_group.is_empty(), "{tunnel:?}");
        assert!(failed.error.to_string().contains(text), "{}", failed.error);
        assert_eq!(ended(failed.outcome.conn()), ("closed", ""), "the client closed it");
    }
}

#[tokio::test]
async fn a_plain_http_server_is_recognised() {
    let fixture = Fixture::new().await;
    let server = Server::start(async |mut conn| {
        conn.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await?;
        conn.read_to_end().await
    });
    let failed = failed(&fixture.client(), fixture.https(&server)).await;
    let tunnel = assert_handshake_failed(&failed, "x_tls_not_tls");
    assert!(tunnel.handshake_err.contains("plain HTTP"), "{}", tunnel.handshake_err);
    assert!(tunnel.alert.is_empty() || tunnel.alert.starts_with("sent "), "{}", tunnel.alert);
}

/// In TLS 1.2 the server verifies the client's certificate within the handshake.
#[tokio::test]
async fn a_missing_client_certificate_fails_the_handshake_of_tls12() {
    let fixture = Fixture::new().await;
    let leaf = fixture.authority.issue(&["web.test"]);
    let server = tls_server(leaf.server_with(&[&version::TLS12], Some(&fixture.authority)), async |_| Ok(()));
    let failed = failed(&fixture.client(), fixture.https(&server)).await;
    let tunnel = assert_handshake_failed(&failed, "x_tls_client_certificate_required");
    assert_eq!(tunnel.alert, "received certificate_required");
    assert_eq!((tunnel.tls_version.as_str(), tunnel.peer_certs.len()), ("TLSv1.2", 2));
}

/// In TLS 1.3 the server's alert arrives after the client has sent its request.
#[tokio::test]
async fn a_missing_or_unknown_client_certificate_fails_the_request_over_tls13() {
    let stranger = Authority::new("somebody").issue(&["me"]);
    let stranger = ClientCertificate::from_der(&stranger.chain, stranger.key_der().secret_der()).unwrap();
    for http in [HttpVersion::Http1Only, HttpVersion::Auto] {
        for (certificate, alert) in [(None, "certificate_required"), (Some(stranger.clone()), "unknown_ca")] {
            let fixture = Fixture::new().await;
            let clients = Authority::new("clients");
            let leaf = fixture.authority.issue(&["web.test"]);
            let mut config = leaf.server_with(&[&version::TLS13], Some(&clients));
            config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
            let server = tls_server(config, async |_| Ok(()));
            let mut builder = fixture.builder().http_version(http);
            if let Some(certificate) = certificate {
                builder = builder.client_certificate(certificate);
            }
            let failed = failed(&builder.build().unwrap(), fixture.https(&server)).await;

            let outcome = &failed.outcome;
            assert_eq!(ended(&outcome.request), ("failed", "x_tls_client_certificate_required"));
            outcome.assert_on(outcome.conn());
            let tunnel = outcome.tunnel();
            assert_eq!(ended(tunnel), ("failed", "x_tls_client_certificate_required"));
            assert_eq!(tunnel.alert, format!("received {alert}"));
            assert_eq!((tunnel.tls_version.as_str(), tunnel.peer_certs.len()), ("TLSv1.3", 2));
            assert_eq!(outcome.request.tls_tunnel, tunnel.trace_id);
            assert!(outcome.conn().total_sent_bytes > 0);
            let text = format!("received fatal alert: {alert}");
            assert!(failed.error.to_string().ends_with(&text), "{}", failed.error);
            assert!(outcome.request.req_error.ends_with(&text), "{}", outcome.request.req_error);
            assert_eq!(tunnel.handshake_err, text);
        }
    }
}

/// Asserts that the tunnel and the request failed with this code, over an established connection. Returns the tunnel.
#[track_caller]
fn assert_handshake_failed<'a>(failed: &'a Failed, failure: &str) -> &'a TlsTunnelTrace {
    let (outcome, tunnel) = (&failed.outcome, failed.outcome.tunnel());
    assert_eq!(ended(&outcome.request), ("failed", failure));
    assert_eq!(ended(tunnel), ("failed", failure));
    outcome.assert_on(outcome.conn());
    assert_eq!(tunnel.tcp_conn, outcome.conn().trace_id);
    assert_eq!(outcome.request.tls_tunnel, tunnel.trace_id);
    assert_eq!(tunnel.server_name, "web.test");
    assert!(outcome.request.conn_acquired_at.is_undefined(), "the request was not sent");
    assert_eq!(failed.cause::<TlsError>().failure().as_str(), failure);
    assert!(failed.error.to_string().starts_with("TLS handshake with web.test failed: "), "{}", failed.error);
    let timings = outcome.request.timings(&outcome.trace);
    assert!(timings.tls.is_some() && timings.send.is_none(), "{timings}");
    tunnel
}
