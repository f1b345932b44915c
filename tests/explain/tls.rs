//! Handshakes that fail.

use crate::{client, explained, only_verdict, quoted, root, slow_tls, trace_of};
use hyper_util::client::legacy::connect::HttpConnector;
use nettrace::{
    Failure, NetTrace, TraceSink,
    client::ClientBuilder,
    connect::TraceConnectLayer,
    explain::{Outcome, Severity},
    linux::TcpInfoProbe,
    tls::{ClientCertificate, Roots, TraceTlsLayer},
};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, ServerConfig, server::NoServerSessionStorage, version};
use std::{sync::Arc, time::Duration};
use test_support::{
    dns::DnsServer,
    lab::{Delay, Hook, Pair, Routed},
    pki::{self, Authority},
    raw::Server,
    require::require_lab,
    wait,
    web::{Web, reply},
};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tower::{Layer as _, ServiceExt as _};

/// Requests `https://web.test/` of a server with this configuration, and returns the trace.
async fn requested(
    sink: &TraceSink,
    config: ServerConfig,
    configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> NetTrace {
    let web = Web::tls(config, async |_| reply("hello"));
    let dns = DnsServer::answering(&["127.0.0.1"]).await;
    let client = configure(client(sink).nameservers([dns.addr()])).build().unwrap();
    trace_of(sink, &client, &format!("https://web.test:{}/", web.addr().port())).await
}

fn roots(authority: &Authority) -> Roots {
    Roots::from_pem(authority.pem()).unwrap()
}

/// Requests `https://web.test/` of a server with this configuration, and trusts only `authority`.
async fn trusting(authority: &Authority, config: ServerConfig) -> NetTrace {
    requested(&TraceSink::new(), config, |builder| builder.roots(roots(authority))).await
}

fn authority() -> Authority {
    Authority::new("nettrace test CA")
}

#[tokio::test]
async fn a_certificate_that_has_expired() {
    let (sink, authority) = (TraceSink::new(), authority());
    let leaf = authority.issue_with(&["127.0.0.1"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 3, 4);
    });
    let web = Web::tls(leaf.server(), async |_| reply("hello"));
    let client = client(&sink).roots(roots(&authority)).build().unwrap();
    let trace = trace_of(&sink, &client, &format!("https://{}/", web.addr())).await;
    let root = root(&trace, "tls_expired");
    assert_eq!(root.sentence, "The certificate of 127.0.0.1 expired on 2021-03-04.");
    assert!(quoted(&root, "peerCerts.notAfter").starts_with("2021-03-04T"));
}

#[tokio::test]
async fn a_certificate_whose_authority_has_expired() {
    let authority = authority();
    let old = |params: &mut CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "old CA");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 3, 4);
    };
    let intermediate = authority.issue_with(&[], old);
    let mut params = CertificateParams::default();
    old(&mut params);
    let issuer = Issuer::new(params, KeyPair::from_pem(&intermediate.key_pem()).unwrap());
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(["web.test".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let chain = vec![own.der().clone(), intermediate.chain[0].clone()];
    let config = ServerConfig::builder_with_provider(pki::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    let root = root(&trusting(&authority, config).await, "tls_expired");
    assert!(root.sentence.starts_with("The certificate of CN=old CA, with which"), "{}", root.sentence);
}

#[tokio::test]
async fn a_certificate_that_is_not_yet_valid() {
    let authority = authority();
    let leaf =
        authority.issue_with(&["web.test"], |params| params.not_before = rcgen::date_time_ymd(3000, 1, 1));
    let root = root(&trusting(&authority, leaf.server()).await, "tls_not_yet_valid");
    assert!(quoted(&root, "peerCerts.notBefore").starts_with("3000-01-01T"));
}

#[tokio::test]
async fn certificates_of_several_servers_that_are_not_yet_valid() {
    let (sink, authority) = (TraceSink::new(), authority());
    let dns = DnsServer::answering(&["127.0.0.1"]).await;
    let client = client(&sink).nameservers([dns.addr()]).roots(roots(&authority)).build().unwrap();
    for name in ["one.test", "two.test"] {
        let leaf =
            authority.issue_with(&[name], |params| params.not_before = rcgen::date_time_ymd(3000, 1, 1));
        let web = Web::tls(leaf.server(), async |_| reply("hello"));
        assert!(client.get(format!("https://{name}:{}/", web.addr().port())).await.is_err());
    }
    let explanation = explained(&sink.snapshot(""));
    let [finding] = &explanation.findings[..] else { panic!("{explanation:#?}") };
    assert_eq!((finding.code.as_str(), finding.count), ("tls_own_clock_wrong", 2));
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls() {
    for (greeting, what) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "plain HTTP"),
        ("SSH-2.0-OpenSSH_9.2p1\r\n", "another protocol"),
    ] {
        let sink = TraceSink::new();
        let server = Server::start(async move |mut conn| {
            conn.write(greeting.as_bytes()).await?;
            conn.read_to_end().await
        });
        let client = client(&sink).roots(roots(&authority())).build().unwrap();
        let trace = trace_of(&sink, &client, &format!("https://{}/", server.addr())).await;
        let root = root(&trace, "tls_not_tls");
        assert_eq!(root.sentence, format!("{} does not speak TLS: it answered with {what}.", server.addr()));
    }
}

#[tokio::test]
async fn an_authority_that_is_not_trusted() {
    let stranger = Authority::new("somebody");
    let root =
        root(&trusting(&authority(), stranger.issue(&["web.test"]).server()).await, "tls_unknown_authority");
    assert_eq!(quoted(&root, "peerCerts.issuer"), "CN=somebody");
    assert_eq!(quoted(&root, "alert"), "sent unknown_ca");
}

#[tokio::test]
async fn a_certificate_that_is_self_signed() {
    let trace = trusting(&authority(), pki::self_signed(&["web.test"], |_| {}).server()).await;
    let root = root(&trace, "tls_unknown_authority");
    assert!(root.sentence.contains("is self-signed"), "{}", root.sentence);
}

/// An inspection product is recognized by the name of its authority.
#[tokio::test]
async fn a_connection_that_a_product_looks_into() {
    let product = Authority::new("Zscaler Root CA");
    let root = root(&trusting(&authority(), product.issue(&["web.test"]).server()).await, "tls_intercepted");
    assert!(
        root.sentence.starts_with("The connection to web.test is intercepted: CN=Zscaler"),
        "{}",
        root.sentence
    );
}

#[tokio::test]
async fn a_certificate_of_another_issuer_than_before() {
    let (sink, authority, stranger) = (TraceSink::new(), authority(), Authority::new("somebody"));
    let configure = |builder: ClientBuilder| builder.roots(roots(&authority));
    requested(&sink, authority.issue(&["web.test"]).server(), configure).await;
    let trace = requested(&sink, stranger.issue(&["web.test"]).server(), configure).await;
    let root = root(&trace, "tls_intercepted");
    let issuers: Vec<_> = root
        .evidence
        .iter()
        .filter(|it| it.field == "peerCerts.issuer")
        .map(|it| it.value.as_str())
        .collect();
    assert_eq!(issuers, ["CN=somebody", "CN=nettrace test CA"]);
}

#[tokio::test]
async fn a_certificate_without_that_of_its_issuer() {
    let mut leaf = Authority::new("somebody").issue(&["web.test"]);
    leaf.chain.truncate(1);
    let root = root(&trusting(&authority(), leaf.server()).await, "tls_missing_intermediate");
    assert!(root.sentence.contains("without that of its issuer CN=somebody"), "{}", root.sentence);
}

#[tokio::test]
async fn a_certificate_for_another_name_of_the_domain() {
    let authority = authority();
    let trace = trusting(&authority, authority.issue(&["www.web.test"]).server()).await;
    let root = root(&trace, "tls_wrong_name");
    assert_eq!((quoted(&root, "peerCerts.sans"), root.about.as_str()), ("www.web.test", "web.test"));
}

/// It is the certificate of another site, or a self-signed one that a server has from its installation.
#[tokio::test]
async fn a_certificate_that_has_nothing_to_do_with_the_name() {
    let authority = authority();
    for leaf in [authority.issue(&["other.test"]), pki::self_signed(&["ingress.local"], |_| {})] {
        let root = root(&trusting(&authority, leaf.server()).await, "tls_default_certificate");
        assert!(root.sentence.contains("has no certificate for web.test"), "{}", root.sentence);
    }
}

/// rustls answers an unknown name with the alert `access_denied`, so that the alert is written by hand.
#[tokio::test]
async fn a_name_that_the_server_does_not_know() {
    let (sink, dns) = (TraceSink::new(), DnsServer::answering(&["127.0.0.1"]).await);
    let server = Server::start(async |mut conn| {
        conn.read(5).await?;
        conn.write(&[21, 3, 3, 0, 2, 2, 112]).await?;
        conn.read_to_end().await
    });
    let client = client(&sink).nameservers([dns.addr()]).roots(roots(&authority())).build().unwrap();
    let trace = trace_of(&sink, &client, &format!("https://web.test:{}/", server.addr().port())).await;
    let root = root(&trace, "tls_default_certificate");
    assert_eq!(quoted(&root, "alert"), "received unrecognized_name");
}

#[tokio::test]
async fn no_version_in_common() {
    let authority = authority();
    let config = ClientConfig::builder_with_provider(pki::provider())
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_root_certificates(authority.store())
        .with_no_client_auth();
    let server = authority.issue(&["web.test"]).server_with(&[&version::TLS12], None);
    let trace = requested(&TraceSink::new(), server, |builder| builder.tls_config(Arc::new(config))).await;
    let root = root(&trace, "tls_no_common_version_or_suite");
    assert_eq!(quoted(&root, "alert"), "received protocol_version");
}

#[tokio::test]
async fn no_protocol_of_alpn_in_common() {
    let authority = authority();
    let mut server = authority.issue(&["web.test"]).server();
    server.alpn_protocols = vec![b"spdy/3".into()];
    let root = root(&trusting(&authority, server).await, "tls_no_common_protocol");
    assert_eq!(quoted(&root, "alert"), "received no_application_protocol");
}

/// In TLS 1.3 the alert comes after the handshake.
#[tokio::test]
async fn a_client_certificate_that_is_missing_or_not_trusted() {
    let (authority, clients) = (authority(), Authority::new("clients"));
    let stranger = Authority::new("somebody").issue(&["me"]);
    let stranger = ClientCertificate::from_der(&stranger.chain, stranger.key_der().secret_der()).unwrap();
    for version in [&version::TLS12, &version::TLS13] {
        for (certificate, text) in [(None, "wants a client certificate"), (Some(&stranger), "does not trust")]
        {
            let server = authority.issue(&["web.test"]).server_with(&[version], Some(&clients));
            let trace = requested(&TraceSink::new(), server, |builder| {
                let builder = builder.roots(roots(&authority));
                certificate.into_iter().cloned().fold(builder, ClientBuilder::client_certificate)
            })
            .await;
            let root = root(&trace, "tls_client_certificate");
            assert!(root.sentence.contains(text), "{}", root.sentence);
        }
    }
}

#[tokio::test]
async fn a_server_that_closes_the_connection_when_it_gets_the_hello() {
    let (sink, authority) = (TraceSink::new(), authority());
    let server = Server::start(async |mut conn| {
        conn.read(5).await?;
        conn.finish().await?;
        conn.read_to_end().await
    });
    let client = client(&sink).roots(roots(&authority)).build().unwrap();
    let trace = trace_of(&sink, &client, &format!("https://{}/", server.addr())).await;
    let root = root(&trace, "tls_no_answer");
    assert!(root.sentence.contains("closed the connection"), "{}", root.sentence);
    assert_eq!((quoted(&root, "failure"), quoted(&root, "totalRecvBytes")), ("eof_error", "0"));
}

#[tokio::test]
async fn a_server_that_does_not_answer_the_hello() {
    let (sink, authority) = (TraceSink::builder().probe(TcpInfoProbe::new()).build(), authority());
    let server = Server::start(async |mut conn| conn.read_to_end().await);
    let client = client(&sink).roots(roots(&authority)).timeout(Duration::from_millis(100)).build().unwrap();
    let trace = trace_of(&sink, &client, &format!("https://{}/", server.addr())).await;
    let root = root(&trace, "tls_no_answer");
    let sent = trace.tcp_conns[0].total_sent_bytes; // the SYN and the FIN are acknowledged too
    assert!(quoted(&root, "tcpInfo.bytesAcked").parse::<u64>().unwrap() > sent, "{root}");
    assert_eq!(root.severity, Severity::Failure);
    assert!(root.not_seen.is_empty());
    let symptom = only_verdict(&trace).findings.pop().unwrap();
    assert!(symptom.sentence.ends_with("did the TLS handshake with 127.0.0.1."), "{symptom}");
}

/// The server's firewall drops segments of full size.
#[test]
fn a_hello_that_is_longer_than_a_segment_and_lost() {
    require_lab!();
    let net = Pair::new();
    net.client.sh("ip link set c0 mtu 200 gso_max_segs 1");
    net.server.nft(Hook::Input, "tcp dport 443 ip length > 190 drop");
    let listener = net.server.listen("10.9.0.2:443");
    let sink = TraceSink::builder().probe(TcpInfoProbe::new()).build();
    let trace = net.client.block_on(async {
        let server = Server::on(listener, async |mut conn| conn.read_to_end().await);
        let limit = Duration::from_millis(600);
        let client = client(&sink).roots(roots(&authority())).tls_handshake_timeout(limit).build().unwrap();
        let trace = trace_of(&sink, &client, &format!("https://{}/", server.addr())).await;
        assert!(server.seen()[0].received.is_empty());
        trace
    });
    let root = root(&trace, "tls_large_hello_dropped");
    assert_eq!((quoted(&root, "tcpInfo.sndMss"), root.about.as_str()), ("148", "10.9.0.2"));
    assert!(quoted(&root, "clientHelloLen").parse::<usize>().unwrap() > 148, "{root}");
}

/// A round trip takes 20 ms.
#[test]
fn a_server_that_wants_another_hello() {
    require_lab!();
    let authority = authority();
    let leaf = authority.issue(&["10.9.2.2"]);
    let cases = [(leaf.server_that_retries(), true), (leaf.server_with(&[&version::TLS13], None), false)];
    for (config, is_retried) in cases {
        let net = Routed::with_delay(Delay::All(Duration::from_millis(10)));
        let _web = Web::on(net.server.listen("10.9.2.2:443"), Some(config), async |_| reply("hello"));
        let sink = TraceSink::new();
        let trace = net.client.block_on(async {
            let client = client(&sink).roots(roots(&authority)).build().unwrap();
            trace_of(&sink, &client, "https://10.9.2.2/").await
        });
        assert_eq!(trace.tls_tunnels[0].hello_retry_request, is_retried);
        if is_retried {
            let root = root(&trace, "tls_hello_retry");
            assert_eq!((root.about.as_str(), root.severity), ("10.9.2.2", Severity::Degraded));
            assert_eq!(quoted(&root, "keyExchangeGroup"), "secp384r1");
        } else {
            assert!(explained(&trace).is_empty(), "{}", explained(&trace));
        }
    }
}

/// The second request begins a dial, and then takes the connection of the first one. Its dial is given up in the end.
#[tokio::test]
async fn a_handshake_that_was_needed_no_more_is_healthy() {
    let (sink, authority, answer) = (TraceSink::new(), authority(), Arc::new(Notify::new()));
    let answered = answer.clone();
    let acceptor = TlsAcceptor::from(Arc::new(authority.issue(&["127.0.0.1"]).server()));
    let server = Server::start(async move |mut conn| {
        if conn.index > 0 {
            return conn.read_to_end().await;
        }
        let mut conn = conn.upgrade(|stream| acceptor.accept(stream)).await?;
        conn.read_head().await?;
        answered.notified().await;
        loop {
            conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await?;
            conn.read_head().await?;
        }
    });
    let client = client(&sink).roots(roots(&authority)).build().unwrap();
    let get =
        async || client.get(format!("https://{}/", server.addr())).await.unwrap().into_body().bytes().await;
    let is_sent = || sink.snapshot("").http_requests.iter().any(|it| !it.conn_acquired_at.is_undefined());
    let (first, second, ()) = tokio::join!(
        get(),
        async {
            wait::until("the first request is sent", is_sent).await;
            get().await
        },
        async {
            wait::until("the second one dials", || sink.snapshot("").tls_tunnels.len() == 2).await;
            answer.notify_one();
        },
    );
    assert!(first.is_ok() && second.is_ok());
    client.close().await;
    let trace = sink.snapshot("");
    assert_eq!(trace.tls_tunnels[1].failure, Some(Failure::Interrupted));
    let explanation = explained(&trace);
    // On a busy machine the second request waits long for the connection of the first.
    let mut codes = explanation.findings.iter().map(|finding| finding.code.as_str());
    assert!(codes.all(|code| code == "pool_wait"), "{explanation}");
}

/// Makes four requests, each on a connection of its own.
async fn on_four_connections(sink: &TraceSink, config: ServerConfig, authority: &Authority) -> NetTrace {
    let server = slow_tls(config, async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await?;
        conn.read_to_end().await
    });
    let dns = DnsServer::answering(&["127.0.0.1"]).await;
    let client = client(sink).nameservers([dns.addr()]).roots(roots(authority)).keep_alive(false).build();
    let client = client.unwrap();
    for _ in 0..4 {
        let response = client.get(format!("https://web.test:{}/", server.addr().port())).await.unwrap();
        response.into_body().bytes().await.unwrap();
    }
    client.close().await;
    sink.snapshot("")
}

#[tokio::test]
async fn sessions_that_are_never_resumed() {
    let (sink, authority) = (TraceSink::new(), authority());
    let mut config = authority.issue(&["web.test"]).server_with(&[&version::TLS12], None);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let trace = on_four_connections(&sink, config, &authority).await;
    let verdict = only_verdict(&trace);
    assert_eq!(verdict.subject, trace.http_requests[3].trace_id);
    let finding = verdict.findings.iter().find(|finding| finding.code == "tls_never_resumes").unwrap();
    assert_eq!((finding.about.as_str(), quoted(finding, "didResume")), ("web.test", "false"));
    assert!(finding.sentence.contains("each of 4 connections"), "{}", finding.sentence);
}

#[tokio::test]
async fn sessions_that_are_resumed_are_healthy() {
    for version in [&version::TLS12, &version::TLS13] {
        let (sink, authority) = (TraceSink::new(), authority());
        let config = authority.issue(&["web.test"]).server_with(&[version], None);
        let trace = on_four_connections(&sink, config, &authority).await;
        let has_it = |code: &str| explained(&trace).findings.iter().any(|finding| finding.code == code);
        assert!(trace.tls_tunnels.iter().any(|tunnel| tunnel.did_resume) && !has_it("tls_never_resumes"));
    }
}

/// Without requests, the verdict is about the dial.
#[tokio::test]
async fn a_handshake_of_a_program_that_makes_no_requests() {
    let (sink, stranger) = (TraceSink::new(), Authority::new("somebody"));
    let addr = pki::serve_tls_echo(stranger.issue(&["127.0.0.1"]).server()).await;
    let tls = TraceTlsLayer::builder(&sink).roots(roots(&authority())).build();
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    let connector = tls.layer(TraceConnectLayer::new(&sink).layer(connector));
    assert!(connector.oneshot(format!("https://{addr}/").parse::<http::Uri>().unwrap()).await.is_err());
    let trace = sink.snapshot("");
    let verdict = only_verdict(&trace);
    assert_eq!((verdict.subject, verdict.outcome), (trace.dials[0].trace_id.clone(), Outcome::Failed));
    root(&trace, "tls_unknown_authority");
}
