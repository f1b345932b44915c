//! Two sinks in one process never mix their records.

use futures_util::future::join_all;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use nettrace::TraceSink;
use nettrace::connect::{TcpConnector, TraceConnectLayer};
use nettrace::request::{TraceBody, TraceRequestLayer};
use tower::Layer as _;

use crate::clients::{Traced, assert_linked, assert_resolves, clients, link, traced};
use test_support::web::{Web, reply};

#[tokio::test]
async fn clients_with_separate_sinks_do_not_mix_records() {
    let web = Web::start(async |_| reply("hello"));
    let url = web.url("/");
    let clients: Vec<Traced> = (0..4).flat_map(|_| clients(false)).collect();
    let asked = join_all((0..60).map(|i| {
        let client = &clients[i % clients.len()];
        let url = &url;
        async move { (client, client.fetch(url).await) }
    }));
    let asked = asked.await;
    for client in &clients {
        let trace = client.sink.snapshot("");
        assert_resolves(&trace);
        let own: Vec<_> = asked.iter().filter(|(of, _)| of.sink.snapshot("").uuid == trace.uuid).collect();
        assert!(own.len() >= 5);
        assert_eq!(trace.http_requests.len(), 5, "{}", client.name);
    }
    for (client, (request, port)) in &asked {
        assert_linked(&client.sink.snapshot(""), request, *port);
    }
}

/// A request layer over a connector of another sink has no connection to refer to.
#[tokio::test]
async fn a_request_is_not_linked_to_a_connection_of_another_sink() {
    let web = Web::start(async |_| reply("hello"));
    for capture in [false, true] {
        let (below, above) = (TraceSink::new(), TraceSink::new());
        // IDs are unique only within a sink: `above` assigns those of the connection in `below` to other records.
        for _ in 0..3 {
            traced("other", &above, pool(&above, false)).fetch(&web.url("/")).await;
        }
        above.clear();
        let client = TraceRequestLayer::new(&above).capture_connection(capture).layer(inner(&below));
        let client = traced("mixed", &above, client);
        let (request, port) = client.fetch(&web.url("/")).await;
        let trace = above.snapshot("");
        let record = link(&trace, &request).0;
        assert!(record.tcp_conn.is_undefined() && record.attempts.is_empty(), "{record:?}");
        assert!(request.trace().tcp_conns.is_empty());
        let trace = below.snapshot("");
        assert_eq!((trace.tcp_conns.len(), trace.http_requests.len()), (1, 0));
        assert_eq!(trace.tcp_conns[0].addr_tuple.src_port, port);
        assert!(trace.dials[0].triggered_by.is_undefined());
    }
}

/// Both sinks record the connection, each with its own IDs and the same bytes.
#[tokio::test]
async fn stacked_sinks_both_record_the_connection() {
    let web = Web::start(async |_| reply("hello"));
    let (inner, outer) = (TraceSink::new(), TraceSink::new());
    let connector = TraceConnectLayer::new(&outer).layer(TcpConnector::new(&inner));
    let client: legacy::Client<_, TraceBody<_>> =
        legacy::Client::builder(TokioExecutor::new()).build(connector);
    let client = traced("stacked", &outer, TraceRequestLayer::new(&outer).layer(client));
    let (request, port) = client.fetch(&web.url("/")).await;
    assert_linked(&outer.snapshot(""), &request, port);
    let trace = inner.snapshot("");
    assert_resolves(&trace);
    assert_eq!(trace.tcp_conns[0].addr_tuple.src_port, port);
    assert_eq!(trace.tcp_conns[0].total_recv_bytes, outer.snapshot("").tcp_conns[0].total_recv_bytes);
}

type Pool<C> = legacy::Client<C, TraceBody<http_body_util::Full<bytes::Bytes>>>;

fn inner(sink: &TraceSink) -> Pool<nettrace::connect::TraceConnect<HttpConnector>> {
    legacy::Client::builder(TokioExecutor::new())
        .build(TraceConnectLayer::new(sink).layer(HttpConnector::new()))
}

fn pool(
    sink: &TraceSink,
    capture: bool,
) -> nettrace::request::TraceRequest<Pool<nettrace::connect::TraceConnect<HttpConnector>>> {
    TraceRequestLayer::new(sink).capture_connection(capture).layer(inner(sink))
}
