//! Requests that wait for a connection, and connections that are not reused.

use crate::{client, explained, quoted, root, slow_tls};
use futures_util::future::join_all;
use nettrace::{HeaderCapture, NetTrace, TraceSink, client::ClientBuilder, explain::Severity, tls::Roots};
use std::time::Duration;
use test_support::{
    pki::Authority,
    raw::Server,
    wait,
    web::{Web, reply},
};

#[tokio::test]
async fn a_request_that_waits_until_another_one_has_ended() {
    let sink = TraceSink::new();
    let web = Web::start(async |_| {
        tokio::time::sleep(Duration::from_millis(60)).await;
        reply("hello")
    });
    let (client, url) = (client(&sink).max_conns_per_host(1).build().unwrap(), web.url("/"));
    join_all((0..2).map(async |_| client.get(&url).await.unwrap().into_body().bytes().await.unwrap())).await;
    client.close().await;
    let trace = sink.snapshot("");
    let root = root(&trace, "pool_wait");
    assert_eq!((root.severity, root.about.as_str()), (Severity::Degraded, "127.0.0.1"));
    let ended = root.evidence.iter().find(|evidence| evidence.field == "endAt").unwrap();
    assert_eq!(ended.record, trace.http_requests[0].trace_id);
    assert_eq!(quoted(&root, "pool.waitedFor"), "limit");
}

#[tokio::test]
async fn a_request_that_waits_in_vain() {
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| conn.read_to_end().await);
    let client = client(&sink).max_conns_per_host(1).build().unwrap();
    let url = format!("http://{}/", server.addr());
    let holder = tokio::spawn(client.get(&url));
    let is_held = || sink.snapshot("").http_requests.iter().any(|it| !it.conn_acquired_at.is_undefined());
    wait::until("the first request has the connection", is_held).await;
    assert!(tokio::time::timeout(Duration::from_millis(50), client.get(&url)).await.is_err());
    let trace = sink.snapshot("");
    holder.abort();
    let root = root(&trace, "pool_wait");
    assert_eq!(root.severity, Severity::Failure);
    let holds = root.evidence.iter().find(|evidence| evidence.field == "connAcquiredAt").unwrap();
    assert_eq!(holds.record, trace.http_requests[0].trace_id);
    assert_eq!(quoted(&root, "pool.waitedFor"), "limit");
}

const KEPT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
const CLOSED: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
const HTTP_1_0: &[u8] = b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// Makes five requests, one after the other, to a server with TLS that closes the connection after each unless the answer
/// is [`KEPT`].
async fn one_by_one(
    headers: HeaderCapture,
    answer: &'static [u8],
    configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> NetTrace {
    let sink = TraceSink::builder().headers(headers).build();
    let authority = Authority::new("nettrace test CA");
    let config = authority.issue(&["127.0.0.1"]).server();
    let server = slow_tls(config, async move |mut conn| {
        loop {
            conn.read_head().await?;
            conn.write(answer).await?;
            if answer != KEPT {
                return conn.close().await;
            }
        }
    });
    let roots = Roots::from_pem(authority.pem()).unwrap();
    let client = configure(client(&sink).roots(roots)).build().unwrap();
    for _ in 0..5 {
        let response = client.get(format!("https://{}/", server.addr())).await.unwrap();
        response.into_body().bytes().await.unwrap();
    }
    client.close().await;
    sink.snapshot("")
}

#[tokio::test]
async fn connections_that_serve_one_request_each() {
    type Configure = fn(ClientBuilder) -> ClientBuilder;
    let values = HeaderCapture::Values;
    let cases: [(HeaderCapture, &[u8], Configure, &str); 5] = [
        (values, CLOSED, |builder| builder, "asks for it (Connection: close)"),
        (HeaderCapture::Off, CLOSED, |builder| builder, "close"),
        (HeaderCapture::Off, HTTP_1_0, |builder| builder, "answers with HTTP/1.0"),
        (
            values,
            KEPT,
            |builder| builder.keep_alive(false),
            "the client is configured not to reuse connections",
        ),
        (values, KEPT, |builder| builder.max_idle_conns(0), "the pool closes them"),
    ];
    for (headers, answer, configure, why) in cases {
        let trace = one_by_one(headers, answer, configure).await;
        let explanation = explained(&trace);
        let [finding] = &explanation.findings[..] else { panic!("{explanation:#?}") };
        assert_eq!(
            (finding.code.as_str(), finding.count, finding.severity),
            ("pool_not_reused", 2, Severity::Degraded)
        );
        let shown = &explanation.verdicts[0].findings[0];
        assert!(shown.sentence.contains(why), "{}", shown.sentence);
        assert!(["closed", "peer-closed", "idle-limit"].contains(&quoted(shown, "endReason")));
        assert_eq!(explanation.verdicts[0].subject, trace.http_requests[3].trace_id);
    }
}

#[tokio::test]
async fn a_connection_that_serves_all_requests_is_healthy() {
    let trace = one_by_one(HeaderCapture::Values, KEPT, |builder| builder).await;
    assert_eq!(trace.tcp_conns.len(), 1);
    assert!(explained(&trace).is_empty(), "{}", explained(&trace));
}
