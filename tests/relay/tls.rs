//! TLS that passes a relay: what is not encrypted of it is recorded, and nothing is changed.

use crate::ended;
use nettrace::{
    Failure, NetTrace, TraceSink,
    connect::TcpConnector,
    record::{EndReason, TlsTunnelTrace},
    relay::Relay,
    resolve::StubResolver,
};
use rustls::{
    ClientConfig, ProtocolVersion, ServerConfig, SupportedProtocolVersion,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use std::{io, sync::Arc};
use test_support::{
    dns::DnsServer,
    pki::{Authority, provider},
    raw::{Conn, Server},
    wait,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

fn client(authority: &Authority, version: &'static SupportedProtocolVersion) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(authority.store())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn server(authority: &Authority) -> Arc<ServerConfig> {
    let mut config = authority.issue(&["web.test"]).server();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Answers whatever is asked with the same, after TLS was agreed on by `before`.
fn echo(config: Arc<ServerConfig>, before: &'static [u8]) -> Server {
    Server::start(async move |mut conn: Conn| {
        if !before.is_empty() {
            conn.read(before.len()).await?;
            conn.write(b"S").await?;
        }
        let acceptor = TlsAcceptor::from(config.clone());
        let mut tls = conn.upgrade(|stream| acceptor.accept(stream)).await?;
        let question = tls.read(8).await?;
        tls.write(&question).await?;
        tls.close().await
    })
}

async fn handshake(config: ClientConfig, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("web.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Waits until that many bytes have passed to the server.
async fn passed(sink: &TraceSink, bytes: usize) {
    let sent =
        || sink.snapshot("").tcp_conns.iter().map(|conn| conn.total_sent_bytes as usize).sum::<usize>();
    wait::until("the bytes have passed", || sent() == bytes).await;
}

/// Returns the only tunnel, after asserting that it is one of the only connection.
fn only_tunnel(trace: &NetTrace) -> &TlsTunnelTrace {
    let [tunnel] = &trace.tls_tunnels[..] else { panic!("not one tunnel: {:?}", trace.tls_tunnels) };
    assert_eq!(tunnel.tcp_conn, trace.tcp_conns[0].trace_id);
    assert!(!tunnel.accepted);
    tunnel
}

#[tokio::test]
async fn the_name_and_the_choices_of_the_server_are_recorded() {
    let authority = Authority::new("nettrace test CA");
    for version in [&TLS12, &TLS13] {
        let sink = TraceSink::new();
        let server = echo(server(&authority), b"");
        let relay = Relay::start(&sink, server.addr()).await.unwrap();
        let stream = TcpStream::connect(relay.addr()).await.unwrap();
        let mut tls = handshake(client(&authority, version), stream).await.unwrap();
        tls.write_all(b"question").await.unwrap();
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"question");
        let negotiated = tls.get_ref().1;
        let suite = u16::from(negotiated.negotiated_cipher_suite().unwrap().suite());
        let group = negotiated.negotiated_key_exchange_group().unwrap().name();
        drop(tls);

        let trace = ended(&sink, 1).await;
        let tunnel = only_tunnel(&trace);
        assert_eq!(tunnel.server_name, "web.test");
        assert_eq!((tunnel.cipher_suite, &tunnel.failure), (suite, &None));
        assert_eq!(tunnel.key_exchange_group.to_lowercase(), format!("{group:?}").to_lowercase());
        let is_13 = version.version == ProtocolVersion::TLSv1_3;
        assert_eq!(tunnel.tls_version, if is_13 { "TLSv1.3" } else { "TLSv1.2" });
        assert_eq!(tunnel.negotiated_proto, if is_13 { "" } else { "h2" });
        assert!(
            tunnel.handshake_begin_at <= tunnel.handshake_end_at
                && tunnel.handshake_end_at <= tunnel.close_at
        );
        assert_eq!(tunnel.end_reason, Some(EndReason::PeerClosed));
    }
}

/// As PostgreSQL does it.
#[tokio::test]
async fn tls_that_is_agreed_on_first_is_found() {
    let authority = Authority::new("nettrace test CA");
    let sink = TraceSink::new();
    let server = echo(server(&authority), b"TLS please");
    let relay = Relay::start(&sink, server.addr()).await.unwrap();
    let mut stream = TcpStream::connect(relay.addr()).await.unwrap();
    stream.write_all(b"TLS please").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    let mut tls = handshake(client(&authority, &TLS13), stream).await.unwrap();
    tls.write_all(b"question").await.unwrap();
    tls.read_to_end(&mut Vec::new()).await.unwrap();
    drop(tls);
    let trace = ended(&sink, 1).await;
    let tunnel = only_tunnel(&trace);
    assert_eq!((&*tunnel.server_name, &*tunnel.tls_version), ("web.test", "TLSv1.3"));
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_server_is_seen_to_refuse() {
    let (known, unknown) = (Authority::new("known"), Authority::new("unknown"));
    for version in [&TLS12, &TLS13] {
        let sink = TraceSink::new();
        let server = echo(server(&unknown), b"");
        let relay = Relay::start(&sink, server.addr()).await.unwrap();
        let stream = TcpStream::connect(relay.addr()).await.unwrap();
        handshake(client(&known, version), stream).await.unwrap_err();
        let trace = ended(&sink, 1).await;
        let tunnel = only_tunnel(&trace);
        assert_eq!((&*tunnel.server_name, &tunnel.end_reason), ("web.test", &Some(EndReason::Failed)));
        if version.version == ProtocolVersion::TLSv1_2 {
            assert_eq!(
                (&**tunnel.alert, &tunnel.failure),
                ("sent unknown_ca", &Some(Failure::SslUnknownAuthority))
            );
            assert_eq!(tunnel.handshake_err, "the client sent the fatal alert unknown_ca");
        } else {
            assert_eq!((&**tunnel.alert, &tunnel.failure), ("", &Some(Failure::TlsAlert)));
            assert_eq!(tunnel.handshake_err, "the client refused the server with an encrypted alert");
        }
    }
}

/// The server wants a group for which the client has sent no key.
#[tokio::test]
async fn a_hello_retry_is_followed_to_the_end() {
    let authority = Authority::new("nettrace test CA");
    let config = authority.issue(&["web.test"]).server_that_retries();
    let sink = TraceSink::new();
    let server = echo(Arc::new(config), b"");
    let relay = Relay::start(&sink, server.addr()).await.unwrap();
    let stream = TcpStream::connect(relay.addr()).await.unwrap();
    let mut config = client(&authority, &TLS13);
    config.alpn_protocols.clear();
    let mut tls = handshake(config, stream).await.unwrap();
    tls.write_all(b"question").await.unwrap();
    tls.read_to_end(&mut Vec::new()).await.unwrap();
    drop(tls);
    let trace = ended(&sink, 1).await;
    let tunnel = only_tunnel(&trace);
    assert_eq!((&*tunnel.key_exchange_group, &tunnel.failure), ("secp384r1", &None));
    assert_eq!(tunnel.tls_version, "TLSv1.3");
    assert!(tunnel.hello_retry_request && tunnel.client_hello_len.is_some());
}

/// As a MySQL client may do it.
#[tokio::test]
async fn a_hello_behind_what_asks_for_tls_is_found() {
    let authority = Authority::new("nettrace test CA");
    let mut hello = rustls::ClientConnection::new(
        Arc::new(client(&authority, &TLS13)),
        ServerName::try_from("web.test").unwrap(),
    )
    .unwrap();
    let mut bytes = b"TLS please".to_vec();
    hello.write_tls(&mut bytes).unwrap();
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| conn.read_to_end().await);
    let relay = Relay::start(&sink, server.addr()).await.unwrap();
    let mut stream = TcpStream::connect(relay.addr()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    drop(stream);
    let trace = ended(&sink, 1).await;
    assert_eq!(only_tunnel(&trace).server_name, "web.test");
}

#[tokio::test]
async fn tls_over_a_connection_of_another_sink_is_not_recorded() {
    let (sink, other, authority) = (TraceSink::new(), TraceSink::new(), Authority::new("nettrace test CA"));
    let server = echo(server(&authority), b"");
    let relay =
        Relay::builder(&sink, server.addr()).connector(TcpConnector::new(&other)).start().await.unwrap();
    let stream = TcpStream::connect(relay.addr()).await.unwrap();
    drop(handshake(client(&authority, &TLS13), stream).await.unwrap());
    let trace = ended(&other, 1).await;
    assert!(trace.tls_tunnels.is_empty() && sink.snapshot("").tls_tunnels.is_empty());
}

#[tokio::test]
async fn a_server_that_refuses_is_recorded_with_its_alert() {
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| {
        conn.read(100).await?;
        conn.write(&[21, 3, 3, 0, 2, 2, 70]).await?;
        conn.close().await
    });
    let relay = Relay::start(&sink, server.addr()).await.unwrap();
    let stream = TcpStream::connect(relay.addr()).await.unwrap();
    handshake(client(&Authority::new("any"), &TLS13), stream).await.unwrap_err();
    let trace = ended(&sink, 1).await;
    let tunnel = only_tunnel(&trace);
    assert_eq!(
        (&**tunnel.alert, &tunnel.failure),
        ("received protocol_version", &Some(Failure::SslFailedHandshake))
    );
}

#[tokio::test]
async fn a_server_without_tls_is_recorded_as_such() {
    for (answer, hint) in
        [("HTTP/1.1 400 Bad Request\r\n\r\n", " (it answered in plain HTTP)"), ("SSH-2.0-x\r\n", "")]
    {
        let sink = TraceSink::new();
        let server = Server::start(async move |mut conn| {
            conn.read(100).await?;
            conn.write(answer.as_bytes()).await?;
            conn.close().await
        });
        let relay = Relay::start(&sink, server.addr()).await.unwrap();
        let stream = TcpStream::connect(relay.addr()).await.unwrap();
        handshake(client(&Authority::new("any"), &TLS13), stream).await.unwrap_err();
        let trace = ended(&sink, 1).await;
        let tunnel = only_tunnel(&trace);
        assert_eq!(tunnel.failure, Some(Failure::TlsNotTls));
        assert_eq!(tunnel.handshake_err, format!("the server does not speak TLS{hint}"));
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_has_failed_the_handshake() {
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| {
        conn.read(100).await?;
        conn.close().await
    });
    let relay = Relay::start(&sink, server.addr()).await.unwrap();
    let stream = TcpStream::connect(relay.addr()).await.unwrap();
    handshake(client(&Authority::new("any"), &TLS13), stream).await.unwrap_err();
    let trace = ended(&sink, 1).await;
    let tunnel = only_tunnel(&trace);
    assert_eq!((&tunnel.failure, &tunnel.end_reason), (&Some(Failure::EofError), &Some(EndReason::Failed)));
}

#[tokio::test]
async fn a_client_that_leaves_has_given_the_handshake_up() {
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| conn.read_to_end().await.map(drop));
    let relay = Relay::start(&sink, server.addr()).await.unwrap();
    let stream = TcpStream::connect(relay.addr()).await.unwrap();
    let handshaking = tokio::spawn(handshake(client(&Authority::new("any"), &TLS13), stream));
    wait::until("the handshake has begun", || !sink.snapshot("").tls_tunnels.is_empty()).await;
    handshaking.abort();
    let trace = ended(&sink, 1).await;
    let tunnel = only_tunnel(&trace);
    assert_eq!(
        (&tunnel.end_reason, &tunnel.failure),
        (&Some(EndReason::Cancelled), &Some(Failure::Interrupted))
    );
}

/// One byte at a time.
#[tokio::test]
async fn a_hello_in_pieces_is_read() {
    let authority = Authority::new("nettrace test CA");
    let sink = TraceSink::new();
    let server = echo(server(&authority), b"");
    let relay = Relay::start(&sink, server.addr()).await.unwrap();
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow_addr = slow.local_addr().unwrap();
    let (addr, of_task) = (relay.addr(), sink.clone());
    tokio::spawn(async move {
        let (mut conn, _) = slow.accept().await.unwrap();
        let mut there = TcpStream::connect(addr).await.unwrap();
        there.set_nodelay(true).unwrap();
        let mut hello = [0; 200];
        conn.read_exact(&mut hello).await.unwrap();
        for (at, byte) in hello.into_iter().enumerate() {
            there.write_all(&[byte]).await.unwrap();
            passed(&of_task, at + 1).await;
        }
        tokio::io::copy_bidirectional(&mut conn, &mut there).await
    });
    let stream = TcpStream::connect(slow_addr).await.unwrap();
    let mut tls = handshake(client(&authority, &TLS13), stream).await.unwrap();
    tls.write_all(b"question").await.unwrap();
    tls.read_to_end(&mut Vec::new()).await.unwrap();
    drop(tls);
    let trace = ended(&sink, 1).await;
    let tunnel = only_tunnel(&trace);
    assert_eq!((&*tunnel.server_name, &*tunnel.tls_version), ("web.test", "TLSv1.3"));
}

#[tokio::test]
async fn other_protocols_have_no_tunnel() {
    for question in [
        &b"\x16\x03hello, this is something else"[..],
        b"\x16\x03\x01\x00\x05\x02what",
        b"*1\r\n$4\r\nPING\r\n",
    ] {
        let sink = TraceSink::new();
        let server = Server::start(async |mut conn| conn.read_to_end().await.map(drop));
        let relay = Relay::start(&sink, server.addr()).await.unwrap();
        let mut stream = TcpStream::connect(relay.addr()).await.unwrap();
        for (at, byte) in question.iter().enumerate() {
            stream.write_all(&[*byte]).await.unwrap();
            passed(&sink, at + 1).await;
        }
        drop(stream);
        let trace = ended(&sink, 1).await;
        assert_eq!(trace.tls_tunnels.len(), 0, "{question:?}: {:?}", trace.tls_tunnels);
        assert_eq!(server.ended(1).await[0].received, question);
    }
}

#[tokio::test]
async fn a_client_that_resets_its_connection_ends_the_dial() {
    let sink = TraceSink::new();
    let dns = DnsServer::silent().await;
    let resolver = StubResolver::builder(&sink).nameservers([dns.addr()]).build().unwrap();
    let connector = TcpConnector::new(&sink).resolver(resolver);
    let relay = Relay::builder(&sink, "web.test:1").connector(connector).start().await.unwrap();
    let stream = TcpStream::connect(relay.addr()).await.unwrap();
    dns.wait_for_queries(1).await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    wait::until("the dial has ended", || sink.snapshot("").dials[0].end_reason.is_some()).await;
    assert_eq!(sink.snapshot("").dials[0].end_reason, Some(EndReason::Cancelled));
}
