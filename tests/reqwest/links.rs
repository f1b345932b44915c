//! Requests are linked to the connections that carried them.

use nettrace::record::EndReason;
use nettrace::reqwest::RequestBuilderExt as _;
use nettrace::{ResponseExt as _, TraceSink, TracingEvents, view};
use tower::Service as _;

use crate::clients::{Variant, linked, peer, unrelated_roots};
use test_support::collector::Collector;
use test_support::web::{Web, redirect, reply};

#[tokio::test]
async fn requests_over_new_and_reused_connections_are_linked() {
    let web = Web::start(async |_| reply("hello"));
    for h2 in [false, true] {
        let variant = Variant::observed(unrelated_roots());
        let builder = if h2 { variant.builder().http2_prior_knowledge() } else { variant.builder() };
        let client = builder.build().unwrap();
        let mut ports = vec![];
        for _ in 0..3 {
            let response = variant.send(client.get(web.url("/"))).await.unwrap();
            let (port, handle) = (peer(&response), response.request_handle().unwrap().clone());
            assert_eq!(response.text().await.unwrap(), "hello");
            let trace = variant.finished();
            let (record, conn) = linked(&trace, &handle);
            let conn = conn.expect("a linked connection");
            assert_eq!(conn.addr_tuple.src_port, port, "the port that the server saw");
            assert_eq!(conn.addr_tuple.dst_port, web.addr().port());
            assert_eq!(conn.end_reason, Some(EndReason::Unobserved));
            assert!(
                conn.socket_trace.is_none() && conn.conn_close_at.is_undefined() && conn.bytes_unobserved
            );
            assert_eq!((record.resp_content_len, record.end_reason.clone()), (5, Some(EndReason::Closed)));
            assert!(record.conn_acquired_at.is_undefined(), "reqwest does not report this time");
            assert_eq!(handle.trace().http_requests.len(), 1);
            ports.push(port);
        }
        assert!(ports.iter().all(|port| *port == ports[0]), "expected one connection: {ports:?}");
        let trace = variant.finished();
        assert_eq!((trace.dials.len(), trace.tcp_conns.len()), (1, 1));
        assert_eq!(trace.dials[0].triggered_by, trace.http_requests[0].trace_id);
        assert_eq!(trace.dials[0].established_conn, trace.tcp_conns[0].trace_id);
    }
}

#[tokio::test]
async fn unobserved_values_are_not_reported_as_zero() {
    let collector = Collector::default();
    let _guard = tracing::subscriber::set_default(collector.clone());
    let sink = TraceSink::builder().subscriber(TracingEvents::new()).build();
    let web =
        Web::start(async |request| if request.path() == "/a" { redirect(302, "/b") } else { reply("hello") });
    let variant = Variant::recording(sink, unrelated_roots());
    let client = variant.builder().build().unwrap();
    // This request is not recorded, so its dial belongs to no request.
    client.get(web.url("/")).send().await.unwrap().bytes().await.unwrap();
    let drawing = view::waterfall(&variant.finished()).width(140).to_string();
    assert!(drawing.contains(" · bytes not observed · close not observed\n"), "{drawing}");
    assert!(!drawing.contains("0 B") && !drawing.contains("still open"), "{drawing}");

    variant.send(client.get(web.url("/a"))).await.unwrap().bytes().await.unwrap();
    let trace = variant.finished();
    let drawing = view::waterfall(&trace).width(140).to_string();
    assert!(drawing.contains("/a · 302 Found") && drawing.contains("  receive "), "{drawing}");
    assert!(!drawing.contains("0 B") && !drawing.contains("no connection"), "{drawing}");
    let [hop, last] = [0, 1].map(|at| trace.http_requests[at].timings(&trace));
    assert_eq!((hop.receive, hop.total.is_some()), (None, true), "{hop}");
    assert!(last.receive.is_some(), "{last}");

    let [tcp] = &collector.events("nettrace::tcp")[..] else { panic!("expected one connection") };
    assert_eq!((tcp.get("nettrace.sent_bytes"), tcp.get("nettrace.received_bytes")), ("", ""));
    let [hop, last] = &collector.events("nettrace::http")[..] else { panic!("expected two hops") };
    assert_eq!((hop.get("http.response.body.size"), last.get("http.response.body.size")), ("", "5"));
}

#[tokio::test]
async fn concurrent_requests_are_linked_to_their_connections() {
    let web = Web::start(async |request| {
        if request.path() == "/late" {
            tokio::task::yield_now().await;
        }
        reply("hello")
    });
    let variant = Variant::observed(unrelated_roots());
    let client = variant.builder().build().unwrap();
    let mut ports = std::collections::HashSet::new();
    for _ in 0..4 {
        let all = (0..16).map(|n| {
            let path = if n % 2 == 0 { "/" } else { "/late" };
            let request = client.get(web.url(path));
            async {
                let response = variant.send(request).await.unwrap();
                let (port, handle) = (peer(&response), response.request_handle().unwrap().clone());
                response.bytes().await.unwrap();
                (port, handle)
            }
        });
        let all = futures_util::future::join_all(all).await;
        let trace = variant.finished();
        for (port, handle) in all {
            let conn = linked(&trace, &handle).1.expect("a linked connection");
            assert_eq!(conn.addr_tuple.src_port, port);
            ports.insert(port);
        }
    }
    assert!(ports.len() > 1, "{ports:?}");
}

#[tokio::test]
async fn requests_of_two_clients_with_one_sink_are_linked() {
    let web = Web::start(async |_| reply("hello"));
    let variant = Variant::observed(unrelated_roots());
    let clients = [variant.builder().build().unwrap(), variant.builder().build().unwrap()];
    for client in clients.iter().cycle().take(6) {
        let response = variant.send(client.get(web.url("/"))).await.unwrap();
        let (port, handle) = (peer(&response), response.request_handle().unwrap().clone());
        response.bytes().await.unwrap();
        let trace = variant.finished();
        assert_eq!(linked(&trace, &handle).1.expect("a linked connection").addr_tuple.src_port, port);
    }
    assert_eq!(variant.finished().dials.len(), 2);
}

#[tokio::test]
async fn a_connection_is_recorded_again_if_it_is_used_after_clear() {
    let web = Web::start(async |_| reply("hello"));
    let variant = Variant::observed(unrelated_roots());
    let client = variant.builder().build().unwrap();
    variant.send(client.get(web.url("/"))).await.unwrap().bytes().await.unwrap();
    variant.sink.clear();
    assert_eq!(variant.finished().tcp_conns.len(), 0);
    let response = variant.send(client.get(web.url("/"))).await.unwrap();
    let (port, handle) = (peer(&response), response.request_handle().unwrap().clone());
    response.bytes().await.unwrap();
    let trace = variant.finished();
    let conn = linked(&trace, &handle).1.expect("a linked connection");
    assert_eq!((conn.addr_tuple.src_port, conn.reused), (port, true));
    assert!(trace.dials[0].triggered_by.is_undefined(), "the request that triggered it was cleared");
}

#[tokio::test]
async fn a_service_call_has_a_handle_before_the_response() {
    let web = Web::start(async |_| reply("hello"));
    let variant = Variant::observed(unrelated_roots());
    let mut client = variant.client();
    let request = client.get(web.url("/")).build().unwrap();
    let sent = client.call(request);
    let handle = sent.request_handle().clone();
    assert!(!handle.id().is_undefined(), "the ID is known before the response");
    let response = sent.await.unwrap();
    assert_eq!(response.request_handle().unwrap().id(), handle.id());
    response.bytes().await.unwrap();
    let timings = handle.timings().unwrap();
    assert!(timings.connect.is_some() && timings.receive.is_some() && timings.total.is_some());
    assert!(timings.blocked.is_none(), "reqwest does not report when it acquires a connection");
}

#[tokio::test]
async fn unrecorded_requests_leave_a_dial_without_a_trigger() {
    // `send` records the dial, but no request.
    let web = Web::start(async |_| reply("hello"));
    let variant = Variant::observed(unrelated_roots());
    let client = variant.client();
    client.get(web.url("/")).send().await.unwrap().bytes().await.unwrap();
    let trace = variant.finished();
    assert_eq!((trace.http_requests.len(), trace.dials.len()), (0, 1));
    assert!(trace.dials[0].triggered_by.is_undefined());
    // A later request over this connection is linked to it nevertheless.
    let response = client.get(web.url("/")).send_traced(&client).await.unwrap();
    let (port, handle) = (peer(&response), response.request_handle().unwrap().clone());
    response.bytes().await.unwrap();
    let trace = variant.finished();
    assert_eq!(linked(&trace, &handle).1.expect("a linked connection").addr_tuple.src_port, port);
}

#[tokio::test]
async fn a_request_over_an_unrecorded_connection_is_not_linked() {
    let web = Web::start(async |_| reply("hello"));
    let variant = Variant::observed(unrelated_roots());
    let client = variant.client();
    variant.sink.set_enabled(false);
    client.get(web.url("/")).send_traced(&client).await.unwrap().bytes().await.unwrap();
    variant.sink.set_enabled(true);
    client.get(web.url("/")).send_traced(&client).await.unwrap().bytes().await.unwrap();
    let trace = variant.finished();
    assert_eq!((trace.http_requests.len(), trace.dials.len()), (1, 0));
    assert!(trace.http_requests[0].tcp_conn.is_undefined());
}

#[tokio::test]
async fn body_lengths_are_recorded_for_streams_and_buffers() {
    let web = Web::start(async |request| reply(request.body));
    let variant = Variant::observed(unrelated_roots());
    let client = variant.builder().build().unwrap();
    let pieces = [Ok::<_, std::io::Error>("he"), Ok("llo")];
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    for (body, is_stream) in [(reqwest::Body::from("hello"), false), (stream, true)] {
        let response = variant.send(client.post(web.url("/")).body(body)).await.unwrap();
        let handle = response.request_handle().unwrap().clone();
        assert_eq!(response.text().await.unwrap(), "hello");
        let trace = variant.finished();
        let (record, _) = linked(&trace, &handle);
        assert_eq!((record.req_content_len, record.resp_content_len), (5, 5));
        assert_eq!(record.req_body_end_at.is_undefined(), !is_stream);
    }
}
