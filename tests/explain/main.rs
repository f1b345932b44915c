//! Causes of real failures, and none where nothing went wrong.
#![cfg(all(feature = "full", any(feature = "ring", feature = "aws-lc-rs")))]

mod alpn;
mod close_notify;
mod dns;
#[cfg(feature = "aws-lc-rs")]
mod ech;
mod growth;
mod healthy;
mod http;
mod http2;
#[cfg(target_os = "linux")]
mod path;
mod pool;
#[cfg(target_os = "linux")]
mod process;
mod proxy;
mod server;
mod stream_limit;
#[cfg(target_os = "linux")]
mod tcp;
mod tls;

use nettrace::{
    Client, NetTrace, TraceSink,
    client::ClientBuilder,
    explain::{self, Explanation, Finding, Outcome, Severity, Verdict},
};
use std::{
    collections::HashSet,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};
use test_support::{
    check,
    raw::{Conn, Server},
};

/// Explains a trace, and asserts what holds for every explanation.
#[track_caller]
fn explained(trace: &NetTrace) -> Explanation {
    let explanation = explain::explain(trace);
    let json = serde_json::to_value(&explanation).unwrap();
    static SCHEMA: OnceLock<jsonschema::Validator> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        jsonschema::validator_for(&serde_json::from_str(explain::JSON_SCHEMA).unwrap()).unwrap()
    });
    let problems: Vec<_> = schema.iter_errors(&json).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{problems:#?}\n{json:#}");
    let read: Explanation = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), json);
    let known: HashSet<_> = explain::CAUSES.iter().map(|cause| cause.code).collect();
    for verdict in &explanation.verdicts {
        for (at, finding) in verdict.findings.iter().enumerate() {
            assert!(known.contains(finding.code.as_str()), "{finding}");
            assert!(!finding.evidence.is_empty(), "without evidence: {finding}");
            assert!(finding.sentence.ends_with('.') && finding.suggestion.ends_with('.'), "{finding}");
            let is_root = at == 0 && !matches!(verdict.outcome, Outcome::Succeeded | Outcome::Running);
            assert_eq!(finding.severity == Severity::Failure, is_root, "{verdict}");
            for evidence in &finding.evidence {
                assert!(has_record(trace, evidence.record.as_str()), "{evidence:?}");
            }
        }
    }
    explanation
}

fn has_record(trace: &NetTrace, id: &str) -> bool {
    trace.http_requests.get(id).is_some()
        || trace.dials.get(id).is_some()
        || trace.tcp_conns.get(id).is_some()
        || trace.udp_conns.get(id).is_some()
        || trace.dns_queries.get(id).is_some()
        || trace.tls_tunnels.get(id).is_some()
}

/// Asserts that nothing is found in a trace.
#[track_caller]
fn assert_nothing(trace: &NetTrace) {
    let explanation = explained(trace);
    assert!(explanation.is_empty(), "{explanation:#?}");
}

/// Returns the only verdict about a trace.
#[track_caller]
fn only_verdict(trace: &NetTrace) -> Verdict {
    let explanation = explained(trace);
    let [verdict] = &explanation.verdicts[..] else { panic!("not one verdict: {explanation:#?}") };
    verdict.clone()
}

/// Returns the root of the only verdict about a trace, after asserting its code.
#[track_caller]
fn root(trace: &NetTrace, code: &str) -> Finding {
    let verdict = only_verdict(trace);
    let root = verdict.root().unwrap();
    assert_eq!(root.code, code, "{verdict}");
    println!("{verdict}");
    root.clone()
}

/// Returns the value of a field that a finding quotes.
#[track_caller]
fn quoted<'a>(finding: &'a Finding, field: &str) -> &'a str {
    let evidence = finding.evidence.iter().find(|evidence| evidence.field == field);
    &evidence.unwrap_or_else(|| panic!("{field} is not quoted: {finding}")).value
}

/// Returns a builder of a client that reads no configuration of this machine.
fn client(sink: &TraceSink) -> ClientBuilder {
    Client::builder(sink).nameservers([] as [std::net::SocketAddr; 0])
}

/// Starts a server with TLS that takes 40 ms before it answers the ClientHello of each connection but the first, so
/// that what a connection costs is a large part of a request, however busy the machine is.
fn slow_tls(
    config: rustls::ServerConfig,
    script: impl AsyncFn(Conn) -> io::Result<()> + Send + 'static,
) -> Server {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    Server::start(async move |conn| {
        let time = if conn.index == 0 { Duration::ZERO } else { Duration::from_millis(40) };
        tokio::time::sleep(time).await;
        script(conn.upgrade(|stream| acceptor.accept(stream)).await?).await
    })
}

/// Requests a URL, and returns the trace once everything has ended.
async fn trace_of(sink: &TraceSink, client: &Client, url: &str) -> NetTrace {
    if let Ok(response) = client.get(url).await {
        let _ = response.into_body().bytes().await;
    }
    client.close().await;
    let trace = sink.snapshot("");
    check::running(&trace);
    trace
}
