//! TLS parameters compared with nginx and `openssl s_server`.

use nettrace::TraceSink;
use nettrace::client::Client;
use nettrace::record::EndReason;
use nettrace::tls::{ClientCertificate, Roots};
use rcgen::ExtendedKeyUsagePurpose;

use crate::facts;
use crate::site::{Site, https};
use test_support::check;
use test_support::openssl::{SServer, suite_number};
use test_support::pki::Authority;
use test_support::require::require_tool;

#[tokio::test]
async fn client_certificates_are_verified_by_nginx() {
    require_tool!("nginx", "dnsmasq", "openssl");
    let client_authority = Authority::new("people");
    let site = Site::with(|nginx| nginx.client_ca(&client_authority.pem()));
    let client_leaf = client_authority.issue_with(&["somebody"], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let mut expected = Vec::new();
    for (certificate, status, verdict) in [(None, 400, "NONE"), (Some(&client_leaf), 200, "SUCCESS")] {
        site.sink.clear();
        let mut client = site.client();
        if let Some(leaf) = certificate {
            client =
                client.client_certificate(ClientCertificate::from_pem(&leaf.pem, leaf.key_pem()).unwrap());
        }
        let client = client.build().unwrap();
        let response = client.get(https(site.nginx.mtls, "/hello")).await.unwrap();
        assert_eq!(response.status(), status);
        response.into_body().bytes().await.unwrap();
        site.trace_after(&client).await;
        expected.push(verdict);
        let log = site.nginx.requests(expected.len());
        assert_eq!(log.iter().map(|seen| seen.ssl_client_verify.as_str()).collect::<Vec<_>>(), expected);
    }
}

/// The page of `s_server -www` shows version, cipher suite and resumption as the server sees them.
#[tokio::test]
async fn negotiated_parameters_match_s_server() {
    require_tool!("openssl");
    let authority = Authority::new("nettrace test CA");
    let leaf = authority.issue(&["127.0.0.1"]);
    for (version, kind, suite, group) in [
        ("-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256", "X25519"),
        ("-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384", "prime256v1"),
        ("-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256", "secp384r1"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256", "prime256v1"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384", "secp384r1"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305", "X25519"),
    ] {
        let server = SServer::builder(&leaf.pem, &leaf.key_pem())
            .arg(version)
            .arg(kind)
            .arg(suite)
            .arg("-groups")
            .arg(group)
            .arg("-alpn")
            .arg("http/1.1")
            .www()
            .start();
        let sink = TraceSink::new();
        let client = Client::builder(&sink).roots(Roots::from_pem(authority.pem()).unwrap()).build().unwrap();
        let mut pages = Vec::new();
        for _ in 0..2 {
            let response = client.get(format!("https://{}/", server.addr)).await.unwrap();
            assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_10));
            pages.push(response.into_body().bytes().await.unwrap());
        }
        client.close().await;
        let trace = sink.snapshot("s_server");
        check::finished(&trace);

        assert_eq!(trace.tls_tunnels.len(), 2);
        for (tunnel, page) in trace.tls_tunnels.iter().zip(&pages) {
            let page = String::from_utf8_lossy(page);
            let how = if tunnel.did_resume { "Reused" } else { "New" };
            let expected = format!("{how}, {}, Cipher is {suite}", tunnel.tls_version);
            assert!(page.contains(&expected), "{expected} in {page}");
            assert!(page.contains(&format!("Protocol  : {}", tunnel.tls_version)), "{tunnel:#?} {page}");
            assert_eq!(tunnel.cipher_suite, suite_number(suite));
            // A resumed session of TLS 1.2 has no key exchange.
            let exchanged = !tunnel.did_resume || version == "-tls1_3";
            let group = if exchanged { facts::iana_group(group) } else { "" };
            assert_eq!(tunnel.key_exchange_group, group, "{tunnel:#?}");
            assert_eq!(tunnel.negotiated_proto, "http/1.1");
            assert_eq!(tunnel.end_reason, Some(EndReason::PeerClosed));
        }
        assert_eq!((trace.tls_tunnels[0].did_resume, trace.tls_tunnels[1].did_resume), (false, true));
        // The body ends with the connection, so its length is the number of bytes received.
        let lengths: Vec<_> = trace.http_requests.iter().map(|request| request.resp_content_len).collect();
        assert_eq!(lengths, pages.iter().map(|page| page.len() as u64).collect::<Vec<_>>());
    }
}
