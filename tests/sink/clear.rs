//! `TraceSink::clear` keeps open connections and requests in flight, and removes everything else.

use nettrace::{
    Client, NetTrace, RequestHandle, ResponseExt, Timestamp, TraceSink,
    connect::TcpConnector,
    record::{DnsResType, Record},
    resolve::StubResolver,
    tls::TraceTlsLayer,
};
use tower::{Layer, Service};

use crate::{mock, server::Server};
use test_support::{check, dns::DnsServer, pki, raw::Refused, wait};

fn is_absolute(time: Timestamp) -> bool {
    time.to_system_time().is_some()
}

fn is_relative(time: Timestamp) -> bool {
    !time.is_undefined() && !is_absolute(time)
}

#[tokio::test]
async fn clear_keeps_open_connections_and_the_records_they_refer_to() {
    let nameserver = DnsServer::answering(&["127.0.0.1", "127.0.0.2"]).await;
    let authority = pki::Authority::new("nettrace test CA");
    let server = pki::serve_tls_echo(authority.issue(&["web.test"]).server()).await;
    let sink = TraceSink::new();
    let resolver =
        StubResolver::builder(&sink).nameservers([nameserver.addr()]).hosts_file(None).build().unwrap();
    let connector = TcpConnector::new(&sink).resolver(resolver);
    let tls = TraceTlsLayer::builder(&sink).danger_accept_invalid_certs().build();
    let uri = format!("https://web.test:{}", server.port());
    let stream = tls.layer(connector).call(uri.parse().unwrap()).await.unwrap();

    let before = sink.snapshot("before");
    sink.clear();
    let after = sink.snapshot("after");
    check::running(&after);
    assert!(after.trace_begin_at > before.trace_begin_at);
    fn ids<R: Record>(list: &[R]) -> Vec<&str> {
        list.iter().map(|record| record.trace_id().as_str()).collect()
    }
    assert_eq!((ids(&after.dials), ids(&after.tcp_conns)), (ids(&before.dials), ids(&before.tcp_conns)));
    assert_eq!(
        (ids(&after.udp_conns), ids(&after.dns_queries)),
        (ids(&before.udp_conns), ids(&before.dns_queries))
    );
    assert_eq!(ids(&after.tls_tunnels), ids(&before.tls_tunnels));
    let (dial, conn, tunnel) = (&after.dials[0], &after.tcp_conns[0], &after.tls_tunnels[0]);
    assert_eq!((after.dials.len(), after.tcp_conns.len(), after.tls_tunnels.len()), (1, 1, 1));
    assert!(conn.reused && !before.tcp_conns[0].reused);
    for time in [
        dial.dial_begin_at,
        dial.resolve_end_at,
        conn.handshake_begin_at,
        tunnel.handshake_end_at,
        after.dns_queries[0].dns_query_msgs[0].sent_at,
        conn.socket_trace.as_ref().unwrap().socket_ops.iter().next().unwrap().call_at,
    ] {
        assert!(is_absolute(time), "{time}");
    }
    let asked = |query: &nettrace::record::DnsQueryTrace| query.dns_query_msgs[0].questions[0].r#type.clone();
    let mut asked: Vec<_> = after.dns_queries.iter().map(asked).collect();
    asked.sort_by_key(|kind| *kind != DnsResType::A);
    assert_eq!(asked, [DnsResType::A, DnsResType::Aaaa]);

    // The absolute and the relative time are the same moment, as closely as the clocks can be compared.
    let moment = |trace: &NetTrace, time: Timestamp| {
        if is_absolute(time) { time } else { trace.trace_begin_at.add(time) }
    };
    let begins = [&before, &after].map(|trace| moment(trace, trace.dials[0].dial_begin_at));
    assert!(begins[0].sub(begins[1]).unwrap().abs() < 10_000_000, "{begins:?}");

    drop(stream);
    let closed = sink.snapshot("closed");
    check::finished(&closed);
    assert!(is_relative(closed.tcp_conns[0].conn_close_at));
    sink.clear();
    assert!(is_empty(&sink.snapshot("empty")));
}

fn is_empty(trace: &NetTrace) -> bool {
    trace.http_requests.is_empty()
        && trace.dials.is_empty()
        && trace.tcp_conns.is_empty()
        && trace.udp_conns.is_empty()
        && trace.dns_queries.is_empty()
        && trace.tls_tunnels.is_empty()
        && trace.dropped.is_none()
}

#[tokio::test]
async fn clear_keeps_requests_in_flight_and_removes_finished_ones() {
    let server = Server::start().await;
    let sink = TraceSink::new();
    let client = Client::builder(&sink).build().unwrap();
    let held = tokio::spawn(client.get(server.url("/held")));
    server.holds_one().await;
    let done = client.get(server.url("/")).await.unwrap();
    let done_handle = done.request_handle().unwrap().clone();
    done.into_body().bytes().await.unwrap();
    client.get(server.url("/close")).await.unwrap().into_body().bytes().await.unwrap();
    let refused = Refused::on("127.0.0.1:0");
    client.get(format!("http://{}", refused.addr)).await.unwrap_err();
    // Waits until the client's task has seen that the server closed the connection after `/close`.
    let open = || sink.snapshot("soon").tcp_conns.iter().filter(|conn| conn.end_reason.is_none()).count();
    wait::until("at most one open connection", || open() <= 1).await;

    sink.clear();
    let trace = sink.snapshot("cleared");
    check::running(&trace);
    let [request] = &trace.http_requests[..] else { panic!("{:#?}", trace.http_requests) };
    assert!(request.req_url.ends_with("/held") && request.end_reason.is_none());
    assert!(is_absolute(request.req_sent_at));
    let [conn] = &trace.tcp_conns[..] else { panic!("{:#?}", trace.tcp_conns) };
    assert_eq!((conn.trace_id.as_str(), conn.reused), (request.tcp_conn.as_str(), true));
    assert_eq!(trace.dials.len(), 1);
    // A handle keeps the records that the sink has removed.
    let own = done_handle.trace();
    check::running(&own);
    assert_eq!((own.http_requests.len(), own.tcp_conns.len()), (1, 1));
    assert_eq!(sink.snapshot("still").tcp_conns.len(), 1);

    server.released.add_permits(1);
    held.await.unwrap().unwrap().into_body().bytes().await.unwrap();
    let next = client.get(server.url("/")).await.unwrap();
    let next_handle = next.request_handle().unwrap().clone();
    next.into_body().bytes().await.unwrap();
    let trace = sink.snapshot("later");
    check::running(&trace);
    assert_eq!(trace.http_requests.len(), 2);
    let held = trace.http_requests.iter().find(|request| request.req_url.ends_with("/held")).unwrap();
    assert!(is_absolute(held.req_sent_at) && is_relative(held.end_at));
    let next = trace.http_requests.get(next_handle.id()).unwrap();
    assert_eq!(next.tcp_conn.as_str(), conn.trace_id.as_str(), "the open connection is reused");
    assert!(is_relative(next.req_sent_at));
    client.close().await;
}

/// Records are stored in chunks. A request in flight must not keep the other records of its chunk.
#[tokio::test]
async fn a_request_in_flight_keeps_only_the_records_it_refers_to() {
    let sink = TraceSink::new();
    let mut handles = Vec::new();
    let mut in_flight = None;
    for i in 0..100 {
        let (conn, _there) = mock::connect(&sink).await;
        let handle = RequestHandle::new();
        let response = mock::begin(&sink, conn.conn_ref(), Some(&handle)).await;
        if i == 50 {
            in_flight = Some((response, conn));
        } else {
            mock::finish(response).await;
            handles.push(handle);
        }
    }
    mock::fail_to_connect(&sink).await;
    sink.clear();
    let trace = sink.snapshot("cleared");
    assert_eq!((trace.http_requests.len(), trace.tcp_conns.len(), trace.dials.len()), (1, 1, 1));
    assert!(handles.iter().all(|handle| handle.trace().tcp_conns.len() == 1));
    drop(in_flight);
    check::finished(&sink.snapshot("finished"));
    sink.clear();
    assert!(is_empty(&sink.snapshot("empty")));
}

#[tokio::test]
async fn a_closed_connection_is_kept_while_its_request_is_in_flight() {
    let sink = TraceSink::new();
    let (conn, _there) = mock::connect(&sink).await;
    let response = mock::begin(&sink, conn.conn_ref(), None).await;
    drop(conn);
    sink.clear();
    let trace = sink.snapshot("in flight");
    check::running(&trace);
    assert_eq!((trace.http_requests.len(), trace.tcp_conns.len()), (1, 1));
    mock::finish(response).await;
    sink.clear();
    assert!(is_empty(&sink.snapshot("empty")));
}

#[tokio::test]
async fn a_redirect_hop_is_kept_while_the_next_hop_is_in_flight() {
    let sink = TraceSink::new();
    let handle = RequestHandle::new();
    mock::finish(mock::begin(&sink, None, Some(&handle)).await).await;
    let last = mock::begin(&sink, None, Some(&handle)).await;
    sink.clear();
    let trace = sink.snapshot("in flight");
    check::running(&trace);
    assert_eq!(trace.http_requests.len(), 2);
    mock::finish(last).await;
    sink.clear();
    assert!(is_empty(&sink.snapshot("empty")));
    let trace = handle.trace();
    check::finished(&trace);
    assert_eq!(trace.http_requests[1].prev_hop, trace.http_requests[0].trace_id);
}

#[tokio::test]
async fn clear_resets_the_drop_counters() {
    let sink = TraceSink::builder().retention(nettrace::Retention::bounded().requests(10)).build();
    for _ in 0..200 {
        mock::fetch(&sink, None).await;
    }
    assert!(sink.snapshot("full").dropped.is_some());
    sink.clear();
    assert!(is_empty(&sink.snapshot("empty")));
    for _ in 0..200 {
        mock::fetch(&sink, None).await;
    }
    let trace = sink.snapshot("full again");
    assert_eq!(trace.http_requests.len() as u64 + trace.dropped.unwrap().http_requests, 200);
}
