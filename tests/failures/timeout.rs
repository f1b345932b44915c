//! Time runs out: for the whole request in each of its phases, and for each phase by itself.

use std::time::Duration;

use nettrace::client::TimedOut;
use nettrace::tls::TlsError;

use crate::stage::{Failed, LONG, Stage, ended, expire, failed, reached, stuck_after};
use crate::support::dns::DnsServer;
use crate::support::lab::{Hook, Pair};
use crate::support::need::need_lab;

/// On the whole request; shorter than that of the resolver.
const LIMIT: Duration = Duration::from_secs(30);
const CANCELLED: (&str, &str) = ("cancelled", "interrupted");
const TIMEOUT: (&str, &str) = ("timeout", "generic_timeout_error");

#[tokio::test]
async fn while_the_name_is_looked_up() {
    let stage = Stage::with(DnsServer::silent().await);
    let failed = timed_out(&stage, "http://web.test/", stage.nameserver.asked_times(2)).await;
    let scene = &failed.scene;
    assert_eq!(ended(scene.dial()), CANCELLED);
    assert_eq!(scene.dial().triggered_by, scene.request.trace_id);
    assert_eq!(scene.trace.dns_queries.len(), 2);
    assert!(scene.trace.dns_queries.iter().all(|query| ended(query) == CANCELLED));
    assert!(scene.trace.udp_conns.iter().all(|conn| ended(conn) == CANCELLED));
    let timings = scene.request.timings(&scene.trace);
    assert!(timings.dns.is_some() && timings.connect.is_none(), "{timings}");
}

#[test]
fn while_dialing() {
    need_lab!();
    let net = Pair::new();
    net.server.nft(Hook::Input, "tcp dport 80 drop");
    let failed = net.client.block_on(async {
        let stage = Stage::new().await;
        let dialing = reached(&stage.sink, |trace| !trace.tcp_conns.is_empty());
        timed_out(&stage, format!("http://{}/", Pair::SERVER.v4), dialing).await
    });
    let scene = &failed.scene;
    assert_eq!((ended(scene.dial()), ended(scene.conn())), (CANCELLED, CANCELLED));
    assert!(scene.request.tcp_conn.is_undefined());
    let timings = scene.request.timings(&scene.trace);
    assert!(timings.connect.is_some() && timings.send.is_none(), "{timings}");
}

#[tokio::test]
async fn in_tls() {
    let stage = Stage::new().await;
    let (server, hello) = stuck_after(async |conn| conn.read(16).await.map(drop));
    let failed = timed_out(&stage, stage.https(&server), hello.notified()).await;
    let scene = &failed.scene;
    assert_eq!(ended(scene.tunnel()), CANCELLED);
    scene.assert_on(scene.conn());
    assert_eq!(scene.request.tls_tunnel, scene.tunnel().trace_id);
    let timings = scene.request.timings(&scene.trace);
    assert!(timings.tls.is_some() && timings.send.is_none(), "{timings}");
}

#[tokio::test]
async fn while_waiting_for_the_header() {
    let stage = Stage::new().await;
    let (server, asked) = stuck_after(async |conn| conn.read_head().await.map(drop));
    let failed = timed_out(&stage, stage.http(&server), asked.notified()).await;
    let scene = &failed.scene;
    scene.assert_on(scene.conn());
    assert_eq!(ended(scene.conn()), ("closed", ""));
    let timings = scene.request.timings(&scene.trace);
    assert!(timings.wait.is_some() && timings.receive.is_none(), "{timings}");
}

#[tokio::test]
async fn while_reading_the_body() {
    let stage = Stage::new().await;
    let (server, _) = stuck_after(async |conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!").await
    });
    let half = reached(&stage.sink, |trace| trace.http_requests.iter().any(|it| it.resp_content_len == 5));
    let failed = timed_out(&stage, stage.http(&server), half).await;
    let scene = &failed.scene;
    scene.assert_on(scene.conn());
    assert_eq!(ended(scene.conn()), ("closed", ""));
    assert_eq!((scene.request.resp_status_code, scene.request.resp_content_len), (200, 5));
    assert!(scene.request.timings(&scene.trace).receive.is_some());
}

#[tokio::test]
async fn of_the_tls_handshake() {
    let stage = Stage::new().await;
    let (server, hello) = stuck_after(async |conn| conn.read(16).await.map(drop));
    let client = stage.builder().tls_handshake_timeout(LONG).build().unwrap();
    let later = async {
        hello.notified().await;
        expire(LONG).await;
    };
    let (failed, ()) = tokio::join!(failed(&client, stage.https(&server)), later);
    let scene = &failed.scene;
    assert_eq!((ended(&scene.request), ended(scene.tunnel())), (TIMEOUT, TIMEOUT));
    scene.assert_on(scene.conn());
    assert_eq!(scene.request.tls_tunnel, scene.tunnel().trace_id);
    assert_eq!(failed.cause::<TlsError>().failure().as_str(), TIMEOUT.1);
    assert!(failed.error.is_timeout() && failed.error.timed_out().is_none());
    let text = failed.error.to_string();
    assert_eq!(text, "TLS handshake with web.test timed out: no end of the TLS handshake within 60s");
}

#[tokio::test]
async fn of_the_header() {
    let stage = Stage::new().await;
    let (server, asked) = stuck_after(async |conn| conn.read_head().await.map(drop));
    let client = stage.builder().response_header_timeout(LONG).build().unwrap();
    let later = async {
        asked.notified().await;
        expire(LONG).await;
    };
    let (failed, ()) = tokio::join!(failed(&client, stage.http(&server)), later);
    let scene = &failed.scene;
    assert_eq!(ended(&scene.request), TIMEOUT);
    scene.assert_on(scene.conn());
    assert_eq!(failed.error.to_string(), "the response's header did not come within 60s");
    assert_eq!(failed.error.timed_out().map(TimedOut::limit), Some(LONG));
}

/// A request whose time is over at that moment.
async fn timed_out(stage: &Stage, url: impl AsRef<str>, moment: impl Future<Output = ()>) -> Failed {
    let client = stage.builder().timeout(LIMIT).build().unwrap();
    let later = async {
        moment.await;
        expire(LIMIT).await;
    };
    let (failed, ()) = tokio::join!(failed(&client, url), later);
    assert_eq!(ended(&failed.scene.request), TIMEOUT);
    assert!(failed.error.is_timeout());
    assert_eq!(failed.error.timed_out().map(TimedOut::limit), Some(LIMIT));
    assert_eq!(failed.error.to_string(), "the request was not done within 30s");
    failed
}
