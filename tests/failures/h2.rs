//! HTTP/2: one stream fails, and the others live on.

mod cut_off;
mod frames;
mod refused;
mod version;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use nettrace::client::{Client, ClientError, HttpVersion};
use nettrace::record::HttpReqTrace;
use nettrace::view::waterfall;
use nettrace::{Failure, RequestHandle, TraceId};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::frames::{CANCEL, ENHANCE_YOUR_CALM, Frames, INTERNAL_ERROR, NO_ERROR};
use crate::stage::{Failed, Scene, Stage, ended, fetched, request};
use crate::support::raw::Server;

#[tokio::test]
async fn a_stream_is_reset() {
    let two = Two::start(async |h2, first, second| {
        h2.reset(first, INTERNAL_ERROR).await?;
        h2.answer(second).await
    });
    let scene = first_fails(two.await, "x_http2_stream_reset").await;
    assert_eq!((scene.request.resp_status_code, scene.request.resp_content_len), (0, 0));
}

#[tokio::test]
async fn a_stream_is_reset_within_its_body() {
    let two = Two::start(async |h2, first, second| {
        h2.header(first).await?;
        h2.data(first, b"half!", false).await?;
        h2.reset(first, INTERNAL_ERROR).await?;
        h2.answer(second).await
    });
    let scene = first_fails(two.await, "x_http2_stream_reset").await;
    assert_eq!((scene.request.resp_status_code, scene.request.resp_content_len), (200, 5));
    assert!(scene.request.resp_body_end_at.is_undefined());
}

#[tokio::test]
async fn a_stream_is_dropped() {
    let both_have_come = Arc::new(Notify::new());
    let say = both_have_come.clone();
    let two = Two::start(async move |h2, first, second| {
        say.notify_one();
        assert_eq!(h2.was_reset().await?, (first, CANCEL));
        h2.answer(second).await
    })
    .await;
    both_have_come.notified().await;
    two.first.body.abort();
    assert_eq!(two.second.body.await.expect("no panic").expect("a response"), b"hello");
    let scene = Scene::of(&two.client, &two.first.handle).await;
    assert_eq!(ended(&scene.request), ("cancelled", "interrupted"));
    scene.assert_on(scene.conn());
    assert_lived_on(&scene, &two.second.handle);
}

/// GOAWAY says which streams were not looked at; those before go on, and what comes next is for another connection.
/// Where it is because of an error, what was not looked at fails.
#[tokio::test]
async fn the_server_goes_away() {
    let two = Two::start(async |h2, first, _| {
        h2.go_away(first, ENHANCE_YOUR_CALM).await?;
        h2.answer(first).await
    })
    .await;
    let error = two.second.body.await.expect("no panic").expect_err("it was not looked at");
    assert_eq!(two.first.body.await.expect("no panic").expect("a response"), b"hello");
    let (_, third) = fetched(&two.client, two.stage.http(&two.server)).await;

    let failed = Failed::of(&two.client, error).await;
    let scene = &failed.scene;
    assert_eq!(ended(&scene.request), ("failed", "x_http2_goaway"));
    assert_eq!(scene.request.http2_error, "ENHANCE_YOUR_CALM");
    let [left, fresh] = scene.attempts()[..] else { panic!("two connections") };
    let request = |handle: &RequestHandle| scene.trace.http_requests.get(handle.id()).expect("recorded");
    let first = request(&two.first.handle);
    assert_eq!((ended(first), &first.tcp_conn), (("closed", ""), &left.trace_id));
    assert_eq!(scene.request.tcp_conn, left.trace_id);
    assert!(scene.request.attempts.is_empty());
    assert_eq!((ended(request(&third)), &request(&third).tcp_conn), (("closed", ""), &fresh.trace_id));
    assert_eq!((ended(left), ended(fresh)), (("closed", ""), ("closed", "")));
}

/// What it has not looked at is sent again over another connection.
#[tokio::test]
async fn the_server_goes_away_in_peace() {
    let two = Two::start(async |h2, first, _| {
        h2.go_away(first, NO_ERROR).await?;
        h2.answer(first).await
    })
    .await;
    for body in [two.first.body, two.second.body] {
        assert_eq!(body.await.expect("no panic").expect("a response"), b"hello");
    }
    let scene = Scene::of(&two.client, &two.second.handle).await;
    let [left, fresh] = scene.attempts()[..] else { panic!("two connections") };
    assert_eq!(ended(&scene.request), ("closed", ""));
    assert_eq!(tried(&scene.request), [(&left.trace_id, "x_http2_goaway"), (&fresh.trace_id, "")]);
    assert!(scene.request.http2_error.is_empty());
    let picture = waterfall(&scene.trace).to_string();
    assert!(picture.contains("sent again: not processed on"), "{picture}");
}

/// The first GOAWAY of a graceful shutdown leaves no stream out (RFC 9113 section 6.8): what the server may have
/// processed is not sent again when it closes the connection then.
#[tokio::test]
async fn the_server_announces_that_it_goes_away() {
    const ALL: u32 = (1 << 31) - 1;
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let server = Server::start(async move |conn| {
        let mut h2 = Frames::accept(conn).await?;
        h2.request().await?;
        h2.content().await?;
        count.fetch_add(1, SeqCst);
        h2.go_away(ALL, NO_ERROR).await?;
        h2.into_inner().close().await
    });
    let stage = Stage::new().await;
    let client = stage.builder().http_version(HttpVersion::Http2Only).build().unwrap();
    let error = client.post(stage.http(&server), "order").await.expect_err("no response");
    let failed = Failed::of(&client, error).await;
    assert_eq!((ended(&failed.scene.request).0, seen.load(SeqCst)), ("failed", 1));
    assert!(failed.scene.request.attempts.is_empty());
}

fn tried(request: &HttpReqTrace) -> Vec<(&TraceId, &str)> {
    let name = Failure::as_str;
    request.attempts.iter().map(|it| (&it.tcp_conn, it.failure.as_ref().map_or("", name))).collect()
}

#[tokio::test]
async fn the_server_goes_away_when_all_is_done() {
    let two = Two::start(async |h2, first, second| {
        h2.go_away(second, NO_ERROR).await?;
        h2.answer(first).await?;
        h2.answer(second).await
    })
    .await;
    for body in [two.first.body, two.second.body] {
        assert_eq!(body.await.expect("no panic").expect("a response"), b"hello");
    }
    let (_, third) = fetched(&two.client, two.stage.http(&two.server)).await;
    let scene = Scene::of(&two.client, &third).await;
    let [left, fresh] = scene.attempts()[..] else { panic!("two connections") };
    assert_eq!(scene.request.tcp_conn, fresh.trace_id);
    assert!(scene.request.attempts.is_empty(), "it was not tried on the one that was left");
    let on_left = |request: &&HttpReqTrace| request.tcp_conn == left.trace_id;
    assert_eq!(scene.trace.http_requests.iter().filter(on_left).count(), 2);
    assert!(scene.trace.http_requests.iter().all(|request| ended(request) == ("closed", "")));
}

#[tokio::test]
async fn the_connection_ends_under_its_streams() {
    for (reset, failure, end) in [
        (false, "eof_error", ("peer-closed", "")),
        (true, "connection_reset", ("failed", "connection_reset")),
    ] {
        let stage = Stage::new().await;
        let server = Server::start(async move |conn| {
            let mut h2 = Frames::accept(conn).await?;
            h2.request().await?;
            if reset { h2.into_inner().reset() } else { h2.into_inner().close().await }
        });
        let client = stage.builder().http_version(HttpVersion::Http2Only).build().unwrap();
        let failed = crate::stage::failed(&client, stage.http(&server)).await;
        assert_eq!(ended(&failed.scene.request), ("failed", failure));
        failed.scene.assert_on(failed.scene.conn());
        assert_eq!(ended(failed.scene.conn()), end);
    }
}

#[tokio::test]
async fn the_server_speaks_another_protocol() {
    let stage = Stage::new().await;
    let server = Server::start(async |conn| {
        let mut h2 = Frames::listen(conn).await?;
        h2.request().await?;
        let mut conn = h2.into_inner();
        conn.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await?;
        conn.read_to_end().await
    });
    let client = stage.builder().http_version(HttpVersion::Http2Only).build().unwrap();
    let failed = crate::stage::failed(&client, stage.http(&server)).await;
    assert_eq!(ended(&failed.scene.request), ("failed", "x_http_protocol_error"), "{}", failed.error);
    failed.scene.assert_on(failed.scene.conn());
}

/// Two requests on their way over one connection.
struct Two {
    stage: Stage,
    client: Client,
    server: Server,
    first: Running,
    second: Running,
}

struct Running {
    handle: RequestHandle,
    body: JoinHandle<Result<Vec<u8>, ClientError>>,
}

impl Two {
    /// The script begins when both have come; further connections are answered well.
    async fn start(script: impl AsyncFn(&mut Frames, u32, u32) -> io::Result<()> + Send + 'static) -> Self {
        let (stage, first_has_come) = (Stage::new().await, Arc::new(Notify::new()));
        let say = first_has_come.clone();
        let server = Server::start(async move |conn| {
            let is_first = conn.index == 0;
            let mut h2 = Frames::accept(conn).await?;
            let first = h2.request().await?;
            if is_first {
                say.notify_one();
                let second = h2.request().await?;
                script(&mut h2, first, second).await?;
            } else {
                h2.answer(first).await?;
            }
            h2.until_closed().await;
            Ok(())
        });
        let client = stage.builder().http_version(HttpVersion::Http2Only).build().unwrap();
        let first = Running::start(&client, &stage.http(&server));
        first_has_come.notified().await;
        let second = Running::start(&client, &stage.http(&server));
        Self { stage, client, server, first, second }
    }
}

impl Running {
    fn start(client: &Client, url: &str) -> Self {
        let (request, handle) = request(url);
        let response = client.request(request);
        let body = tokio::spawn(async { response.await?.into_body().bytes().await.map(Vec::from) });
        Self { handle, body }
    }
}

/// The first request fails, the second does not, both on the same connection, which nobody closes.
async fn first_fails(two: Two, failure: &str) -> Scene {
    let error = two.first.body.await.expect("no panic").expect_err("its stream was reset");
    assert_eq!(two.second.body.await.expect("no panic").expect("a response"), b"hello");
    let scene = Failed::of(&two.client, error).await.scene;
    assert_eq!(ended(&scene.request), ("failed", failure));
    scene.assert_on(scene.conn());
    assert_lived_on(&scene, &two.second.handle);
    scene
}

#[track_caller]
fn assert_lived_on(scene: &Scene, other: &RequestHandle) {
    let other = scene.trace.http_requests.get(other.id()).expect("recorded");
    assert_eq!(ended(other), ("closed", ""));
    assert_eq!((other.tcp_conn.as_str(), other.resp_status_code), (scene.conn().trace_id.as_str(), 200));
    assert_eq!((other.proto_major, scene.request.proto_major), (2, 2));
    assert_eq!(ended(scene.conn()), ("closed", ""));
}
