//! Handshakes that are accepted, and those that are not.

use std::{io, sync::Arc, time::Duration};

use nettrace::{
    Failure, TraceSink,
    record::{EndReason, TlsTunnelTrace},
    server::{TlsListener, TraceClientVerifier, TraceListener, TraceTlsAcceptor},
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::ServerName,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    side::{ask, get, settled, settled_running},
    support::{
        background::within,
        check,
        pki::{self, Authority, Leaf},
    },
};

const VERSIONS: [(&str, &SupportedProtocolVersion); 2] = [("TLSv1.2", &TLS12), ("TLSv1.3", &TLS13)];

/// An authority, and a server for `web.test` that records.
struct Side {
    sink: TraceSink,
    authority: Authority,
}

impl Side {
    fn new() -> Self {
        Side { sink: TraceSink::new(), authority: Authority::new("nettrace test CA") }
    }

    fn config(&self) -> ServerConfig {
        self.authority.issue(&["web.test"]).server()
    }

    async fn listen(&self, config: ServerConfig) -> TlsListener<TraceListener<TcpListener>> {
        self.listen_with(|acceptor| acceptor, config).await
    }

    async fn listen_with(
        &self,
        change: impl FnOnce(TraceTlsAcceptor) -> TraceTlsAcceptor,
        config: ServerConfig,
    ) -> TlsListener<TraceListener<TcpListener>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let acceptor = change(TraceTlsAcceptor::new(&self.sink, Arc::new(config)));
        TraceListener::new(&self.sink, listener).tls(acceptor)
    }

    fn roots(&self) -> Arc<RootCertStore> {
        self.authority.store()
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        builder(versions, self.roots()).with_no_client_auth()
    }

    /// What became of the only tunnel, when all has ended.
    async fn tunnel(&self) -> TlsTunnelTrace {
        let ended = |trace: &nettrace::NetTrace| {
            trace.tls_tunnels.iter().any(|tunnel| tunnel.end_reason.is_some())
                && trace.tcp_conns.iter().all(|conn| conn.end_reason.is_some())
        };
        let trace = settled(&self.sink, ended).await;
        let [tunnel] = &trace.tls_tunnels[..] else { panic!("one tunnel") };
        assert!(tunnel.accepted);
        assert_eq!(tunnel.tcp_conn, trace.tcp_conns[0].trace_id);
        tunnel.clone()
    }

    /// The only tunnel of a handshake with this client that fails.
    async fn refused(&self, server: ServerConfig, client: ClientConfig) -> TlsTunnelTrace {
        let mut listener = self.listen(server).await;
        let addr = nettrace::server::Accept::local_addr(&listener).unwrap();
        let talk = async {
            // TLS 1.3 tells a client of a refusal only when it reads.
            let mut stream = connect(addr, client).await?;
            stream.read_u8().await
        };
        let talk = tokio::spawn(talk);
        tokio::select! {
            _ = listener.accept() => panic!("it was accepted"),
            tunnel = self.tunnel() => {
                assert!(talk.await.unwrap().is_err());
                tunnel
            }
        }
    }
}

fn builder(
    versions: &[&'static SupportedProtocolVersion],
    roots: Arc<RootCertStore>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let builder = ClientConfig::builder_with_provider(pki::provider());
    builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots)
}

async fn connect(addr: std::net::SocketAddr, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("web.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// A server that demands certificates of this authority, and shows those that it refuses.
fn demanding(server: &Leaf, clients: &Authority, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    let verifier = WebPkiClientVerifier::builder_with_provider(clients.store(), pki::provider()).build().unwrap();
    let builder = ServerConfig::builder_with_provider(pki::provider()).with_protocol_versions(versions).unwrap();
    builder
        .with_client_cert_verifier(Arc::new(TraceClientVerifier::new(verifier)))
        .with_single_cert(server.chain.clone(), server.key_der())
        .unwrap()
}

#[tokio::test]
async fn what_was_agreed_on() {
    for (name, version) in VERSIONS {
        let side = Side::new();
        let mut config = side.config();
        config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
        let mut listener = side.listen(config).await;
        let addr = nettrace::server::Accept::local_addr(&listener).unwrap();
        let mut client = side.client(&[version]);
        client.alpn_protocols = vec![b"http/1.1".into()];
        let client = tokio::spawn(async move {
            let mut stream = connect(addr, client).await.unwrap();
            stream.write_all(b"ping").await.unwrap();
            stream.read_exact(&mut [0; 4]).await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(stream.get_ref().1.server_name(), Some("web.test"));
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).await.unwrap();
        stream.write_all(&ping).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.read(&mut ping).await.unwrap(), 0);
        drop(stream);
        let client = client.await.unwrap();
        let session = client.get_ref().1;

        let tunnel = side.tunnel().await;
        assert_eq!((tunnel.tls_version.as_str(), tunnel.server_name.as_str()), (name, "web.test"));
        assert_eq!(tunnel.negotiated_proto, "http/1.1");
        assert_eq!(tunnel.cipher_suite, session.negotiated_cipher_suite().unwrap().suite().into());
        assert!(!tunnel.key_exchange_group.is_empty() && !tunnel.did_resume && tunnel.peer_certs.is_empty());
        assert_eq!((&tunnel.end_reason, &tunnel.failure), (&Some(EndReason::PeerClosed), &None));
    }
}

#[tokio::test]
async fn the_certificate_of_a_client() {
    for (_, version) in VERSIONS {
        let side = Side::new();
        let leaf = side.authority.issue(&["joe.test"]);
        let client = builder(&[version], side.roots());
        let client = client.with_client_auth_cert(leaf.chain.clone(), leaf.key_der()).unwrap();
        let config = side.authority.issue(&["web.test"]).server_with(&[version], Some(&side.authority));
        let mut listener = side.listen(config).await;
        let client = tokio::spawn(connect(nettrace::server::Accept::local_addr(&listener).unwrap(), client));
        let (stream, _) = listener.accept().await.unwrap();
        drop((stream, client.await.unwrap()));
        let tunnel = side.tunnel().await;
        assert_eq!(tunnel.peer_certs[0].sans, ["joe.test"]);
        assert_eq!(tunnel.peer_certs[0].subject, "CN=joe.test");
    }
}

#[tokio::test]
async fn sessions_that_are_resumed() {
    for (_, version) in VERSIONS {
        let side = Side::new();
        let mut listener = side.listen(side.config()).await;
        let addr = nettrace::server::Accept::local_addr(&listener).unwrap();
        let client = side.client(&[version]);
        for _ in 0..2 {
            let client = client.clone();
            let client = tokio::spawn(async move {
                let mut stream = connect(addr, client).await.unwrap();
                stream.read_u8().await.unwrap(); // with the ticket before it
            });
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b".").await.unwrap();
            stream.flush().await.unwrap();
            client.await.unwrap();
        }
        let trace = side.sink.snapshot("");
        let resumed: Vec<_> = trace.tls_tunnels.iter().map(|tunnel| tunnel.did_resume).collect();
        assert_eq!(resumed, [false, true]);
    }
}

#[tokio::test]
async fn certificates_that_are_not_accepted() {
    for (name, version) in VERSIONS {
        let side = Side::new();
        let stranger = Authority::new("somebody");
        let expired = side
            .authority
            .issue_with(&["joe.test"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        for (leaf, failure, alert) in [
            (Some(stranger.issue(&["joe.test"])), Failure::SslUnknownAuthority, "sent unknown_ca"),
            (Some(expired), Failure::SslInvalidCertificate, "sent certificate_expired"),
            (None, Failure::TlsClientCertificateRequired, "sent certificate_required"),
        ] {
            let side = Side { sink: TraceSink::new(), authority: Authority::new("another") };
            let web = side.authority.issue(&["web.test"]);
            let trusted = &Side::new().authority;
            let trusted = if leaf.is_some() { &stranger_of(&leaf, trusted) } else { trusted };
            let client = builder(&[version], side.roots());
            let client = match &leaf {
                Some(leaf) => client.with_client_auth_cert(leaf.chain.clone(), leaf.key_der()).unwrap(),
                None => client.with_no_client_auth(),
            };
            let tunnel = side.refused(demanding(&web, trusted, &[version]), client).await;
            assert_eq!(tunnel.failure, Some(failure));
            assert_eq!((tunnel.alert.as_str(), tunnel.tls_version.as_str()), (alert, name));
            assert_eq!((&tunnel.end_reason, tunnel.server_name.as_str()), (&Some(EndReason::Failed), "web.test"));
            assert_eq!(tunnel.peer_certs.first().map(|cert| cert.subject.as_str()), leaf.map(|_| "CN=joe.test"));
            assert!(tunnel.cipher_suite != 0 && !tunnel.key_exchange_group.is_empty());
        }
    }
}
