//! Connections that carry more than one request.

use std::collections::HashSet;

use futures_util::future::join_all;
use nettrace::client::HttpVersion;
use nettrace::{Client, TraceSink};

use crate::clients::{Traced, assert_linked, clients, link, traced};
use test_support::wait;
use test_support::web::{Web, reply};

#[tokio::test]
async fn sequential_requests_are_linked_to_one_connection() {
    let web = Web::start(async |_| reply("hello"));
    for client in clients(false) {
        let mut asked = Vec::new();
        for _ in 0..3 {
            asked.push(client.fetch(&web.url("/")).await);
        }
        let trace = client.sink.snapshot("");
        assert_eq!((trace.tcp_conns.len(), trace.dials.len()), (1, 1), "{}", client.name);
        for (i, (request, port)) in asked.iter().enumerate() {
            assert_linked(&trace, request, *port);
            let is_first = i == 0;
            assert_eq!(trace.dials[0].triggered_by == request.id(), is_first, "{}", client.name);
            assert_eq!(request.timings().unwrap().connect.is_some(), is_first, "{}", client.name);
            let part = request.trace();
            assert_eq!((part.http_requests.len(), part.tcp_conns.len(), part.dials.len()), (1, 1, 1));
        }
    }
}

/// Makes `count` concurrent requests and asserts their links. Returns the number of connections they used.
async fn all_at_once(client: &Traced, web: &Web, count: usize) -> usize {
    let url = web.url("/");
    let asked = join_all((0..count).map(|_| client.fetch(&url))).await;
    let trace = client.sink.snapshot("");
    assert_eq!(trace.http_requests.len(), count);
    let used: HashSet<_> =
        asked.iter().map(|(request, port)| assert_linked(&trace, request, *port).trace_id).collect();
    used.len()
}

#[tokio::test]
async fn concurrent_requests_are_linked_to_their_connections() {
    let web = Web::start(async |_| reply("hello"));
    for client in clients(false) {
        // Each request begins a dial, and which connections are used is a race.
        all_at_once(&client, &web, 64).await;
        let used_again = client.fetch(&web.url("/")).await;
        assert_linked(&client.sink.snapshot(""), &used_again.0, used_again.1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_requests_over_four_connections_are_linked_to_them() {
    let web = Web::start(async |_| reply("hello"));
    let sink = TraceSink::new();
    let client = Client::builder(&sink).max_conns_per_host(4).build().unwrap();
    let client = traced("preset", &sink, client);
    let url = web.url("/");
    let tasks = (0..64).map(|_| {
        let (client, url) = (client.clone(), url.clone());
        tokio::spawn(async move { client.fetch(&url).await })
    });
    let asked = join_all(tasks).await;
    let trace = sink.snapshot("");
    assert!(trace.tcp_conns.len() <= 4, "{}", trace.tcp_conns.len());
    for asked in asked {
        let (request, port) = asked.unwrap();
        assert_linked(&trace, &request, port);
        assert!(request.timings().unwrap().blocked.is_some());
    }
}

#[tokio::test]
async fn concurrent_http2_requests_are_linked_to_one_connection() {
    let web = Web::start(async |_| reply("hello"));
    for client in clients(true) {
        assert_eq!(all_at_once(&client, &web, 32).await, 1, "{}", client.name);
        let trace = client.sink.snapshot("");
        assert!(trace.http_requests.iter().all(|request| request.proto_major == 2));
        assert_eq!(trace.tcp_conns.len(), 1, "{}", client.name);
    }
}

/// The protocol is known only after the handshake: several dials begin, and one connection serves all requests.
#[tokio::test]
async fn http2_requests_are_linked_if_alpn_chooses_the_protocol() {
    let authority = test_support::pki::Authority::new("links");
    let mut config = authority.issue(&["localhost", "127.0.0.1"]).server();
    config.alpn_protocols = vec!["h2".into(), "http/1.1".into()];
    let web = Web::tls(config, async |_| reply("hello"));
    let sink = TraceSink::new();
    let roots = nettrace::tls::Roots::from_pem(authority.pem()).unwrap();
    let client = Client::builder(&sink).roots(roots).http_version(HttpVersion::Auto).build().unwrap();
    let client = traced("preset", &sink, client);
    let url = format!("https://{}/", web.addr());
    let asked = join_all((0..8).map(|_| client.fetch(&url))).await;
    let trace = sink.snapshot("");
    for (request, port) in &asked {
        let conn = assert_linked(&trace, request, *port);
        let record = link(&trace, request).0;
        let tunnel = trace.tls_tunnels.get(&record.tls_tunnel).expect("a tunnel");
        assert_eq!((&tunnel.tcp_conn, tunnel.negotiated_proto.as_str()), (&conn.trace_id, "h2"));
    }
}

/// The connection runs on the runtime that dialled it, and carries a request of another thread.
#[test]
fn requests_of_two_threads_are_linked_to_one_connection() {
    let web = Web::start(async |_| reply("hello"));
    for client in clients(false) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let url = web.url("/");
        let (first, port) = runtime.block_on(client.fetch(&url));
        let elsewhere = client.clone();
        let there = url.clone();
        let second = std::thread::spawn(move || {
            // Until the connection is back in the pool, others are dialled. They end with their runtime, so the pool
            // does not prefer them.
            let deadline = wait::Deadline::new("a request over the first connection");
            loop {
                deadline.check();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let (request, other_port) = runtime.block_on(elsewhere.fetch(&there));
                if port == other_port {
                    return request;
                }
            }
        })
        .join()
        .unwrap();
        let trace = client.sink.snapshot("");
        let conns =
            [(&first, port), (&second, port)].map(|(request, port)| assert_linked(&trace, request, port));
        assert_eq!(conns[0].trace_id, conns[1].trace_id);
        assert_eq!(trace.dials[0].triggered_by, first.id());
    }
}
