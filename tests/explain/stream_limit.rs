//! Requests that wait for a stream of HTTP/2.

use crate::{assert_nothing, explained, quoted};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{client::conn::http2, server, service};
use hyper_util::{
    client::legacy::connect::HttpConnector,
    rt::{TokioExecutor, TokioIo},
};
use nettrace::{
    ConnRef, NetTrace, TraceSink,
    connect::TraceConnectLayer,
    explain::{Outcome, Severity},
    request::{OnConnection, TraceBody, TraceRequestLayer},
    wire::TraceWireLayer,
};
use std::{convert::Infallible, net::SocketAddr, time::Duration};
use test_support::{pki::serve_tcp, wait};
use tower::{Layer as _, ServiceExt as _};

/// How long the server takes for each response.
const SLOW: Duration = Duration::from_millis(50);

/// Starts hyper's server, which allows so many streams at a time.
async fn server(limit: u32) -> SocketAddr {
    serve_tcp(move |stream| async move {
        let answer = service::service_fn(async |_| {
            tokio::time::sleep(SLOW).await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("hello"))))
        });
        let mut server = server::conn::http2::Builder::new(TokioExecutor::new());
        _ = server.max_concurrent_streams(limit).serve_connection(TokioIo::new(stream), answer).await;
    })
    .await
}

/// Makes eight requests at the same time over one connection, after a first one, with a limit of their time.
async fn eight_requests(limit: u32, timeout: Duration) -> NetTrace {
    let (sink, addr) = (TraceSink::new(), server(limit).await);
    let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
    let connector = TraceWireLayer::new(&sink).layer(connector);
    let io = connector.oneshot(format!("http://{addr}/").parse().unwrap()).await.unwrap();
    let conn = ConnRef::of(&io);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let over = tower::service_fn(move |request: Request<TraceBody<Full<Bytes>>>| {
        sender.clone().send_request(request)
    });
    let client = TraceRequestLayer::new(&sink).layer(OnConnection::new(conn, over));
    let get = async |path: String| {
        let request = Request::get(format!("http://{addr}{path}")).body(Full::default()).unwrap();
        let response = client.clone().oneshot(request).await.unwrap();
        response.into_body().collect().await.unwrap();
    };
    get("/first".into()).await; // afterwards the client knows the limit
    join_all((0..8).map(async |at| _ = tokio::time::timeout(timeout, get(format!("/{at}"))).await)).await;
    drop(client);
    connection.await.unwrap().unwrap();
    let is_open = || sink.snapshot("").tcp_conns.iter().any(|conn| conn.end_reason.is_none());
    wait::until("the connection is closed", || !is_open()).await;
    sink.snapshot("")
}

#[tokio::test]
async fn requests_that_wait_for_the_only_stream() {
    let trace = eight_requests(1, Duration::from_secs(60)).await;
    let explanation = explained(&trace);
    let [finding] = &explanation.findings[..] else { panic!("{explanation:#?}") };
    assert_eq!((finding.code.as_str(), finding.count), ("http2_stream_limit", 7));
    for (at, verdict) in explanation.verdicts.iter().enumerate() {
        let root = verdict.root().unwrap();
        assert_eq!((verdict.outcome, root.severity), (Outcome::Succeeded, Severity::Degraded));
        assert_eq!(quoted(root, "wire.http2.serverSettings.maxConcurrentStreams"), "1");
        let holder = root.evidence.iter().find(|evidence| evidence.field == "respRecvAt").unwrap();
        assert_eq!(holder.record, trace.http_requests[at + 1].trace_id, "the one before it");
    }
}

#[tokio::test]
async fn a_time_limit_that_runs_out_before_there_is_a_stream() {
    let trace = eight_requests(1, SLOW * 9 / 2).await;
    let explanation = explained(&trace);
    let failed: Vec<_> =
        explanation.verdicts.iter().filter(|verdict| verdict.outcome == Outcome::GivenUp).collect();
    assert!((3..=5).contains(&failed.len()), "{explanation}");
    for verdict in failed {
        let root = verdict.root().unwrap();
        assert_eq!(
            (root.code.as_str(), root.severity),
            ("http2_stream_limit", Severity::Failure),
            "{verdict}"
        );
    }
}

#[tokio::test]
async fn requests_below_the_limit_are_healthy() {
    let trace = eight_requests(100, Duration::from_secs(60)).await;
    let http2 = trace.tcp_conns[0].wire.as_ref().and_then(|wire| wire.http2.as_ref()).unwrap();
    assert_eq!(http2.server_settings.max_concurrent_streams, Some(100));
    assert_nothing(&trace);
}
