//! TLS over any connector: what is recorded of handshakes that succeed and of those that fail.
#![cfg(all(feature = "tls", any(feature = "ring", feature = "aws-lc-rs")))]

mod support;

use std::{
    error::Error,
    future::poll_fn,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::future::{Either, join_all, select};
use hyper::rt::Write as _;
use hyper_util::{
    client::legacy::connect::Connection,
    rt::{TokioExecutor, TokioIo},
};
use nettrace::{
    Failure, TraceSink,
    record::{EndReason, TlsTunnelTrace},
    tls::{
        ClientCertificate, MaybeTlsStream, Parts, Roots, TlsError, TlsStream, TlsVersion, TraceTls,
        TraceTlsFuture, TraceTlsLayer, TraceTlsLayerBuilder, TraceVerifier,
    },
};
use rustls::{ClientConfig, SupportedProtocolVersion, client::WebPkiServerVerifier, version};
use support::pki::{self, Authority, serve_tcp, serve_tls, serve_tls_echo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};
use tower::{Layer, ServiceExt, service_fn};

type Tcp = TokioIo<TcpStream>;
type BoxError = Box<dyn Error + Send + Sync>;

const VERSIONS: [(&str, TlsVersion, &SupportedProtocolVersion); 2] =
    [("TLSv1.2", TlsVersion::Tls12, &version::TLS12), ("TLSv1.3", TlsVersion::Tls13, &version::TLS13)];

/// A client that trusts one authority.
struct Side {
    sink: TraceSink,
    authority: Authority,
}

impl Side {
    fn new() -> Self {
        Side { sink: TraceSink::new(), authority: Authority::new("nettrace test CA") }
    }

    fn builder(&self) -> TraceTlsLayerBuilder<Parts> {
        TraceTlsLayer::builder(&self.sink).roots(Roots::from_pem(self.authority.pem()).unwrap())
    }

    /// The only tunnel so far.
    #[track_caller]
    fn tunnel(&self) -> TlsTunnelTrace {
        let tunnels = self.tunnels();
        let [tunnel] = tunnels.as_slice() else { panic!("{} tunnels", tunnels.len()) };
        tunnel.clone()
    }

    fn tunnels(&self) -> Vec<TlsTunnelTrace> {
        self.sink.snapshot("test").tls_tunnels.into_vec()
    }
}

/// Connects to `address`, whatever the URI.
async fn connect(
    layer: &TraceTlsLayer,
    address: SocketAddr,
    uri: &str,
) -> Result<MaybeTlsStream<Tcp>, BoxError> {
    layer.layer(service_fn(move |_| tcp(address))).oneshot(uri.parse().unwrap()).await
}

async fn tcp(address: SocketAddr) -> io::Result<Tcp> {
    TcpStream::connect(address).await.map(TokioIo::new)
}

/// The error of a handshake with a server of the name `web.test`.
async fn refused(layer: &TraceTlsLayer, address: SocketAddr) -> TlsError {
    let error = connect(layer, address, "https://web.test/").await.expect_err("no connection");
    *error.downcast().expect("an error of TLS")
}

async fn exchange(stream: MaybeTlsStream<Tcp>) -> io::Result<MaybeTlsStream<Tcp>> {
    let mut stream = TokioIo::new(stream);
    stream.write_all(b"ping").await?;
    stream.flush().await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"ping");
    Ok(stream.into_inner())
}

#[tokio::test]
async fn success() {
    for (name, version, supported) in VERSIONS {
        let side = Side::new();
        let leaf = side.authority.issue(&["web.test", "192.0.2.1"]);
        let address = serve_tls_echo(leaf.server_with(&[supported], None)).await;
        let layer = side.builder().min_version(version).max_version(version).build();
        let stream = exchange(connect(&layer, address, "https://web.test/").await.unwrap()).await.unwrap();

        let open = side.tunnel();
        assert_eq!((open.tls_version.as_str(), open.server_name.as_str()), (name, "web.test"));
        assert_eq!(open.cipher_suite, if version == TlsVersion::Tls13 { 0x1302 } else { 0xc02c });
        assert!(["x25519", "X25519MLKEM768"].contains(&open.key_exchange_group.as_str()), "{open:?}");
        assert_eq!((open.negotiated_proto.as_str(), open.alert.as_str()), ("", ""));
        assert!(!open.did_resume);
        assert!(open.handshake_end_at >= open.handshake_begin_at);
        assert_eq!((open.failure, open.end_reason, open.close_at.is_undefined()), (None, None, true));
        assert_eq!(open.tcp_conn.as_str(), "", "nothing is known of the connection below");
        let [web, authority] = &*open.peer_certs else { panic!("{:?}", open.peer_certs) };
        assert_eq!((web.subject.as_str(), web.is_ca), ("CN=web.test", false));
        assert!(web.issuer.starts_with("CN=nettrace test CA"), "{}", web.issuer);
        assert_eq!(web.sans, ["web.test", "192.0.2.1"]);
        assert_eq!((&authority.subject, authority.is_ca), (&web.issuer, true));

        drop(stream);
        let closed = side.tunnel();
        assert_eq!((closed.end_reason, closed.failure), (Some(EndReason::Closed), None));
        assert!(closed.close_at >= closed.handshake_end_at);
    }
}

#[tokio::test]
async fn resumption() {
    for (_, version, supported) in VERSIONS {
        let side = Side::new();
        let address =
            serve_tls_echo(side.authority.issue(&["web.test"]).server_with(&[supported], None)).await;
        let layer = side.builder().max_version(version).build();
        for _ in 0..2 {
            // The exchange has the tickets of TLS 1.3 read.
            exchange(connect(&layer, address, "https://web.test/").await.unwrap()).await.unwrap();
        }
        let [first, second] = &side.tunnels()[..] else { panic!("two tunnels") };
        assert_eq!((first.did_resume, second.did_resume), (false, true));
        assert_eq!(first.peer_certs, second.peer_certs);
        assert_eq!(first.peer_certs.len(), 2);
    }
}

#[tokio::test]
async fn alpn() {
    for (offered, chosen) in [(&["h2", "http/1.1"][..], "h2"), (&["http/1.1"], "http/1.1"), (&[], "")] {
        let side = Side::new();
        let mut config = side.authority.issue(&["web.test"]).server();
        config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
        let address = serve_tls_echo(config).await;
        let stream =
            connect(&side.builder().alpn(offered).build(), address, "https://web.test/").await.unwrap();
        assert_eq!(stream.connected().is_negotiated_h2(), chosen == "h2");
        assert_eq!(side.tunnel().negotiated_proto, chosen);
    }
}

#[tokio::test]
async fn no_protocol_in_common() {
    let side = Side::new();
    let mut config = side.authority.issue(&["web.test"]).server();
    config.alpn_protocols = vec![b"spdy/3".into()];
    let address = serve_tls_echo(config).await;
    let error = refused(&side.builder().alpn(["h2"]).build(), address).await;
    assert_eq!(error.failure(), Failure::SslFailedHandshake);
    assert_eq!(side.tunnel().alert, "received no_application_protocol");
}

#[tokio::test]
async fn certificates_that_are_not_accepted() {
    let stranger = Authority::new("somebody");
    let side = Side::new();
    let trusted = &side.authority;
    let expired =
        trusted.issue_with(&["web.test"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let early =
        trusted.issue_with(&["web.test"], |params| params.not_before = rcgen::date_time_ymd(3000, 1, 1));
    let cases = [
        (stranger.issue(&["web.test"]), Failure::SslUnknownAuthority, "sent unknown_ca", "UnknownIssuer"),
        (expired, Failure::SslInvalidCertificate, "sent certificate_expired", "expired"),
        (early, Failure::SslInvalidCertificate, "sent certificate_expired", "not valid yet"),
        (trusted.issue(&["other.test"]), Failure::SslInvalidHostname, "sent bad_certificate", "other.test"),
    ];
    for (leaf, failure, alert, text) in cases {
        for (name, version, supported) in VERSIONS {
            let side = Side { sink: TraceSink::new(), authority: Authority::new("unused") };
            let address = serve_tls_echo(leaf.server_with(&[supported], None)).await;
            let roots = Roots::from_der([trusted.der()]).unwrap();
            let layer = side.builder().roots(roots).min_version(version).max_version(version).build();
            let error = refused(&layer, address).await;
            assert_eq!(error.failure(), failure);
            assert_eq!(error.to_string(), "TLS handshake with web.test failed");
            let io = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
            assert!(io.get_ref().unwrap().is::<rustls::Error>());

            let tunnel = side.tunnel();
            assert_eq!(tunnel.failure.as_ref(), Some(&failure));
            assert_eq!(tunnel.end_reason, Some(EndReason::Failed));
            assert!(tunnel.handshake_err.contains(text), "{}", tunnel.handshake_err);
            assert_eq!(tunnel.handshake_err, io.to_string());
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
async fn the_choices_of_a_retried_hello_are_known() {
    let stranger = Authority::new("somebody");
    let mut provider = rustls::crypto::ring::default_provider();
    provider.kx_groups.retain(|group| group.name() == rustls::NamedGroup::secp384r1);
    let leaf = stranger.issue(&["web.test"]);
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(leaf.chain.clone(), leaf.key_der())
        .unwrap();
    let side = Side::new();
    refused(&side.builder().build(), serve_tls_echo(config).await).await;
    let tunnel = side.tunnel();
    assert_eq!((tunnel.tls_version.as_str(), tunnel.key_exchange_group.as_str()), ("TLSv1.3", "secp384r1"));
}

#[tokio::test]
async fn tls_to_a_plain_port() {
    for (greeting, is_http) in
        [("HTTP/1.1 400 Bad Request\r\n\r\n", true), ("SSH-2.0-OpenSSH_9.2p1\r\n", false)]
    {
        let side = Side::new();
        let address = serve_tcp(async |mut stream: TcpStream| {
            let _ = stream.write_all(greeting.as_bytes()).await;
            let _ = stream.read(&mut [0; 4096]).await;
        })
        .await;
        let error = refused(&side.builder().build(), address).await;
        assert_eq!(error.failure(), Failure::TlsNotTls);
        let tunnel = side.tunnel();
        assert_eq!(tunnel.failure, Some(Failure::TlsNotTls));
        assert_eq!(tunnel.handshake_err.contains("plain HTTP"), is_http, "{}", tunnel.handshake_err);
        assert_eq!((tunnel.tls_version.as_str(), tunnel.cipher_suite), ("", 0));
    }
}

#[tokio::test]
async fn the_server_hangs_up() {
    let side = Side::new();
    let address = serve_tcp(async |mut stream: TcpStream| drop(stream.read(&mut [0; 4096]).await)).await;
    let error = refused(&side.builder().build(), address).await;
    assert_eq!(error.failure(), Failure::EofError);
    let tunnel = side.tunnel();
    assert_eq!((tunnel.failure, tunnel.end_reason), (Some(Failure::EofError), Some(EndReason::Failed)));
    assert_eq!(tunnel.handshake_err, "tls handshake eof");
}

#[tokio::test]
async fn the_server_resets_the_connection() {
    let side = Side::new();
    let address = serve_tcp(async |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 16]).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    let error = refused(&side.builder().build(), address).await;
    assert_eq!(error.failure(), Failure::ConnectionReset);
    let io = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(io.kind(), io::ErrorKind::ConnectionReset, "the socket's own error");
    assert_eq!(side.tunnel().failure, Some(Failure::ConnectionReset));
}

#[tokio::test]
async fn versions_that_do_not_meet() {
    let side = Side::new();
    let address =
        serve_tls_echo(side.authority.issue(&["web.test"]).server_with(&[&version::TLS12], None)).await;
    let error = refused(&side.builder().min_version(TlsVersion::Tls13).build(), address).await;
    assert_eq!(error.failure(), Failure::SslFailedHandshake);
    assert_eq!(side.tunnel().alert, "received protocol_version");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_with_the_time_limit() {
    let side = Side::new();
    let address = serve_tcp(async |stream: TcpStream| {
        let _stream = stream;
        std::future::pending().await
    })
    .await;
    let layer = side.builder().handshake_timeout(Duration::from_secs(10)).build();
    let error = refused(&layer, address).await;
    assert_eq!(error.failure(), Failure::GenericTimeoutError);
    assert_eq!(error.to_string(), "TLS handshake with web.test timed out");
    let io = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(io.kind(), io::ErrorKind::TimedOut);
    let tunnel = side.tunnel();
    assert_eq!(
        (tunnel.failure, tunnel.end_reason),
        (Some(Failure::GenericTimeoutError), Some(EndReason::Timeout))
    );
    assert!(tunnel.handshake_err.contains("10s"), "{}", tunnel.handshake_err);
}

#[tokio::test(start_paused = true)]
async fn silence_after_the_hello_keeps_what_it_said() {
    let side = Side::new();
    let server =
        serve_tls_echo(side.authority.issue(&["web.test"]).server_with(&[&version::TLS13], None)).await;
    // Lets the ServerHello through, and little more.
    let address = serve_tcp(move |mut stream: TcpStream| async move {
        let mut server = TcpStream::connect(server).await.unwrap();
        let mut buffer = [0; 4096];
        let len = stream.read(&mut buffer).await.unwrap();
        server.write_all(&buffer[..len]).await.unwrap();
        server.read_exact(&mut buffer[..200]).await.unwrap();
        stream.write_all(&buffer[..200]).await.unwrap();
        std::future::pending().await
    })
    .await;
    refused(&side.builder().handshake_timeout(Duration::from_secs(1)).build(), address).await;
    let tunnel = side.tunnel();
    assert_eq!(tunnel.end_reason, Some(EndReason::Timeout));
    assert_eq!((tunnel.tls_version.as_str(), tunnel.cipher_suite), ("TLSv1.3", 0x1302));
}

#[tokio::test]
async fn dropped_in_the_handshake() {
    let side = Side::new();
    let (hello, has_come) = oneshot::channel();
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
    let layer = side.builder().build();
    {
        let dial = pin!(connect(&layer, address, "https://web.test/"));
        assert!(matches!(select(dial, has_come).await, Either::Right(_)));
        let tunnel = side.tunnel();
        assert_eq!((tunnel.end_reason, tunnel.handshake_end_at.is_undefined()), (None, true));
    }
    let tunnel = side.tunnel();
    assert_eq!((tunnel.failure, tunnel.end_reason), (Some(Failure::Interrupted), Some(EndReason::Cancelled)));
    assert!(tunnel.handshake_end_at >= tunnel.handshake_begin_at);
}

#[tokio::test]
async fn client_certificate_given() {
    for (_, version, supported) in VERSIONS {
        let side = Side::new();
        let clients = Authority::new("clients");
        let leaf = side.authority.issue(&["web.test"]);
        let address = serve_tls_echo(leaf.server_with(&[supported], Some(&clients))).await;
        let me = clients.issue(&["me"]);
        let certificate = ClientCertificate::from_pem(&me.pem, me.key_pem()).unwrap();
        let layer = side.builder().max_version(version).client_certificate(certificate).build();
        exchange(connect(&layer, address, "https://web.test/").await.unwrap()).await.unwrap();
        assert_eq!((side.tunnel().failure, side.tunnel().end_reason), (None, Some(EndReason::Closed)));
    }
}

#[tokio::test]
async fn client_certificate_demanded_in_tls12() {
    let side = Side::new();
    let leaf = side.authority.issue(&["web.test"]);
    let address = serve_tls_echo(leaf.server_with(&[&version::TLS12], Some(&side.authority))).await;
    let error = refused(&side.builder().build(), address).await;
    assert_eq!(error.failure(), Failure::TlsClientCertificateRequired);
    let tunnel = side.tunnel();
    assert_eq!(
        (tunnel.end_reason, tunnel.alert.as_str()),
        (Some(EndReason::Failed), "received certificate_required")
    );
    assert_eq!(tunnel.peer_certs[0].subject, "CN=web.test");
}

#[tokio::test]
async fn client_certificate_demanded_in_tls13() {
    let clients = Authority::new("clients");
    let stranger = Authority::new("somebody").issue(&["me"]);
    let stranger = ClientCertificate::from_der(&stranger.chain, stranger.key_der().secret_der()).unwrap();
    for (certificate, alert) in [(None, "certificate_required"), (Some(stranger), "unknown_ca")] {
        let side = Side::new();
        let leaf = side.authority.issue(&["web.test"]);
        let address = serve_tls_echo(leaf.server_with(&[&version::TLS13], Some(&clients))).await;
        let builder = side.builder();
        let layer = certificate.into_iter().fold(builder, TraceTlsLayerBuilder::client_certificate).build();
        // For the client the handshake is over before the server has judged.
        let mut stream = TokioIo::new(connect(&layer, address, "https://web.test/").await.unwrap());
        assert_eq!(side.tunnel().end_reason, None);
        let error = stream.read_u8().await.unwrap_err();
        assert!(error.get_ref().unwrap().is::<rustls::Error>(), "goes up as it is: {error:?}");
        drop(stream);
        let tunnel = side.tunnel();
        assert_eq!(tunnel.failure, Some(Failure::TlsClientCertificateRequired));
        assert_eq!(tunnel.end_reason, Some(EndReason::Failed));
        assert_eq!((tunnel.alert, tunnel.handshake_err), (format!("received {alert}"), error.to_string()));
        assert_eq!((tunnel.tls_version.as_str(), tunnel.peer_certs.len()), ("TLSv1.3", 2));
    }
}

#[tokio::test]
async fn other_schemes_pass_untouched() {
    let side = Side::new();
    let address = serve_tcp(async |mut stream: TcpStream| drop(stream.write_all(b"hello").await)).await;
    for uri in ["http://web.test/", "unix://web.test/", "web.test:80"] {
        let stream = connect(&side.builder().build(), address, uri).await.unwrap();
        assert!(matches!(stream, MaybeTlsStream::Plain(_)));
        let mut text = String::new();
        TokioIo::new(stream).read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
    }
    assert!(side.tunnels().is_empty());
}

#[tokio::test]
async fn always_and_another_name() {
    let side = Side::new();
    let address = serve_tls_echo(side.authority.issue(&["web.test", "127.0.0.1", "::1"]).server()).await;
    let always = side.builder().always();
    exchange(connect(&always.clone().build(), address, "http://web.test/").await.unwrap()).await.unwrap();
    let other = always.server_name("web.test").build();
    exchange(connect(&other, address, "unix://no.such.name/").await.unwrap()).await.unwrap();
    for uri in ["https://127.0.0.1/", "https://[::1]/"] {
        exchange(connect(&side.builder().build(), address, uri).await.unwrap()).await.unwrap();
    }
    let names: Vec<String> = side.tunnels().into_iter().map(|tunnel| tunnel.server_name).collect();
    assert_eq!(names, ["web.test", "web.test", "", ""], "no name is sent for an address");
}

#[tokio::test]
async fn unusable_names_and_configurations() {
    let side = Side::new();
    let address: SocketAddr = "127.0.0.1:9".parse().unwrap(); // never reached
    let failure = async |layer: TraceTlsLayer, uri: &str| {
        let error = connect(&layer, address, uri).await.unwrap_err();
        error.downcast::<TlsError>().unwrap().failure()
    };
    assert_eq!(failure(side.builder().build(), "https://-/").await, Failure::InvalidTarget);
    assert_eq!(
        failure(side.builder().server_name("a b").build(), "https://web.test/").await,
        Failure::InvalidTarget
    );
    let no_version = side.builder().min_version(TlsVersion::Tls13).max_version(TlsVersion::Tls12);
    assert_eq!(no_version.clone().try_build().unwrap_err().failure(), Failure::TlsConfiguration);
    assert_eq!(failure(no_version.build(), "https://web.test/").await, Failure::TlsConfiguration);
    let (one, two) = (side.authority.issue(&["me"]), side.authority.issue(&["me"]));
    let mismatch = ClientCertificate::from_pem(&one.pem, two.key_pem()).unwrap();
    let mismatch = side.builder().client_certificate(mismatch).try_build().unwrap_err();
    assert_eq!(mismatch.failure(), Failure::TlsConfiguration);
    let none = side.builder().roots(rustls::RootCertStore::empty().into()).try_build().unwrap_err();
    assert_eq!(none.failure(), Failure::NoRootCertificates);
    assert!(side.tunnels().is_empty(), "nothing had begun");
}

#[test]
fn roots_and_client_certificates_are_read_with_care() {
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

/// In a process of its own, as the roots are found by its environment.
#[test]
fn a_machine_without_roots() {
    const NAME: &str = "a_machine_without_roots";
    if std::env::var_os("SSL_CERT_FILE").is_none_or(|file| file != "/dev/null") {
        let own = std::env::current_exe().unwrap();
        let mut command = std::process::Command::new(own);
        command
            .args(["--exact", NAME, "--nocapture"])
            .env("SSL_CERT_FILE", "/dev/null")
            .env_remove("SSL_CERT_DIR");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
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
        assert!(connect(&layer, address, "http://web.test/").await.is_ok(), "plain connections go on");
    });
}

#[tokio::test]
async fn invalid_certificates_accepted() {
    for (_, version, supported) in VERSIONS {
        let side = Side::new();
        let leaf = Authority::new("somebody").issue(&["other.test"]);
        let address = serve_tls_echo(leaf.server_with(&[supported], None)).await;
        let layer = side.builder().danger_accept_invalid_certs().max_version(version).build();
        exchange(connect(&layer, address, "https://web.test/").await.unwrap()).await.unwrap();
        assert_eq!(side.tunnel().peer_certs[0].subject, "CN=other.test");
    }
}

#[tokio::test]
async fn given_configuration_and_verifier() {
    let side = Side::new();
    let address = serve_tls_echo(Authority::new("somebody").issue(&["web.test"]).server()).await;
    let own =
        WebPkiServerVerifier::builder_with_provider(side.authority.store(), pki::provider()).build().unwrap();
    let config = |verifier| {
        let builder =
            ClientConfig::builder_with_provider(pki::provider()).with_safe_default_protocol_versions();
        Arc::new(
            builder.unwrap().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth(),
        )
    };
    let traced = config(Arc::new(TraceVerifier::new(own.clone())));
    let layers = [
        (TraceTlsLayer::builder(&side.sink).config(config(own.clone())).build(), 0),
        (TraceTlsLayer::builder(&side.sink).config(traced).build(), 2),
        (TraceTlsLayer::builder(&side.sink).verifier(own).build(), 2),
    ];
    for (nth, (layer, certificates)) in layers.into_iter().enumerate() {
        assert_eq!(refused(&layer, address).await.failure(), Failure::SslUnknownAuthority);
        assert_eq!(side.tunnels()[nth].peer_certs.len(), certificates);
        assert_eq!(side.tunnels()[nth].tls_version, "TLSv1.3");
    }
}

#[tokio::test]
async fn tls_in_tls() {
    let side = Side::new();
    let server = serve_tls_echo(side.authority.issue(&["web.test"]).server()).await;
    // Speaks TLS itself and passes on what is inside.
    let proxy = serve_tls(side.authority.issue(&["proxy.test"]).server(), move |mut stream| async move {
        let mut server = TcpStream::connect(server).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
    })
    .await;
    let to_proxy = side.builder().server_name("proxy.test").build();
    let connector = side.builder().build().layer(to_proxy.layer(service_fn(move |_| tcp(proxy))));
    let stream = connector.oneshot("https://web.test/".parse().unwrap()).await.unwrap();
    let mut stream = TokioIo::new(stream);
    stream.write_all(&[7; 100_000]).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = vec![0; 100_000];
    stream.read_exact(&mut answer).await.unwrap();
    assert!(answer.iter().all(|byte| *byte == 7));
    drop(stream);
    let names: Vec<String> = side.tunnels().into_iter().map(|tunnel| tunnel.server_name).collect();
    assert_eq!(names, ["proxy.test", "web.test"]);
    assert!(side.tunnels().iter().all(|tunnel| tunnel.end_reason == Some(EndReason::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_at_the_same_time_keep_their_certificates() {
    let side = Side::new();
    let layer = side.builder().build();
    let stranger = Authority::new("somebody");
    let dials = join_all((0..32).map(async |number| {
        let name = format!("server{number}.test");
        let authority = if number % 2 == 0 { &stranger } else { &side.authority };
        let address = serve_tls_echo(authority.issue(&[&name]).server()).await;
        let layer = layer.clone();
        let dial =
            tokio::spawn(async move { connect(&layer, address, &format!("https://{name}/")).await.is_ok() });
        assert_eq!(dial.await.unwrap(), number % 2 == 1);
    }));
    dials.await;
    let tunnels = side.tunnels();
    assert_eq!(tunnels.len(), 32);
    for tunnel in tunnels {
        assert_eq!(tunnel.peer_certs[0].subject, format!("CN={}", tunnel.server_name));
    }
}

#[tokio::test]
async fn without_a_sink_all_works_the_same() {
    let side = Side { sink: TraceSink::disabled(), authority: Authority::new("nettrace test CA") };
    let address = serve_tls_echo(side.authority.issue(&["web.test"]).server()).await;
    exchange(connect(&side.builder().build(), address, "https://web.test/").await.unwrap()).await.unwrap();
    let error = connect(&side.builder().build(), address, "https://other.test/").await.unwrap_err();
    assert_eq!(error.downcast::<TlsError>().unwrap().failure(), Failure::SslInvalidHostname);
    assert!(side.tunnels().is_empty());
}

#[tokio::test]
async fn errors_of_the_connector_go_up_as_they_are() {
    let side = Side::new();
    let connector = service_fn(|_| async { Err::<Tcp, _>(io::Error::other("no way")) });
    let error = side.builder().build().layer(connector).oneshot("https://web.test/".parse().unwrap()).await;
    assert_eq!(error.unwrap_err().downcast::<io::Error>().unwrap().to_string(), "no way");
    assert!(side.tunnels().is_empty());
}

#[tokio::test]
async fn vectored_writes_pass() {
    let side = Side::new();
    let address = serve_tls_echo(side.authority.issue(&["web.test"]).server()).await;
    let mut stream = connect(&side.builder().build(), address, "https://web.test/").await.unwrap();
    assert!(stream.is_write_vectored());
    let parts = [IoSlice::new(b"pi"), IoSlice::new(b""), IoSlice::new(b"ng")];
    let written = poll_fn(|cx| Pin::new(&mut stream).poll_write_vectored(cx, &parts)).await.unwrap();
    assert_eq!(written, 4);
    let mut answer = [0; 4];
    TokioIo::new(stream).read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"ping");
}

#[tokio::test]
async fn hypers_client_takes_it() {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Empty, Full};
    use hyper_util::{client::legacy::Client, server::conn::auto};

    for alpn in ["h2", "http/1.1"] {
        let side = Side::new();
        let mut config = side.authority.issue(&["web.test"]).server();
        config.alpn_protocols = vec![alpn.into()];
        let address = serve_tls(config, |stream| async {
            let service = hyper::service::service_fn(async |request: hyper::Request<_>| {
                Ok::<_, hyper::Error>(hyper::Response::new(Full::<Bytes>::from(format!(
                    "{:?}",
                    request.version()
                ))))
            });
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        })
        .await;
        let connector =
            side.builder().alpn([alpn]).build().layer(service_fn(move |_| Box::pin(tcp(address))));
        let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
        let response = client.get("https://web.test/".parse().unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, if alpn == "h2" { "HTTP/2.0" } else { "HTTP/1.1" });
        assert_eq!(side.tunnel().negotiated_proto, alpn);
    }
}

#[tokio::test]
async fn errors_are_those_of_tokio_rustls() {
    let side = Side::new();
    let address = serve_tls_echo(Authority::new("somebody").issue(&["web.test"]).server()).await;
    let config = ClientConfig::builder_with_provider(pki::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(side.authority.store())
        .with_no_client_auth();
    let plain = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect("web.test".try_into().unwrap(), TcpStream::connect(address).await.unwrap())
        .await
        .unwrap_err();
    let ours = refused(&side.builder().build(), address).await;
    let ours = ours.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!((ours.kind(), ours.to_string()), (plain.kind(), plain.to_string()));
    let inner = |error: &io::Error| error.get_ref().unwrap().downcast_ref::<rustls::Error>().cloned();
    assert_eq!(inner(ours), inner(&plain));
}

#[test]
fn wrappers_are_what_they_wrap() {
    use static_assertions::{assert_impl_all, assert_not_impl_any};
    struct NotSend(std::marker::PhantomData<*const ()>);

    assert_impl_all!(TraceTlsLayer: Clone, Send, Sync, Unpin);
    assert_impl_all!(TraceTls<()>: Clone, Send, Sync, Unpin);
    assert_impl_all!(TlsStream<Tcp>: Send, Sync, Unpin);
    assert_impl_all!(MaybeTlsStream<Tcp>: Send, Sync, Unpin);
    assert_impl_all!(TraceTlsFuture<std::future::Ready<()>, Tcp>: Send, Sync, Unpin);
    assert_not_impl_any!(TlsStream<NotSend>: Send, Sync);
    assert_not_impl_any!(TraceTlsFuture<std::future::Ready<()>, NotSend>: Send, Sync);
    assert_not_impl_any!(TraceTlsFuture<std::marker::PhantomPinned, Tcp>: Unpin);
    assert_impl_all!(TlsError: Error, Send, Sync);
    let _ = (NotSend(std::marker::PhantomData), Poll::Ready(()));
}
