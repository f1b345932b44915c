use crate::{
    exits_with, parse, reason, run,
    support::{pki::Authority, raw::Server},
};
use std::{path::PathBuf, sync::Arc};
use tokio_rustls::TlsAcceptor;

pub(crate) struct Site {
    pub(crate) server: Server,
    /// The certificates of its authority and of another one.
    pub(crate) authority: PathBuf,
    stranger: PathBuf,
    _directory: tempfile::TempDir,
}

/// An HTTPS server that speaks HTTP/1.1.
pub(crate) fn site() -> Site {
    let directory = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new("Root"), Authority::new("Stranger"));
    let write = |name: &str, authority: &Authority| {
        let file = directory.path().join(name);
        std::fs::write(&file, authority.pem()).unwrap();
        file
    };
    let files = (write("root.pem", &authority), write("stranger.pem", &stranger));
    let mut config = authority.issue(&["127.0.0.1"]).server();
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
fn whom_to_trust() {
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
fn http2_only_is_not_spoken_by_everybody() {
    let site = site();
    let url = format!("https://{}/", site.server.addr());
    let output = run(["get", &url, "--cacert", site.authority.to_str().unwrap(), "--http2"]);
    exits_with(&output, 1);
    assert!(output.stderr.contains("alert received no application protocol"), "{}", output.stderr);
}
