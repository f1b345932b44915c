//! TLS handshakes of reqwest with a configuration or a verifier of this crate.

use nettrace::record::{EndReason, HttpReqTrace, NetTrace, TlsTunnelTrace};
use nettrace::reqwest::{Observer, RequestBuilderExt as _};
use nettrace::tls::{Roots, TraceTlsLayer, TraceVerifier};
use nettrace::{Failure, ResponseExt as _};
use reqwest::Client;
use rustls::client::{WebPkiServerVerifier, danger::ServerCertVerifier};
use std::sync::Arc;

use crate::clients::{Variant, linked, peer};
use test_support::pki::{self, Authority};
use test_support::raw::Server;
use test_support::web::{Web, reply};

/// Returns the tunnel of the request, after asserting that both are linked to the same connection.
#[track_caller]
fn tunnel<'a>(trace: &'a NetTrace, record: &HttpReqTrace) -> &'a TlsTunnelTrace {
    let tunnel = trace.tls_tunnels.get(&record.tls_tunnel).expect("a linked tunnel");
    assert_eq!(tunnel.tcp_conn, record.tcp_conn);
    tunnel
}

#[tokio::test]
async fn concurrent_handshakes_are_not_mixed_up() {
    let (known, unknown) = (Authority::new("known"), Authority::new("unknown"));
    let good = Web::tls(known.issue(&["good.test"]).server(), async |_| reply("hello"));
    let other = Web::tls(known.issue(&["other.test"]).server(), async |_| reply("hello"));
    let bad = Web::tls(unknown.issue(&["bad.test"]).server(), async |_| reply("hello"));
    let variant = Variant::observed(known.store());
    let mut builder = variant.builder();
    for name in ["good.test", "wrong.test", "bad.test"] {
        builder = builder.resolve(name, ([127, 0, 0, 1], 0).into());
    }
    let client = builder.build().unwrap();
    let url = |name: &str, web: &Web| format!("https://{name}:{}/{name}", web.addr().port());
    let urls = [url("good.test", &good), url("wrong.test", &other), url("bad.test", &bad)];

    for round in 0..5 {
        let sent = urls.iter().map(|url| variant.send(client.get(url)));
        let [good, wrong, bad] = futures_util::future::join_all(sent).await.try_into().unwrap();
        let port = peer(good.as_ref().unwrap());
        good.unwrap().bytes().await.unwrap();
        assert!(wrong.unwrap_err().is_connect() && bad.unwrap_err().is_connect());

        let trace = variant.finished();
        let latest = |name: &str| {
            let mut records = trace.http_requests.iter().filter(|record| record.req_url.ends_with(name));
            let record = records.next_back().unwrap();
            assert_eq!(records.count(), round);
            (record, tunnel(&trace, record))
        };
        let (record, tls) = latest("good.test");
        assert_eq!((&record.failure, &tls.failure), (&None, &None));
        assert_eq!(trace.tcp_conns.get(&record.tcp_conn).unwrap().addr_tuple.src_port, port);
        assert_eq!(tls.peer_certs[0].sans, ["good.test"]);
        assert_eq!((&*tls.server_name, &*tls.tls_version), ("good.test", "TLSv1.3"));
        assert_eq!(tls.end_reason, Some(EndReason::Unobserved));
        for (name, code, subject, issuer) in [
            ("wrong.test", Failure::SslInvalidHostname, "other.test", "CN=known"),
            ("bad.test", Failure::SslUnknownAuthority, "bad.test", "CN=unknown"),
        ] {
            let (record, tls) = latest(name);
            assert_eq!((&record.failure, &tls.failure), (&Some(code.clone()), &Some(code)));
            assert_eq!(record.end_reason, Some(EndReason::Failed));
            assert_eq!((&*tls.server_name, &tls.end_reason), (name, &Some(EndReason::Failed)));
            assert_eq!(tls.peer_certs[0].sans, [subject]);
            assert_eq!(tls.peer_certs[0].issuer, issuer);
            let conn = trace.tcp_conns.get(&tls.tcp_conn).unwrap();
            let dial = trace.dials.get(&conn.from_dial).unwrap();
            assert_eq!((&conn.end_reason, &dial.failure), (&Some(EndReason::Closed), &None));
            assert!(conn.bytes_unobserved);
            assert_eq!(dial.triggered_by, record.trace_id);
            assert!(dial.dst_address.starts_with(name));
            let timings = record.timings(&trace);
            assert!(timings.connect.is_some() && timings.tls.is_some(), "{timings}");
        }
    }
}

/// Uses a configuration of this crate, and one with rustls's verifier, whose error does not name the issuer.
#[tokio::test]
async fn the_error_for_a_self_signed_certificate_is_readable() {
    let web = Web::tls(pki::self_signed(&["127.0.0.1"], |_| {}).server(), async |_| reply("hello"));
    let known = Authority::new("known");
    for is_own_config in [true, false] {
        let variant = Variant::observed(known.store());
        let config = if is_own_config {
            TraceTlsLayer::builder(&variant.sink)
                .roots(Roots::from_pem(known.pem()).unwrap())
                .into_config()
                .unwrap()
        } else {
            config_of(Arc::new(TraceVerifier::new(webpki(&known))))
        };
        let observer = Observer::new(&variant.sink).tls(config);
        let client = observer.install(Client::builder().no_proxy()).unwrap().build().unwrap();
        let sent = client.get(format!("https://{}/", web.addr())).send_traced(&client).await;
        assert!(sent.unwrap_err().is_connect());
        let trace = variant.finished();
        let (record, tls) = (&trace.http_requests[0], &trace.tls_tunnels[0]);
        let unknown = Some(Failure::SslUnknownAuthority);
        assert_eq!((&record.failure, &tls.failure), (&unknown, &unknown));
        let text =
            if is_own_config { "not signed by a trusted authority" } else { "as self-signed ones often are" };
        for message in [tls.handshake_err.as_str(), record.req_error.as_str()] {
            assert!(message.contains(text), "{message}");
            assert!(!message.contains("CaUsed") && !message.contains("UnknownIssuer"), "{message}");
        }
    }
}

fn webpki(roots: &Authority) -> Arc<dyn ServerCertVerifier> {
    WebPkiServerVerifier::builder_with_provider(roots.store(), pki::provider()).build().unwrap()
}

fn config_of(verifier: Arc<dyn ServerCertVerifier>) -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(pki::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth()
}

#[tokio::test]
async fn negotiated_parameters_that_reqwest_exposes_are_recorded() {
    let authority = Authority::new("known");
    for (versions, version) in
        [(&[&rustls::version::TLS13][..], "TLSv1.3"), (&[&rustls::version::TLS12], "TLSv1.2")]
    {
        let mut config = authority.issue(&["web.test"]).server_with(versions, None);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let web = Web::tls(config, async |_| reply("hello"));
        let variant = Variant::observed(authority.store());
        let resolved = |builder: reqwest::ClientBuilder| builder.resolve("web.test", web.addr());
        let client = resolved(variant.builder()).pool_max_idle_per_host(0).build().unwrap();
        let url = format!("https://web.test:{}/", web.addr().port());
        let response = variant.send(client.get(&url)).await.unwrap();
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        let handle = response.request_handle().unwrap().clone();
        response.bytes().await.unwrap();
        let trace = variant.finished();
        let tls = tunnel(&trace, linked(&trace, &handle).0);
        assert_eq!((&*tls.tls_version, &*tls.negotiated_proto, tls.did_resume), (version, "h2", false));
        assert_eq!(tls.peer_certs.len(), 2, "the certificates of the server and of the authority");
        assert_eq!(
            (tls.cipher_suite, tls.key_exchange_group.as_str()),
            (0, ""),
            "reqwest does not expose them"
        );
        assert_eq!(tls.failure, None);
    }
}

#[tokio::test]
async fn a_resumed_session_is_recorded_as_resumed() {
    let authority = Authority::new("known");
    let web = Web::tls(authority.issue(&["web.test"]).server(), async |_| reply("hello"));
    let variant = Variant::observed(authority.store());
    let client = variant.builder().resolve("web.test", web.addr()).build().unwrap();
    let url = format!("https://web.test:{}/", web.addr().port());
    let mut resumed = vec![];
    for _ in 0..2 {
        let request = client.get(&url).header("connection", "close");
        let response = variant.send(request).await.unwrap();
        let handle = response.request_handle().unwrap().clone();
        response.bytes().await.unwrap();
        let trace = variant.finished();
        let tls = tunnel(&trace, linked(&trace, &handle).0);
        resumed.push((tls.did_resume, tls.peer_certs.is_empty(), tls.server_name.to_string()));
    }
    assert_eq!(resumed, [(false, false, "web.test".into()), (true, true, "web.test".into())]);
}

#[tokio::test]
async fn a_configuration_of_the_caller_is_recorded_by_a_trace_verifier() {
    let authority = Authority::new("known");
    let web = Web::tls(authority.issue(&["127.0.0.1"]).server(), async |_| reply("hello"));
    let url = format!("https://{}/", web.addr());
    let config = |is_traced: bool, roots: &Authority| {
        let verifier = webpki(roots);
        config_of(if is_traced { Arc::new(TraceVerifier::new(verifier)) } else { verifier })
    };
    for (is_traced, is_trusted) in [(true, true), (true, false), (false, true), (false, false)] {
        let roots = if is_trusted { &authority } else { &Authority::new("another") };
        let variant = Variant::observed(authority.store());
        let observer = Observer::new(&variant.sink).tls(config(is_traced, roots));
        let client = observer.install(Client::builder().no_proxy()).unwrap().build().unwrap();
        let outcome = client.get(&url).send_traced(&client).await;
        assert_eq!(outcome.is_ok(), is_trusted);
        if let Ok(response) = outcome {
            response.bytes().await.unwrap();
        }
        let trace = variant.finished();
        assert_eq!(trace.tls_tunnels.len(), usize::from(is_traced), "another verifier records nothing");
        assert_eq!(trace.dials[0].failure.is_some(), !is_traced && !is_trusted);
        let failure = (!is_trusted).then_some(Failure::SslUnknownAuthority);
        assert_eq!(trace.http_requests[0].failure, failure);
        for tls in &trace.tls_tunnels {
            assert_eq!((&tls.failure, tls.peer_certs.len()), (&failure, 2));
        }
    }
}

#[tokio::test]
async fn tls_to_a_proxy_has_its_own_tunnel() {
    let authority = Authority::new("known");
    let accept = |leaf: &pki::Leaf| tokio_rustls::TlsAcceptor::from(Arc::new(leaf.server()));
    let outer = accept(&authority.issue(&["127.0.0.1"]));
    for is_trusted in [true, false] {
        let issuer = if is_trusted { &authority } else { &Authority::new("another") };
        let (outer, inner) = (outer.clone(), accept(&issuer.issue(&["web.test"])));
        let proxy = Server::start(async move |conn| {
            let mut conn = conn.upgrade(|stream| outer.accept(stream)).await?;
            assert!(conn.read_head().await?.starts_with("CONNECT web.test:443 "));
            conn.write(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            let mut conn = conn.upgrade(|stream| inner.accept(stream)).await?;
            conn.read_head().await?;
            conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await?;
            conn.read_to_end().await
        });
        let variant = Variant::observed(authority.store());
        let through = reqwest::Proxy::all(format!("https://{}", proxy.addr())).unwrap();
        let client = variant.builder().proxy(through).build().unwrap();
        let outcome = variant.send(client.get("https://web.test/")).await;
        assert_eq!(outcome.is_ok(), is_trusted, "{outcome:?}");
        if let Ok(response) = outcome {
            assert_eq!(response.text().await.unwrap(), "hello");
        }
        let trace = variant.finished();
        let record = &trace.http_requests[0];
        let tls = tunnel(&trace, record);
        let failure = (!is_trusted).then_some(Failure::SslUnknownAuthority);
        assert_eq!((&record.failure, &tls.failure), (&failure, &failure));
        assert_eq!((&*tls.server_name, tls.peer_certs[0].sans.len()), ("web.test", 1));
        let proxy = trace.tls_tunnels.get(&*record.proxy_tls_tunnel).expect("the tunnel to the proxy");
        assert_eq!((&proxy.failure, &proxy.tcp_conn), (&None, &record.tcp_conn));
        assert_eq!(proxy.peer_certs[0].sans, ["127.0.0.1"]);
    }
}
