//! Handshakes and certificates compared with openssl's output.

use std::process::Command;

use hyper_util::rt::TokioIo;
use nettrace::{
    Failure, TraceSink,
    record::{PeerCert, TlsTunnelTrace},
    tls::{Roots, TlsVersion, TraceTlsLayer},
};
use rcgen::{DistinguishedName, DnType, DnValue};
use test_support::{
    curl::Curl,
    openssl::{SServer, openssl, suite_number},
    pki::{self, Authority},
    process,
    require::require_tool,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::{Layer, ServiceExt, service_fn};

/// Makes a handshake with the server and returns its record.
async fn handshake(server: &SServer, layer: TraceTlsLayer, sink: &TraceSink) -> TlsTunnelTrace {
    let address = server.addr;
    let connect = service_fn(move |_| async move { TcpStream::connect(address).await.map(TokioIo::new) });
    if let Ok(stream) = layer.layer(connect).oneshot("https://web.test/".parse().unwrap()).await {
        let mut stream = TokioIo::new(stream);
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let mut tunnels = sink.snapshot("openssl").tls_tunnels.into_vec();
    assert_eq!(tunnels.len(), 1);
    tunnels.remove(0)
}

#[tokio::test]
async fn negotiated_parameters_match_openssl() {
    require_tool!("openssl");
    let cases = [
        ("-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256", "X25519", "x25519"),
        ("-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256", "P-384", "secp384r1"),
        ("-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384", "P-256", "secp256r1"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305", "P-256", "secp256r1"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384", "X25519", "x25519"),
    ];
    for (version, kind, suite, group, iana_group) in cases {
        for is_trusted in [true, false] {
            let authority = Authority::new("nettrace test CA");
            let leaf = authority.issue(&["web.test"]);
            let server = SServer::builder(&leaf.pem, &leaf.key_pem())
                .arg(version)
                .arg(kind)
                .arg(suite)
                .arg("-groups")
                .arg(group)
                .arg("-alpn")
                .arg("h2")
                .start();
            let sink = TraceSink::new();
            let trusted = if is_trusted { authority } else { Authority::new("another") };
            let roots = Roots::from_pem(trusted.pem()).unwrap();
            let layer = TraceTlsLayer::builder(&sink).roots(roots).alpn(["http/1.1", "h2"]).build();
            let tunnel = handshake(&server, layer, &sink).await;

            let failure = (!is_trusted).then_some(Failure::SslUnknownAuthority);
            assert_eq!(tunnel.failure, failure, "{}", tunnel.handshake_err);
            assert_eq!(tunnel.tls_version.replace("TLSv", "-tls").replace('.', "_"), version);
            assert_eq!((tunnel.cipher_suite, &*tunnel.key_exchange_group), (suite_number(suite), iana_group));
            // TLS 1.3 encrypts the chosen protocol, so a failed handshake does not reveal it.
            let is_alpn_known = is_trusted || version == "-tls1_2";
            assert_eq!(tunnel.negotiated_proto, if is_alpn_known { "h2" } else { "" });
            if is_trusted {
                assert!(server.line("CIPHER is ").ends_with(suite));
            } else {
                assert_eq!(tunnel.alert, "sent unknown_ca");
                server.line("alert unknown ca"); // the server received the alert
            }
            assert_matches_openssl(&tunnel.peer_certs[0], &leaf.pem);
        }
    }
}

#[tokio::test]
async fn a_required_client_certificate_fails_the_handshake() {
    require_tool!("openssl");
    let authority = Authority::new("nettrace test CA");
    let leaf = authority.issue(&["web.test"]);
    for (version, alert, failure) in [
        ("-tls1_2", "received handshake_failure", Failure::SslFailedHandshake),
        ("-tls1_3", "received certificate_required", Failure::TlsClientCertificateRequired),
    ] {
        let server =
            SServer::builder(&leaf.pem, &leaf.key_pem()).arg(version).verify_client(&authority.pem()).start();
        let sink = TraceSink::new();
        let roots = Roots::from_pem(authority.pem()).unwrap();
        let tunnel = handshake(&server, TraceTlsLayer::builder(&sink).roots(roots).build(), &sink).await;
        assert_eq!((tunnel.alert.as_str(), tunnel.failure), (alert, Some(failure)));
        let is_tls12 = version == "-tls1_2";
        assert_eq!(tunnel.handshake_err.ends_with("asked for a client certificate)"), is_tls12);
        assert_matches_openssl(&tunnel.peer_certs[0], &leaf.pem);
    }
}

/// A server certificate, the roots for both clients, and the expected outcome in nettrace and in curl.
struct SelfSigned {
    certificate: String,
    key: String,
    roots: String,
    host: &'static str,
    failure: Option<Failure>,
    text: &'static str,
    alert: &'static str,
    curl: &'static str,
}

#[tokio::test]
async fn self_signed_certificates_are_verified_as_by_curl() {
    require_tool!("openssl");
    require_tool!("curl");
    let (own, key) = req_x509();
    let stranger = Authority::new("somebody").pem();
    let outdated = pki::self_signed(&["web.test"], |params| {
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2000, 1, 1), rcgen::date_time_ymd(2001, 1, 1));
    });
    let issued = Authority::new("nobody's root").issue(&["web.test"]);
    let no_server = pki::self_signed(&["web.test"], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    let case = |certificate: &str, key: &str, roots: &str| SelfSigned {
        certificate: certificate.into(),
        key: key.into(),
        roots: roots.into(),
        host: "web.test",
        failure: None,
        text: "",
        alert: "",
        curl: "",
    };
    let cases = [
        SelfSigned {
            failure: Some(Failure::SslUnknownAuthority),
            text: "self-signed certificate",
            alert: "sent unknown_ca",
            curl: "self-signed certificate",
            ..case(&own, &key, &stranger)
        },
        case(&own, &key, &own),
        case(&own, &key, &(stranger.clone() + &own)),
        SelfSigned {
            host: "other.test",
            failure: Some(Failure::SslInvalidHostname),
            text: "not valid for name",
            alert: "sent bad_certificate",
            curl: "no alternative certificate subject name matches",
            ..case(&own, &key, &own)
        },
        SelfSigned {
            failure: Some(Failure::SslInvalidCertificate),
            text: "certificate expired",
            alert: "sent certificate_expired",
            curl: "certificate has expired",
            ..case(&outdated.pem, &outdated.key_pem(), &outdated.pem)
        },
        SelfSigned {
            failure: Some(Failure::SslInvalidCertificate),
            text: "does not allow extended key usage for server authentication",
            alert: "sent unsupported_certificate",
            curl: "unsuitable certificate purpose",
            ..case(&no_server.pem, &no_server.key_pem(), &no_server.pem)
        },
        // Pinned, but signed by an authority that is not among the roots.
        case(
            &issued.pem,
            &issued.key_pem(),
            issued.pem.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap(),
        ),
    ];
    for SelfSigned { certificate, key, roots, host, failure, text, alert, curl } in cases {
        for version in ["-tls1_2", "-tls1_3"] {
            let server = SServer::builder(&certificate, &key).arg(version).www().start();
            let url = format!("https://{host}:{}/", server.addr.port());
            let report =
                Curl::new(&url).cacert(&roots).resolve(host, server.addr.port(), server.addr.ip()).run();
            let message = report.errormsg.unwrap_or_default();
            assert_eq!(report.exitcode, if failure.is_some() { 60 } else { 0 }, "{message}");
            assert!(message.contains(curl), "{message}");

            let sink = TraceSink::new();
            let layer = TraceTlsLayer::builder(&sink).roots(Roots::from_pem(&roots).unwrap());
            let tunnel = handshake(&server, layer.server_name(host).build(), &sink).await;
            assert_eq!(tunnel.failure, failure, "{}", tunnel.handshake_err);
            assert!(tunnel.handshake_err.contains(text), "{}", tunnel.handshake_err);
            assert!(!tunnel.handshake_err.contains("Other"), "{}", tunnel.handshake_err);
            assert_eq!(tunnel.alert, alert);
            assert_matches_openssl(&tunnel.peer_certs[0], &certificate);
        }
    }
}

/// Returns a certificate that `openssl req -x509` makes by default, and its key, in PEM.
fn req_x509() -> (String, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    command.args(["-days", "2", "-subj", "/CN=web.test", "-addext", "subjectAltName=DNS:web.test"]);
    command.arg("-keyout").arg(file("key.pem")).arg("-out").arg(file("certificate.pem"));
    process::run(command, process::READY).success();
    let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    (read("certificate.pem"), read("key.pem"))
}

#[tokio::test]
async fn names_of_every_string_type_match_openssl() {
    require_tool!("openssl");
    let authority = Authority::new("nettrace, \"test\" <CA>");
    let strings: [DnValue; 7] = [
        "Sue, Grabbit and Runn".into(),
        " #lead; and trail ".into(),
        "#1+2=3".into(),
        r"back\slash<>".into(),
        DnValue::PrintableString("plain".try_into().unwrap()),
        DnValue::BmpString("wide".try_into().unwrap()),
        DnValue::TeletexString("tele".try_into().unwrap()),
    ];
    for string in strings {
        let leaf = authority.issue_with(&["web.test"], |params| {
            let mut name = DistinguishedName::new();
            name.push(DnType::CountryName, "CH");
            name.push(DnType::StateOrProvinceName, "Zürich");
            name.push(DnType::LocalityName, "Town");
            name.push(DnType::OrganizationName, string.clone());
            name.push(DnType::OrganizationalUnitName, "Unit");
            name.push(DnType::CustomDnType(vec![0, 9, 2342, 19200300, 100, 1, 25]), "example");
            name.push(DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 55555, 1]), "unknown");
            name.push(DnType::CommonName, "web.test");
            params.distinguished_name = name;
        });
        let server = SServer::builder(&leaf.pem, &leaf.key_pem()).start();
        let sink = TraceSink::new();
        let layer =
            TraceTlsLayer::builder(&sink).danger_accept_invalid_certs().max_version(TlsVersion::Tls12);
        let tunnel = handshake(&server, layer.build(), &sink).await;
        assert_matches_openssl(&tunnel.peer_certs[0], &leaf.pem);
        assert_matches_openssl(&tunnel.peer_certs[1], &authority.pem());
    }
}

/// Asserts that the record of a certificate matches the output of `openssl x509`.
#[track_caller]
fn assert_matches_openssl(ours: &PeerCert, pem: &str) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("certificate.pem");
    std::fs::write(&file, pem).unwrap();
    let shown = openssl(&[
        "x509",
        "-noout",
        "-nameopt",
        "RFC2253,-esc_msb,-dump_unknown",
        "-subject",
        "-issuer",
        "-fingerprint",
        "-sha256",
        "-dates",
        "-dateopt",
        "iso_8601",
        "-in",
        file.to_str().unwrap(),
    ]);
    let field = |name: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name} in {shown}")).to_owned()
    };
    assert_eq!((&ours.subject, &ours.issuer), (&field("subject"), &field("issuer")));
    assert_eq!(ours.sha256, field("sha256 Fingerprint").replace(':', "").to_lowercase());
    let iso = |time: String| time.replace(' ', "T");
    assert_eq!(ours.not_before.to_string(), iso(field("notBefore")));
    assert_eq!(ours.not_after.to_string(), iso(field("notAfter")));
}
