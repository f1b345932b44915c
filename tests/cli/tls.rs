//! TLS options of `nettrace get`.

use crate::{PATIENCE, command, exits_with, parse, reason, run};
use std::{path::PathBuf, process::Command, sync::Arc};
use test_support::{
    pki::{self, Authority, Leaf},
    process,
    raw::Server,
    require::require_tool,
};
use tokio_rustls::TlsAcceptor;

pub(crate) struct Site {
    pub(crate) server: Server,
    /// The certificate file of the server's authority, and that of another one.
    pub(crate) authority: PathBuf,
    stranger: PathBuf,
    _directory: tempfile::TempDir,
}

/// Starts an HTTPS server that speaks HTTP/1.1.
pub(crate) fn site() -> Site {
    let authority = Authority::new("Root");
    site_of(&authority.issue(&["127.0.0.1"]), &authority.pem())
}

/// Starts the same server with the certificate `leaf`.
pub(crate) fn site_of(leaf: &Leaf, authority: &str) -> Site {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, pem: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, pem).unwrap();
        file
    };
    let files = (write("root.pem", authority), write("stranger.pem", &Authority::new("Stranger").pem()));
    let mut config = leaf.server();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::start(async move |conn| {
        let acceptor = acceptor.clone();
        let mut conn = conn.upgrade(|stream| acceptor.accept(stream)).await?;
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n").await?;
        conn.close().await
    });
    Site { server, authority: files.0, stranger: files.1, _directory: directory }
}

#[test]
fn trust_is_configured_with_cacert_and_insecure() {
    let site = site();
    let url = format!("https://{}/", site.server.addr());
    let (root, stranger) = (site.authority.to_str().unwrap(), site.stranger.to_str().unwrap());

    let trusted = run(["get", &url, "--cacert", root]);
    exits_with(&trusted, 0);
    assert_eq!(trusted.stdout, "hello\n");
    assert!(trusted.stderr.contains("TLSv1.3 · TLS_"), "{}", trusted.stderr);

    let untrusted = run(["get", &url, "--cacert", stranger]);
    exits_with(&untrusted, 1);
    assert_eq!(untrusted.stdout, "");
    assert!(reason(&untrusted).starts_with("ssl_unknown_authority: "), "{}", untrusted.stderr);

    let insecure = run(["get", &url, "--insecure", "--cacert", stranger, "--json", "-"]);
    exits_with(&insecure, 0);
    let trace = parse(&insecure.stdout);
    assert_eq!(trace.tls_tunnels[0].peer_certs[0].subject, "CN=127.0.0.1");
}

#[test]
fn a_self_signed_certificate_is_trusted_if_it_is_given() {
    require_tool!("curl");
    let leaf = pki::self_signed(&["127.0.0.1"], |_| {});
    let site = site_of(&leaf, &leaf.pem);
    let url = format!("https://{}/", site.server.addr());

    let pinned = run(["get", &url, "--cacert", site.authority.to_str().unwrap()]);
    exits_with(&pinned, 0);
    assert_eq!(pinned.stdout, "hello\n");

    let unknown = run(["get", &url, "--cacert", site.stranger.to_str().unwrap()]);
    // `SSL_CERT_FILE` replaces the machine's roots, as it does for OpenSSL.
    let mut unknown_to_machine = command(["get", &url]);
    unknown_to_machine.env("SSL_CERT_FILE", &site.stranger).env_remove("SSL_CERT_DIR");
    for unknown in [unknown, process::run(unknown_to_machine, PATIENCE)] {
        exits_with(&unknown, 1);
        let text = "ssl_unknown_authority: TLS handshake with 127.0.0.1 failed: invalid peer certificate: \
                    not signed by a trusted authority (self-signed certificate)";
        assert_eq!(reason(&unknown), text);
    }

    // A certificate among the machine's roots is accepted as the server's own, as by curl and Go.
    let mut known_to_machine = command(["get", &url]);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "20", &url]);
    for command in [&mut known_to_machine, &mut curl] {
        command.env("SSL_CERT_FILE", &site.authority).env_remove("SSL_CERT_DIR").env_remove("CURL_CA_BUNDLE");
    }
    for command in [curl, known_to_machine] {
        let output = process::run(command, PATIENCE);
        exits_with(&output, 0);
        assert_eq!(output.stdout, "hello\n");
    }

    let wrong_name = format!("https://localhost:{}/", site.server.addr().port());
    let wrong_name = run(["get", &wrong_name, "--cacert", site.authority.to_str().unwrap()]);
    exits_with(&wrong_name, 1);
    assert!(reason(&wrong_name).starts_with("ssl_invalid_hostname: "), "{}", wrong_name.stderr);
}

#[test]
fn http2_only_fails_if_the_server_does_not_support_it() {
    let site = site();
    let url = format!("https://{}/", site.server.addr());
    let output = run(["get", &url, "--cacert", site.authority.to_str().unwrap(), "--http2"]);
    exits_with(&output, 1);
    assert!(output.stderr.contains("alert received no application protocol"), "{}", output.stderr);
}
