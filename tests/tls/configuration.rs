//! Ways to configure TLS, and errors in configurations.

use std::{error::Error, net::SocketAddr, sync::Arc, time::Duration};

use nettrace::{
    Failure, TraceSink,
    tls::{ClientCertificate, Roots, TlsError, TlsVersion, TraceTlsLayer, TraceVerifier},
};
use rustls::{ClientConfig, client::WebPkiServerVerifier, pki_types::pem};

use crate::clients::{TestClient, connect, refused};
use test_support::errors::find;
use test_support::pki::{self, Authority, serve_tcp, serve_tls_echo};
use test_support::process;

#[tokio::test]
async fn a_given_configuration_or_verifier_is_used() {
    let client = TestClient::new();
    let address = serve_tls_echo(Authority::new("somebody").issue(&["web.test"]).server()).await;
    let own = WebPkiServerVerifier::builder_with_provider(client.authority.store(), pki::provider())
        .build()
        .unwrap();
    let config = |verifier| {
        let builder =
            ClientConfig::builder_with_provider(pki::provider()).with_safe_default_protocol_versions();
        Arc::new(
            builder.unwrap().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth(),
        )
    };
    let traced = config(Arc::new(TraceVerifier::new(own.clone())));
    let layers = [
        (TraceTlsLayer::builder(&client.sink).config(config(own.clone())).build(), 0),
        (TraceTlsLayer::builder(&client.sink).config(traced).build(), 2),
        (TraceTlsLayer::builder(&client.sink).verifier(own).build(), 2),
    ];
    for (nth, (layer, certificates)) in layers.into_iter().enumerate() {
        assert_eq!(refused(&layer, address).await.failure(), Failure::SslUnknownAuthority);
        assert_eq!(client.tunnels()[nth].peer_certs.len(), certificates);
        assert_eq!(client.tunnels()[nth].tls_version, "TLSv1.3");
    }
}

#[tokio::test]
async fn unusable_names_and_configurations_are_rejected() {
    let client = TestClient::new();
    let address: SocketAddr = "127.0.0.1:9".parse().unwrap(); // never reached
    let failure = async |layer: TraceTlsLayer, uri: &str| {
        let error = connect(&layer, address, uri).await.unwrap_err();
        error.downcast::<TlsError>().unwrap().failure()
    };
    assert_eq!(failure(client.builder().build(), "https://-/").await, Failure::InvalidTarget);
    assert_eq!(
        failure(client.builder().server_name("a b").build(), "https://web.test/").await,
        Failure::InvalidTarget
    );
    let no_version = client.builder().min_version(TlsVersion::Tls13).max_version(TlsVersion::Tls12);
    assert_eq!(no_version.clone().try_build().unwrap_err().failure(), Failure::TlsConfiguration);
    assert_eq!(failure(no_version.build(), "https://web.test/").await, Failure::TlsConfiguration);
    let (one, two) = (client.authority.issue(&["me"]), client.authority.issue(&["me"]));
    let mismatch = ClientCertificate::from_pem(&one.pem, two.key_pem()).unwrap();
    let mismatch = client.builder().client_certificate(mismatch).try_build().unwrap_err();
    assert_eq!(mismatch.failure(), Failure::TlsConfiguration);
    let none = client.builder().roots(rustls::RootCertStore::empty().into()).try_build().unwrap_err();
    assert_eq!(none.failure(), Failure::NoRootCertificates);
    assert!(client.tunnels().is_empty(), "no handshake had begun");
}

/// The message is written for people; the library's error is available to programs as a source.
#[test]
fn errors_of_the_libraries_are_among_the_sources() {
    let client = TestClient::new();
    let (one, two) = (client.authority.issue(&["me"]), client.authority.issue(&["me"]));
    let mismatch = ClientCertificate::from_pem(&one.pem, two.key_pem()).unwrap();
    let mismatch = client.builder().client_certificate(mismatch).try_build().unwrap_err();
    assert!(matches!(find(&mismatch), Some(rustls::Error::InconsistentKeys(_))), "{mismatch:?}");
    let text = mismatch.source().unwrap().to_string();
    assert_eq!(text, "certificate and private key do not fit: key mismatch");
    let cut = Roots::from_pem("-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap_err();
    assert!(matches!(find(&cut), Some(pem::Error::MissingSectionEnd { .. })), "{cut:?}");
    let text = cut.source().unwrap().to_string();
    assert_eq!(text, "the line `-----END CERTIFICATE-----` is missing");
}

#[test]
fn invalid_roots_and_client_certificates_are_rejected() {
    let authority = Authority::new("nettrace test CA");
    let two = authority.pem() + &Authority::new("another").pem();
    assert_eq!(Roots::from_pem(two).unwrap().len(), 2);
    assert_eq!(Roots::from_der([authority.der()]).unwrap().len(), 1);
    let leaf = authority.issue(&["me"]);
    for pem in
        ["", "no PEM", &leaf.key_pem(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    {
        let error = Roots::from_pem(pem).unwrap_err();
        assert_eq!(error.failure(), Failure::TlsConfiguration, "{pem}: {error}");
    }
    assert_eq!(
        ClientCertificate::from_pem("", leaf.key_pem()).unwrap_err().failure(),
        Failure::TlsConfiguration
    );
    let no_key = ClientCertificate::from_pem(&leaf.pem, &leaf.pem).unwrap_err();
    assert!(no_key.to_string().contains("private key"), "{no_key}");
    assert!(ClientCertificate::from_der(&leaf.chain, b"no key").is_err());
    let whole = leaf.pem.clone() + &leaf.key_pem();
    let shown = format!("{:?}", ClientCertificate::from_pem(&whole, &whole).unwrap());
    assert_eq!(shown, "ClientCertificate { chain_len: 2, .. }");
}

/// Runs in a process of its own, because environment variables choose the root certificates.
#[test]
fn a_machine_without_roots_is_reported() {
    const NAME: &str = "configuration::a_machine_without_roots_is_reported";
    if std::env::var_os("SSL_CERT_FILE").is_none_or(|file| file != "/dev/null") {
        let own = std::env::current_exe().unwrap();
        let mut command = std::process::Command::new(own);
        command
            .args(["--exact", NAME, "--nocapture"])
            .env("SSL_CERT_FILE", "/dev/null")
            .env_remove("SSL_CERT_DIR");
        let output = process::run(command, Duration::from_secs(60)).success();
        assert!(output.contains("1 passed"), "{output}");
        return;
    }
    let sink = TraceSink::new();
    let error = TraceTlsLayer::builder(&sink).try_build().unwrap_err();
    assert_eq!(error.failure(), Failure::NoRootCertificates);
    assert!(error.to_string().contains("no root certificates"), "{error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let address = serve_tcp(async |_| ()).await;
        let layer = TraceTlsLayer::new(&sink);
        assert_eq!(refused(&layer, address).await.failure(), Failure::NoRootCertificates);
        assert!(
            connect(&layer, address, "http://web.test/").await.is_ok(),
            "connections without TLS still work"
        );
    });
}

#[test]
fn overlong_and_endless_files_are_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let long = directory.path().join("long.pem");
    std::fs::File::create(&long).unwrap().set_len((16 << 20) + 1).unwrap();
    for path in [&long, std::path::Path::new("/dev/zero")] {
        let text = |error: nettrace::tls::TlsError| {
            format!(
                "{error}: {}",
                std::error::Error::source(&error).map_or_else(String::new, |e| e.to_string())
            )
        };
        let roots_error = text(Roots::from_pem_file(path).unwrap_err());
        assert!(roots_error.contains(path.to_str().unwrap()), "{roots_error}");
        assert!(roots_error.contains("the file is longer than 16 MiB"), "{roots_error}");
        let certificate_error = text(ClientCertificate::from_pem_files(path, path).unwrap_err());
        assert!(certificate_error.contains("the file is longer than 16 MiB"), "{certificate_error}");
    }
}
