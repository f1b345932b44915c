//! Layers that write into different sinks are independent.

use nettrace::{NetTrace, RequestHandle, TraceSink, connect::TcpConnector, tls::TraceTlsLayer};
use tower::{Layer, Service};

use crate::mock;
use test_support::{check, history::records, pki};

fn count(trace: &NetTrace) -> usize {
    records(trace).len()
}

#[tokio::test]
async fn a_request_is_not_linked_to_a_connection_of_another_sink() {
    let [ours, theirs] = [TraceSink::new(), TraceSink::new()];
    let (conn, _there) = mock::connect(&theirs).await;
    let (own_conn, _own_there) = mock::connect(&ours).await;
    let handle = mock::fetch(&ours, conn.conn_ref()).await;
    let linked = mock::fetch(&ours, own_conn.conn_ref()).await;
    drop((conn, own_conn));
    let (ours, theirs) = (ours.snapshot("ours"), theirs.snapshot("theirs"));
    check::finished(&ours);
    check::finished(&theirs);
    assert!(ours.http_requests.get(handle.id()).unwrap().tcp_conn.is_undefined());
    assert!(!ours.http_requests.get(linked.id()).unwrap().tcp_conn.is_undefined());
    assert_eq!((count(&ours), count(&theirs)), (4, 2));
}

#[tokio::test]
async fn a_dial_is_triggered_by_no_request_of_another_sink() {
    let [ours, theirs] = [TraceSink::new(), TraceSink::new()];
    let service = tower::service_fn(|_: http::Request<nettrace::request::TraceBody<mock::Body>>| async {
        mock::connect(&theirs).await;
        mock::connect(&ours).await;
        Ok::<_, std::convert::Infallible>(http::Response::new(mock::Body::default()))
    });
    let mut service = nettrace::request::TraceRequestLayer::new(&ours).layer(service);
    mock::finish(service.call(http::Request::new(mock::Body::default())).await.unwrap()).await;
    let (ours, theirs) = (ours.snapshot("ours"), theirs.snapshot("theirs"));
    check::finished(&ours);
    check::finished(&theirs);
    assert_eq!(ours.dials[0].triggered_by, ours.http_requests[0].trace_id);
    assert!(theirs.dials[0].triggered_by.is_undefined());
}

#[tokio::test]
async fn a_tunnel_is_recorded_in_its_own_sink() {
    let authority = pki::Authority::new("nettrace test CA");
    let server = pki::serve_tls_echo(authority.issue(&["web.test"]).server()).await;
    let [ours, theirs] = [TraceSink::new(), TraceSink::new()];
    let tls = TraceTlsLayer::builder(&ours).danger_accept_invalid_certs().build();
    let stream = tls.layer(TcpConnector::new(&theirs)).call(format!("https://{server}").parse().unwrap());
    let stream = stream.await.unwrap();
    check::running(&ours.snapshot("running"));
    drop(stream);
    let (ours, theirs) = (ours.snapshot("ours"), theirs.snapshot("theirs"));
    check::finished(&ours);
    check::finished(&theirs);
    assert_eq!((count(&ours), count(&theirs)), (1, 2));
    assert!(ours.tls_tunnels[0].tcp_conn.is_undefined());
}

#[tokio::test]
async fn hops_in_different_sinks_are_not_linked() {
    let [ours, theirs] = [TraceSink::new(), TraceSink::new()];
    let handle = RequestHandle::new();
    for sink in [&ours, &theirs, &ours, &ours, &theirs] {
        mock::finish(mock::begin(sink, None, Some(&handle)).await).await;
    }
    let trace = handle.trace();
    check::finished(&trace);
    assert_eq!(trace.http_requests.len(), 2, "the hops in the sink of the last hop");
    let linked = |trace: &NetTrace| {
        trace.http_requests.iter().map(|request| !request.prev_hop.is_undefined()).collect::<Vec<_>>()
    };
    assert_eq!(linked(&ours.snapshot("ours")), [false, false, true]);
    assert_eq!(linked(&theirs.snapshot("theirs")), [false, false]);
}
