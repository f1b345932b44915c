//! `axum::serve` with a traced listener.

use std::sync::Arc;

use axum::{
    Router,
    extract::ConnectInfo,
    routing::{get, post},
};
use nettrace::{
    Client, TraceSink,
    record::{EndReason, NetTrace},
    server::{ConnInfo, TraceListener, TraceServerLayer, TraceTlsAcceptor},
    tls::Roots,
};
use tokio::{net::TcpListener, sync::oneshot};

use crate::servers::{conns_ended, settled};
use test_support::pki::Authority;

fn router(sink: &TraceSink) -> Router {
    let peer = async |ConnectInfo(info): ConnectInfo<ConnInfo>| info.peer_addr().unwrap().port().to_string();
    Router::new()
        .route("/", get(peer))
        .route("/echo", post(async |body: String| body))
        .layer(TraceServerLayer::new(sink))
}

/// Asserts that the trace has two completed requests over one accepted connection.
fn check(trace: &NetTrace) {
    assert_eq!((trace.http_requests.len(), trace.tcp_conns.len()), (2, 1));
    for request in &trace.http_requests {
        assert!(request.accepted);
        assert_eq!(request.end_reason, Some(EndReason::Closed));
        assert_eq!(request.tcp_conn, trace.tcp_conns[0].trace_id);
    }
}

#[tokio::test]
async fn requests_are_linked_and_the_server_shuts_down_gracefully() {
    let sink = TraceSink::new();
    let listener = TraceListener::new(&sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let app = router(&sink).into_make_service_with_connect_info::<ConnInfo>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async { stopped.await.unwrap() });
    let server = tokio::spawn(server.into_future());

    let client = Client::builder(&TraceSink::disabled()).build().unwrap();
    let url = format!("http://{addr}/");
    let port = client.get(&url).await.unwrap().into_body().bytes().await.unwrap();
    let echo = client.post(format!("{url}echo"), "hello").await.unwrap();
    assert_eq!(echo.into_body().bytes().await.unwrap(), "hello");
    client.close().await;
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();

    let trace = settled(&sink, conns_ended).await;
    check(&trace);
    assert_eq!(trace.tcp_conns[0].addr_tuple.dst_port.to_string().as_bytes(), port);
}

#[tokio::test]
async fn requests_over_tls_are_linked_to_their_tunnel() {
    let authority = Authority::new("nettrace test CA");
    let sink = TraceSink::new();
    let listener = TraceListener::new(&sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addr = listener.local_addr().unwrap();
    let config = Arc::new(authority.issue(&["127.0.0.1"]).server());
    let listener = listener.tls(TraceTlsAcceptor::new(&sink, config));
    let app = router(&sink).into_make_service_with_connect_info::<ConnInfo>();
    let server = tokio::spawn(axum::serve(listener, app).into_future());

    let roots = Roots::from_pem(authority.pem()).unwrap();
    let client = Client::builder(&TraceSink::disabled()).roots(roots).build().unwrap();
    for _ in 0..2 {
        client.get(format!("https://{addr}/")).await.unwrap().into_body().bytes().await.unwrap();
    }
    client.close().await;
    let trace = settled(&sink, conns_ended).await;
    check(&trace);
    assert!(trace.http_requests.iter().all(|request| request.tls_tunnel == trace.tls_tunnels[0].trace_id));
    assert_eq!(trace.http_requests[0].req_url, format!("https://{addr}/"));
    server.abort();
}
