//! The request is dropped before it is done. What had begun for it ends with it, and says so.

use http_body_util::BodyExt as _;
use nettrace::client::Client;

use crate::stage::{Scene, Stage, ended, reached, request, stuck_after};
use crate::support::dns::DnsServer;
use crate::support::lab::{Hook, Pair};
use crate::support::need::need_lab;

const CANCELLED: (&str, &str) = ("cancelled", "interrupted");

#[tokio::test]
async fn while_the_name_is_looked_up() {
    let stage = Stage::with(DnsServer::silent().await);
    let scene = dropped(&stage.client(), "http://web.test/", stage.nameserver.asked_times(2)).await;
    scene.assert_dial_failed(CANCELLED.0, CANCELLED.1);
    assert_eq!(scene.trace.dns_queries.len(), 2);
    for query in &scene.trace.dns_queries {
        assert_eq!(ended(query), CANCELLED);
        assert_eq!(ended(scene.trace.udp_conns.get(&query.connection).expect("a socket")), CANCELLED);
    }
}

#[test]
fn while_dialing() {
    need_lab!();
    let net = Pair::new();
    net.server.nft(Hook::Input, "tcp dport 80 drop");
    let scene = net.client.block_on(async {
        let stage = Stage::new().await;
        let dialing = reached(&stage.sink, |trace| !trace.tcp_conns.is_empty());
        dropped(&stage.client(), format!("http://{}/", Pair::SERVER.v4), dialing).await
    });
    scene.assert_dial_failed(CANCELLED.0, CANCELLED.1);
    assert_eq!(ended(scene.conn()), CANCELLED);
    assert!(!scene.conn().connected);
}

#[tokio::test]
async fn in_tls() {
    let stage = Stage::new().await;
    let (server, hello) = stuck_after(async |conn| conn.read(16).await.map(drop));
    let scene = dropped(&stage.client(), stage.https(&server), hello.notified()).await;
    assert_eq!(ended(&scene.request), CANCELLED);
    assert_eq!(ended(scene.tunnel()), CANCELLED);
    scene.assert_on(scene.conn());
    assert_eq!(ended(scene.conn()), ("closed", ""));
    assert_eq!(scene.request.tls_tunnel, scene.tunnel().trace_id);
    assert!(scene.request.conn_acquired_at.is_undefined());
}

#[tokio::test]
async fn while_waiting_for_the_header() {
    let stage = Stage::new().await;
    let (server, asked) = stuck_after(async |conn| conn.read_head().await.map(drop));
    let scene = dropped(&stage.client(), stage.http(&server), asked.notified()).await;
    assert_eq!(ended(&scene.request), CANCELLED);
    scene.assert_on(scene.conn());
    assert_eq!(ended(scene.conn()), ("closed", ""));
    assert!(!scene.request.conn_acquired_at.is_undefined() && scene.request.resp_recv_at.is_undefined());
    let timings = scene.request.timings(&scene.trace);
    assert!(timings.wait.is_some() && timings.receive.is_none(), "{timings}");
}

#[tokio::test]
async fn while_reading() {
    let stage = Stage::new().await;
    let (server, _) = stuck_after(async |conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!").await
    });
    let client = stage.client();
    let (request, handle) = request(stage.http(&server));
    let mut response = client.request(request).await.expect("a header");
    let frame = response.frame().await.expect("a part").expect("a good one");
    assert_eq!(frame.into_data().expect("data"), "half!");
    drop(response);
    let scene = Scene::of(&client, &handle).await;
    assert_eq!(ended(&scene.request), CANCELLED);
    scene.assert_on(scene.conn());
    assert_eq!(ended(scene.conn()), ("closed", ""));
    assert_eq!((scene.request.resp_status_code, scene.request.resp_content_len), (200, 5));
    assert!(scene.request.resp_body_end_at.is_undefined());
    let timings = scene.request.timings(&scene.trace);
    assert!(timings.receive.is_some() && timings.total.is_some(), "{timings}");
}

/// Whoever waits for a connection of its host's has begun nothing yet.
#[tokio::test]
async fn while_waiting_for_a_connection() {
    let stage = Stage::new().await;
    let (server, asked) = stuck_after(async |conn| conn.read_head().await.map(drop));
    let client = stage.builder().max_conns_per_host(1).build().unwrap();
    let (first, _) = request(stage.http(&server));
    let first = tokio::spawn(client.request(first));
    asked.notified().await;
    let queued = reached(&stage.sink, |trace| trace.http_requests.len() == 2);
    let scene = dropped(&client, stage.http(&server), queued).await;
    assert!(first.await.expect("no panic").is_err(), "the client was closed");
    assert_eq!(ended(&scene.request), CANCELLED);
    assert!(scene.request.tcp_conn.is_undefined());
    assert_ne!(scene.dial().triggered_by, scene.request.trace_id);
    let timings = scene.request.timings(&scene.trace);
    assert_eq!(timings.blocked, timings.total);
}

/// Makes a request and drops it at that moment.
async fn dropped(client: &Client, url: impl AsRef<str>, moment: impl Future<Output = ()>) -> Scene {
    let (request, handle) = request(url);
    tokio::select! {
        biased;
        () = moment => {}
        result = client.request(request) => panic!("{result:?}"),
    }
    Scene::of(client, &handle).await
}
