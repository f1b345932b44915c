//! The traces of client and server agree about the same exchange.

use std::sync::Arc;

use nettrace::{
    Client, NetTrace, TraceSink,
    client::HttpVersion,
    record::{EndReason, HttpReqTrace, Record, TcpConnTrace, TlsTunnelTrace, TraceId, TraceList},
    server::{TraceListener, TraceTlsAcceptor},
    tls::Roots,
};
use tokio::net::TcpListener;

use crate::servers::{TestServer, conn_of};
use test_support::{check, pki::Authority};

/// The records of one exchange in the trace of one side.
struct End<'a> {
    conn: &'a TcpConnTrace,
    tunnel: Option<&'a TlsTunnelTrace>,
    requests: Vec<&'a HttpReqTrace>,
}

/// Pairs each connection of the client with the server's record of it, which has the addresses swapped.
fn pairs<'a>(client: &'a NetTrace, server: &'a NetTrace) -> Vec<[End<'a>; 2]> {
    let ends = client.tcp_conns.iter().filter(|conn| conn.connected).map(|conn| {
        let other = server.tcp_conns.iter().find(|other| other.addr_tuple == conn.addr_tuple.reversed());
        [end(client, conn), end(server, other.expect("the other end"))]
    });
    ends.collect()
}

fn end<'a>(trace: &'a NetTrace, conn: &'a TcpConnTrace) -> End<'a> {
    let on_it = |id: &TraceId| *id == conn.trace_id;
    End {
        conn,
        tunnel: trace.tls_tunnels.iter().find(|tunnel| on_it(&tunnel.tcp_conn)),
        requests: trace.http_requests.iter().filter(|request| on_it(&request.tcp_conn)).collect(),
    }
}

fn assert_agree([client, server]: &[End<'_>; 2]) {
    assert!(!client.conn.accepted && server.conn.accepted);
    assert_eq!(client.conn.total_sent_bytes, server.conn.total_recv_bytes);
    // The client closes without reading the server's last bytes: a TLS alert or an HTTP/2 frame.
    let unread = server.conn.total_sent_bytes - client.conn.total_recv_bytes;
    let may_be_unread =
        client.tunnel.is_some() || client.requests.iter().any(|request| request.proto_major == 2);
    assert!(unread <= if may_be_unread { 64 } else { 0 }, "{unread} bytes were not received");
    assert!(client.conn.total_sent_bytes > 0 && client.conn.total_recv_bytes > 0);

    let facts = |end: &TlsTunnelTrace| {
        let agreed = (end.cipher_suite, end.tls_version.clone(), end.key_exchange_group.clone());
        (agreed, end.negotiated_proto.clone(), end.server_name.clone(), end.did_resume)
    };
    assert_eq!(client.tunnel.map(facts), server.tunnel.map(facts));
    assert_eq!(client.tunnel.map(|tunnel| tunnel.accepted), client.tunnel.map(|_| false));
    assert_eq!(server.tunnel.map(|tunnel| tunnel.accepted), client.tunnel.map(|_| true));

    let facts = |request: &&HttpReqTrace| {
        assert_eq!(request.end_reason, Some(EndReason::Closed));
        let asked = (request.req_method.clone(), request.req_url.clone(), request.req_content_len);
        let answered = (request.resp_status_code, request.resp_content_len);
        (asked, answered, request.proto_major, request.proto_minor)
    };
    let sorted = |end: &End<'_>| {
        let mut facts: Vec<_> = end.requests.iter().map(facts).map(|facts| format!("{facts:?}")).collect();
        facts.sort();
        facts
    };
    assert_eq!(sorted(client), sorted(server));
}

async fn exchange(client: &Client, url: impl Fn(&str) -> String) {
    for path in ["/hello", "/stream", "/trailers", "/empty"] {
        client.get(url(path)).await.unwrap().into_body().bytes().await.unwrap();
    }
    let upload = client.post(url("/echo?q=1"), "x".repeat(100_000)).await;
    let answer = upload.unwrap().into_body().bytes().await.unwrap();
    assert_eq!(answer.len(), 100_000);
    client.close().await;
}

/// Returns the only record of a list.
fn only<R: Record>(list: &TraceList<R>) -> &R {
    let [only] = &list[..] else { panic!("expected one record, found {}", list.len()) };
    only
}

#[tokio::test]
async fn traces_agree_without_tls() {
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        let site = TestServer::start(&TraceSink::new()).await;
        let sink = TraceSink::new();
        let client = Client::builder(&sink).http_version(version).compression(false).build().unwrap();
        exchange(&client, |path| site.url(path)).await;
        let [client, server] = [sink.snapshot("client"), site.finished().await];
        check::finished(&client);
        let pairs = pairs(&client, &server);
        pairs.iter().for_each(assert_agree);
        assert_eq!(pairs.iter().map(|[client, _]| client.requests.len()).sum::<usize>(), 5);
    }
}

#[tokio::test]
async fn traces_agree_with_tls() {
    for protocols in [&["h2", "http/1.1"][..], &["http/1.1"]] {
        let authority = Authority::new("nettrace test CA");
        let mut config = authority.issue(&["localhost"]).server();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let server_sink = TraceSink::new();
        let listener = TraceListener::new(&server_sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
        let acceptor = TraceTlsAcceptor::new(&server_sink, Arc::new(config));
        let site = TestServer::on(&server_sink, listener.tls(acceptor));

        let sink = TraceSink::new();
        let roots = Roots::from_pem(authority.pem()).unwrap();
        let client = Client::builder(&sink).roots(roots).compression(false).build().unwrap();
        let port = site.addr.port();
        exchange(&client, |path| format!("https://localhost:{port}{path}")).await;
        let [client, server] = [sink.snapshot("client"), site.finished().await];
        check::finished(&client);
        let pairs = pairs(&client, &server);
        pairs.iter().for_each(assert_agree);
        assert_eq!(pairs.iter().map(|[client, _]| client.requests.len()).sum::<usize>(), 5);
        let tunnel = only(&server.tls_tunnels);
        assert_eq!(
            (tunnel.negotiated_proto.as_str(), tunnel.server_name.as_str()),
            (protocols[0], "localhost")
        );
        assert!(server.http_requests.iter().all(|request| request.tls_tunnel == tunnel.trace_id));
        assert!(conn_of(&server, &server.http_requests[0]).accepted);
    }
}

#[tokio::test]
async fn traces_agree_about_a_failed_handshake() {
    let server_sink = TraceSink::new();
    let listener = TraceListener::new(&server_sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let config = Authority::new("nettrace test CA").issue(&["localhost"]).server();
    let site =
        TestServer::on(&server_sink, listener.tls(TraceTlsAcceptor::new(&server_sink, Arc::new(config))));

    let sink = TraceSink::new();
    let roots = Roots::from_pem(Authority::new("another").pem()).unwrap();
    let client = Client::builder(&sink).roots(roots).build().unwrap();
    client.get(format!("https://localhost:{}/", site.addr.port())).await.unwrap_err();
    client.close().await;
    let [client, server] = [sink.snapshot("client"), site.finished().await];
    let [one_end, other_end] = [only(&client.tls_tunnels), only(&server.tls_tunnels)];
    assert_eq!(one_end.failure, other_end.failure);
    assert_eq!(
        (one_end.alert.as_str(), other_end.alert.as_str()),
        ("sent unknown_ca", "received unknown_ca")
    );
    assert_eq!(one_end.cipher_suite, other_end.cipher_suite);
    assert!(server.http_requests.is_empty());
}
