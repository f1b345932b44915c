//! TLS handshakes on the accepting side, successful and failed.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use nettrace::{
    Client, Failure, TraceSink, TracingEvents,
    record::{EndReason, TlsTunnelTrace},
    server::{Accept as _, TlsListener, TraceClientVerifier, TraceListener, TraceTlsAcceptor},
    tls::Roots,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::ServerName,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::servers::{TestServer, ask, conns_ended, get, settled, settled_running};
use test_support::{
    background::within,
    check,
    collector::Collector,
    pki::{self, Authority, Leaf},
};

const VERSIONS: [(&str, &SupportedProtocolVersion); 2] = [("TLSv1.2", &TLS12), ("TLSv1.3", &TLS13)];

/// A sink, and an authority that issues the certificate of the server `web.test`.
struct Fixture {
    sink: TraceSink,
    authority: Authority,
}

impl Fixture {
    fn new() -> Self {
        Fixture::of(TraceSink::new())
    }

    fn of(sink: TraceSink) -> Self {
        Fixture { sink, authority: Authority::new("nettrace test CA") }
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

    /// Waits until every record has ended, and returns the only tunnel.
    async fn tunnel(&self) -> TlsTunnelTrace {
        let ended = |trace: &nettrace::NetTrace| {
            trace.tls_tunnels.iter().any(|tunnel| tunnel.end_reason.is_some()) && conns_ended(trace)
        };
        let trace = settled(&self.sink, ended).await;
        let [tunnel] = &trace.tls_tunnels[..] else { panic!("expected one tunnel") };
        assert!(tunnel.accepted);
        assert_eq!(tunnel.tcp_conn, trace.tcp_conns[0].trace_id);
        tunnel.clone()
    }

    /// Makes a handshake that must fail, and returns its tunnel.
    async fn failed_handshake(&self, server: ServerConfig, client: ClientConfig) -> TlsTunnelTrace {
        let mut listener = self.listen(server).await;
        let addr = addr_of(&listener);
        let talk = async move {
            // With TLS 1.3, the client learns only when it reads that its certificate was rejected.
            let mut stream = connect(addr, client).await?;
            stream.read_u8().await
        };
        let talk = tokio::spawn(talk);
        tokio::select! {
            _ = listener.accept() => panic!("the handshake succeeded"),
            tunnel = self.tunnel() => {
                assert!(talk.await.unwrap().is_err());
                tunnel
            }
        }
    }
}

fn addr_of(listener: &TlsListener<TraceListener<TcpListener>>) -> SocketAddr {
    listener.local_addr().unwrap()
}

fn builder(
    versions: &[&'static SupportedProtocolVersion],
    roots: Arc<RootCertStore>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let builder = ClientConfig::builder_with_provider(pki::provider());
    builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots)
}

async fn connect(addr: SocketAddr, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("web.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Returns a server configuration that requires client certificates of this authority, and records rejected ones.
fn requiring_client_certs(
    server: &Leaf,
    clients: &Authority,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(clients.store(), pki::provider()).build().unwrap();
    let builder =
        ServerConfig::builder_with_provider(pki::provider()).with_protocol_versions(versions).unwrap();
    builder
        .with_client_cert_verifier(Arc::new(TraceClientVerifier::new(verifier)))
        .with_single_cert(server.chain.clone(), server.key_der())
        .unwrap()
}

#[tokio::test]
async fn the_negotiated_parameters_are_recorded() {
    for (name, version) in VERSIONS {
        let fixture = Fixture::new();
        let mut config = fixture.config();
        config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
        let mut listener = fixture.listen(config).await;
        let addr = addr_of(&listener);
        let mut client = fixture.client(&[version]);
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

        let tunnel = fixture.tunnel().await;
        assert_eq!((tunnel.tls_version.as_str(), tunnel.server_name.as_str()), (name, "web.test"));
        assert_eq!(tunnel.negotiated_proto, "http/1.1");
        assert_eq!(tunnel.cipher_suite, u16::from(session.negotiated_cipher_suite().unwrap().suite()));
        assert!(!tunnel.key_exchange_group.is_empty() && !tunnel.did_resume && tunnel.peer_certs.is_empty());
        assert_eq!((&tunnel.end_reason, &tunnel.failure), (&Some(EndReason::PeerClosed), &None));
    }
}

#[tokio::test]
async fn the_client_certificate_is_recorded() {
    for (_, version) in VERSIONS {
        let fixture = Fixture::new();
        let leaf = fixture.authority.issue(&["joe.test"]);
        let client = builder(&[version], fixture.roots());
        let client = client.with_client_auth_cert(leaf.chain.clone(), leaf.key_der()).unwrap();
        let config = fixture.authority.issue(&["web.test"]).server_with(&[version], Some(&fixture.authority));
        let mut listener = fixture.listen(config).await;
        let client = tokio::spawn(connect(addr_of(&listener), client));
        let (stream, _) = listener.accept().await.unwrap();
        drop((stream, client.await.unwrap()));
        let tunnel = fixture.tunnel().await;
        assert_eq!(tunnel.peer_certs[0].sans, ["joe.test"]);
        assert_eq!(tunnel.peer_certs[0].subject, "CN=joe.test");
    }
}

#[tokio::test]
async fn a_tracing_event_has_the_subject_of_the_client_certificate() {
    let collector = Collector::default();
    let _guard = tracing::subscriber::set_default(collector.clone());
    let fixture = Fixture::of(TraceSink::builder().subscriber(TracingEvents::new()).build());
    let leaf = fixture.authority.issue(&["joe.test"]);
    let client = builder(&[&TLS13], fixture.roots());
    let client = client.with_client_auth_cert(leaf.chain.clone(), leaf.key_der()).unwrap();
    let config = fixture.authority.issue(&["web.test"]).server_with(&[&TLS13], Some(&fixture.authority));
    let mut listener = fixture.listen(config).await;
    let client = tokio::spawn(connect(addr_of(&listener), client));
    let (stream, _) = listener.accept().await.unwrap();
    drop((stream, client.await.unwrap()));
    fixture.tunnel().await;
    let ([tls], [tcp]) = (&collector.events("nettrace::tls")[..], &collector.events("nettrace::tcp")[..])
    else {
        panic!("expected one of each")
    };
    assert_eq!((tls.get("nettrace.accepted"), tcp.get("nettrace.accepted")), ("true", "true"));
    assert_eq!((tls.get("tls.client.subject"), tls.get("tls.server.subject")), ("CN=joe.test", ""));
    assert_eq!(tls.get("server.address"), "web.test");
}

#[tokio::test]
async fn the_url_is_https_even_if_tls_is_not_recorded() {
    let fixture = Fixture::of(TraceSink::builder().tls(false).build());
    let listener = fixture.listen(fixture.authority.issue(&["localhost"]).server()).await;
    let site = TestServer::on(&fixture.sink, listener);
    let roots = Roots::from_pem(fixture.authority.pem()).unwrap();
    let client = Client::builder(&TraceSink::disabled()).roots(roots).build().unwrap();
    let url = format!("https://localhost:{}/hello", site.addr.port());
    client.get(&url).await.unwrap().into_body().bytes().await.unwrap();
    client.close().await;
    let trace = site.finished().await;
    assert_eq!((trace.http_requests[0].req_url.as_str(), trace.tls_tunnels.len()), (url.as_str(), 0));
}

#[tokio::test]
async fn vectored_writes_are_passed_on() {
    let parts = [&b"hello"[..], b", ", b"world"].map(IoSlice::new);
    for sink in [TraceSink::new(), TraceSink::disabled()] {
        let fixture = Fixture::of(sink);
        let mut listener = fixture.listen(fixture.config()).await;
        let client = tokio::spawn(connect(addr_of(&listener), fixture.client(&[&TLS13])));
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.is_write_vectored());
        assert_eq!(stream.write_vectored(&parts).await.unwrap(), 12);
        stream.shutdown().await.unwrap();
        let mut received = String::new();
        client.await.unwrap().unwrap().read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "hello, world");
    }
}

#[tokio::test]
async fn resumed_sessions_are_recorded_as_resumed() {
    for (_, version) in VERSIONS {
        let fixture = Fixture::new();
        let mut listener = fixture.listen(fixture.config()).await;
        let addr = addr_of(&listener);
        let client = fixture.client(&[version]);
        for _ in 0..2 {
            let client = client.clone();
            let client = tokio::spawn(async move {
                let mut stream = connect(addr, client).await.unwrap();
                stream.read_u8().await.unwrap(); // processes the session ticket, too
            });
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b".").await.unwrap();
            stream.flush().await.unwrap();
            client.await.unwrap();
        }
        let trace = fixture.sink.snapshot("");
        let resumed: Vec<_> = trace.tls_tunnels.iter().map(|tunnel| tunnel.did_resume).collect();
        assert_eq!(resumed, [false, true]);
    }
}

#[tokio::test]
async fn rejected_client_certificates_are_recorded() {
    for (name, version) in VERSIONS {
        for (kind, failure, alert) in [
            ("untrusted", Failure::SslUnknownAuthority, "sent unknown_ca"),
            ("expired", Failure::SslInvalidCertificate, "sent certificate_expired"),
            ("none", Failure::TlsClientCertificateRequired, "sent certificate_required"),
        ] {
            let fixture = Fixture::new();
            let client = builder(&[version], fixture.roots());
            let expire =
                |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
            let leaf = match kind {
                "none" => None,
                "expired" => Some(fixture.authority.issue_with(&["joe.test"], expire)),
                _ => Some(Authority::new("somebody").issue(&["joe.test"])),
            };
            let client = match &leaf {
                Some(leaf) => client.with_client_auth_cert(leaf.chain.clone(), leaf.key_der()).unwrap(),
                None => client.with_no_client_auth(),
            };
            let server = requiring_client_certs(
                &fixture.authority.issue(&["web.test"]),
                &fixture.authority,
                &[version],
            );
            let tunnel = fixture.failed_handshake(server, client).await;
            assert_eq!(tunnel.failure, Some(failure), "{kind}");
            assert_eq!((tunnel.alert.as_str(), tunnel.tls_version.as_str()), (alert, name));
            assert_eq!(
                (&tunnel.end_reason, tunnel.server_name.as_str()),
                (&Some(EndReason::Failed), "web.test")
            );
            let shown = tunnel.peer_certs.first().map(|cert| cert.subject.as_str());
            assert_eq!(shown, leaf.map(|_| "CN=joe.test"));
            assert!(tunnel.cipher_suite != 0 && !tunnel.key_exchange_group.is_empty());
        }
    }
}

#[tokio::test]
async fn a_server_certificate_rejected_by_the_client_is_recorded() {
    for (name, version) in VERSIONS {
        let fixture = Fixture::new();
        let client = builder(&[version], Authority::new("another").store()).with_no_client_auth();
        let tunnel = fixture.failed_handshake(fixture.config(), client).await;
        assert_eq!(
            tunnel.failure,
            Some(Failure::SslUnknownAuthority),
            "the failure that the client's alert reports"
        );
        assert_eq!((tunnel.alert.as_str(), tunnel.tls_version.as_str()), ("received unknown_ca", name));
        assert!(tunnel.handshake_err.contains("unknown_ca"), "{}", tunnel.handshake_err);
    }
}

#[tokio::test]
async fn handshakes_without_a_common_protocol_fail() {
    let fixture = Fixture::new();
    let mut server = fixture.config();
    server.alpn_protocols = vec![b"spdy/3".into()];
    let mut client = fixture.client(&[&TLS13]);
    client.alpn_protocols = vec![b"h2".into()];
    let tunnel = fixture.failed_handshake(server, client).await;
    assert_eq!(tunnel.failure, Some(Failure::SslFailedHandshake));
    assert_eq!(tunnel.alert, "sent no_application_protocol");

    let fixture = Fixture::new();
    let server = fixture.authority.issue(&["web.test"]).server_with(&[&TLS13], None);
    let tunnel = fixture.failed_handshake(server, fixture.client(&[&TLS12])).await;
    assert_eq!(tunnel.failure, Some(Failure::SslFailedHandshake));
    assert_eq!((tunnel.alert.as_str(), tunnel.server_name.as_str()), ("sent protocol_version", "web.test"));
}

#[tokio::test]
async fn connections_without_tls_fail_the_handshake() {
    for (sent, failure, text) in [
        (get("/"), Failure::TlsNotTls, "plain HTTP"),
        ("SSH-2.0-OpenSSH_9.2p1\r\n".to_owned(), Failure::TlsNotTls, "corrupt message"),
        (String::new(), Failure::EofError, "unexpected end of file"),
    ] {
        let fixture = Fixture::new();
        let mut listener = fixture.listen(fixture.config()).await;
        let addr = addr_of(&listener);
        let client = tokio::spawn(async move {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let _ = stream.read_to_end(&mut vec![]).await;
        });
        let tunnel = tokio::select! {
            _ = listener.accept() => panic!("the handshake succeeded"),
            tunnel = fixture.tunnel() => tunnel,
        };
        client.await.unwrap();
        assert_eq!(tunnel.failure, Some(failure));
        assert!(tunnel.handshake_err.contains(text), "{}", tunnel.handshake_err);
        assert_eq!((tunnel.tls_version.as_str(), tunnel.server_name.as_str()), ("", ""));
    }
}

#[tokio::test]
async fn a_stalled_handshake_does_not_delay_others() {
    let fixture = Fixture::new();
    let mut listener =
        fixture.listen_with(|acceptor| acceptor.handshake_timeout(None), fixture.config()).await;
    let addr = addr_of(&listener);
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(addr).await.unwrap());
        let failing = tokio::spawn(async move { ask(addr, "no TLS\r\n\r\n").await });
        let client = tokio::spawn(connect(addr, fixture.client(&[&TLS13])));
        let (stream, _) =
            within(Duration::from_secs(30), listener.accept()).await.expect("accepted").unwrap();
        drop((client.await.unwrap().unwrap(), stream));
        failing.abort();
    }
    drop(listener); // drops the pending handshakes, too
    let ended =
        |trace: &nettrace::NetTrace| trace.tls_tunnels.iter().all(|tunnel| tunnel.end_reason.is_some());
    let trace = settled_running(&fixture.sink, ended).await;
    check::finished(&trace);
    let given_up = trace.tls_tunnels.iter().filter(|tunnel| tunnel.end_reason == Some(EndReason::Cancelled));
    assert!(given_up.count() >= 3, "the stalled handshakes are cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_exceeds_its_timeout_fails() {
    let fixture = Fixture::new();
    let mut listener = fixture
        .listen_with(|acceptor| acceptor.handshake_timeout(Duration::from_secs(3)), fixture.config())
        .await;
    let mut client = TcpStream::connect(addr_of(&listener)).await.unwrap();
    let begin = tokio::time::Instant::now();
    tokio::select! {
        _ = listener.accept() => panic!("the handshake succeeded"),
        eof = client.read_u8() => assert_eq!(eof.unwrap_err().kind(), io::ErrorKind::UnexpectedEof),
    }
    assert!(begin.elapsed() >= Duration::from_secs(3));
    let tunnel = fixture.tunnel().await;
    assert_eq!(tunnel.failure, Some(Failure::GenericTimeoutError));
    assert_eq!(tunnel.end_reason, Some(EndReason::Timeout));
    assert_eq!(tunnel.handshake_err, "no end of the TLS handshake within 3s");
}

#[tokio::test]
async fn the_number_of_concurrent_handshakes_is_limited() {
    let fixture = Fixture::new();
    let mut listener = fixture.listen(fixture.config()).await.max_handshakes(2);
    let addr = addr_of(&listener);
    let silent = [TcpStream::connect(addr).await.unwrap(), TcpStream::connect(addr).await.unwrap()];
    let client = tokio::spawn(connect(addr, fixture.client(&[&TLS13])));
    for _ in 0..100 {
        tokio::select! {
            biased;
            _ = listener.accept() => panic!("the limit was exceeded"),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(fixture.sink.snapshot("").tcp_conns.len(), 2);
    drop(silent);
    listener.accept().await.unwrap();
    client.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_error_of_an_acceptor_has_a_failure_and_a_source() {
    let fixture = Fixture::new();
    let acceptor = TraceTlsAcceptor::new(&fixture.sink, Arc::new(fixture.config()));
    let listener = TraceListener::new(&fixture.sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addr = listener.local_addr().unwrap();
    let client = tokio::spawn(async move { ask(addr, &get("/")).await });
    let (io, peer) = listener.accept().await.unwrap();
    let error = acceptor.accept(io).await.unwrap_err();
    client.abort();
    assert_eq!(error.failure(), Failure::TlsNotTls);
    assert_eq!(error.to_string(), format!("TLS handshake with {peer} failed"));
    let source = std::error::Error::source(&error).unwrap().downcast_ref::<io::Error>().unwrap();
    assert!(source.get_ref().unwrap().is::<rustls::Error>());
}
