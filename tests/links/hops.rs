//! Redirects: a record for each hop, linked to the one before and to its own connection.

use nettrace::{Client, TraceSink};

use crate::clients::{assert_resolves, traced};
use test_support::web::{ReceivedRequest, Web, redirect, reply};

#[tokio::test]
async fn hops_over_several_hosts_are_linked() {
    // Each server needs the address of the other, which is known only after both have started.
    let other = std::sync::Arc::new(std::sync::OnceLock::new());
    let there = other.clone();
    let first = Web::start(async move |request: ReceivedRequest| match request.path() {
        "/start" => redirect(302, &format!("{}/middle", there.get().expect("the second server has started"))),
        "/last" => redirect(303, "end"),
        _ => reply("the end"),
    });
    let back = first.url("/last");
    let second = Web::start(async move |request: ReceivedRequest| match request.path() {
        "/middle" => redirect(307, "/more"),
        _ => redirect(301, &back),
    });
    other.set(second.url("")).unwrap();

    let sink = TraceSink::new();
    let client = traced("preset", &sink, Client::builder(&sink).build().unwrap());
    let (handle, port) = client.fetch(&first.url("/start")).await;

    let trace = sink.snapshot("");
    assert_resolves(&trace);
    let requests: Vec<_> = [&first.requests()[..1], &second.requests(), &first.requests()[1..]].concat();
    assert_eq!(
        requests.iter().map(ReceivedRequest::path).collect::<Vec<_>>(),
        ["/start", "/middle", "/more", "/last", "/end"]
    );
    let hops = &trace.http_requests;
    assert_eq!((hops.len(), &hops[4].trace_id), (5, &handle.id()));
    for (i, (hop, request)) in hops.iter().zip(&requests).enumerate() {
        assert!(hop.req_url.ends_with(request.path()));
        let conn = trace.tcp_conns.get(&hop.tcp_conn).expect("a connection");
        assert_eq!(conn.addr_tuple.src_port, request.peer.port(), "{}", hop.req_url);
        match i {
            0 => assert!(hop.prev_hop.is_undefined()),
            _ => assert_eq!(hop.prev_hop, hops[i - 1].trace_id),
        }
    }
    assert_eq!(requests[4].peer.port(), port);
    // There is one dial for each host, triggered by the first hop to it.
    let triggers: Vec<_> = trace.dials.iter().map(|dial| &dial.triggered_by).collect();
    assert_eq!(triggers, [&hops[0].trace_id, &hops[1].trace_id]);
    // The handle's trace contains all hops, as does the slice of the sink's trace for its request.
    let part = handle.trace();
    assert_resolves(&part);
    assert_eq!((part.http_requests.len(), part.tcp_conns.len(), part.dials.len()), (5, 2, 2));
    assert_eq!(trace.slice(handle.id()).http_requests.len(), 5);
}

#[tokio::test]
async fn requests_of_one_handle_in_different_sinks_are_no_hops_of_each_other() {
    let web = Web::start(async |_| reply("hello"));
    let (one, two) = (TraceSink::new(), TraceSink::new());
    let handle = nettrace::RequestHandle::new();
    for sink in [&one, &two] {
        let client = Client::builder(sink).build().unwrap();
        let mut request = http::Request::get(web.url("/")).body(nettrace::client::Body::empty()).unwrap();
        request.extensions_mut().insert(handle.clone());
        client.request(request).await.unwrap().into_body().bytes().await.unwrap();
    }
    assert!(
        two.snapshot("").http_requests[0].prev_hop.is_undefined(),
        "the first request is in another trace"
    );
    assert_eq!(handle.trace().http_requests.len(), 1);
}
