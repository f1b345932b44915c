//! The dials of a channel, and the calls that triggered them.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use nettrace::connect::{TcpConnector, TraceConnectLayer};
use nettrace::proxy::{Proxy, ProxyLayer};
use nettrace::record::EndReason;
use nettrace::tonic::{connect, connect_lazy, connect_with_connector_lazy};
use nettrace::{Failure, TraceSink, view};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tonic::Code;
use tonic::transport::Endpoint;
use tower::Layer as _;

use crate::greeter::{GreeterClient, Name};
use crate::servers::{ReservedPort, assert_linked, call, closed, greet, link};
use test_support::check;
use test_support::proxies::tinyproxy;
use test_support::raw::{Refused, Server};
use test_support::require::require_tool;
use test_support::wait;

#[tokio::test]
async fn a_lazy_channel_dials_on_its_first_call_and_after_a_restart() {
    let place = ReservedPort::new();
    let server = place.serve();
    let sink = TraceSink::new();
    let client = GreeterClient::new(connect_lazy(&sink, place.endpoint()));
    let (first, port) = greet(&client, "first").await;
    let (second, _) = greet(&client, "second").await;
    drop(server);
    let _server = place.serve();
    let (mut third, mut again) = greet(&client, "third").await;
    while again.is_err() {
        (third, again) = greet(&client, "third").await;
    }
    let trace = sink.snapshot("");
    for (call, port, is_first) in [(&first, port, true), (&second, port, false), (&third, again, true)]
        .map(|(c, p, f)| (c, p.unwrap(), f))
    {
        let record = assert_linked(&trace, call, port);
        let conn = trace.tcp_conns.get(&record.tcp_conn).unwrap();
        let dial = trace.dials.get(&conn.from_dial).unwrap();
        assert_eq!(dial.triggered_by == record.trace_id, is_first);
        let timings = call.timings().unwrap();
        assert_eq!(timings.connect.is_some(), is_first, "{timings}");
        assert_eq!(call.trace().dials.len(), 1);
    }
    drop(client);
    check::finished(&closed(&sink).await);
}

#[tokio::test]
async fn the_dial_of_a_connected_channel_is_triggered_by_no_call() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let sink = TraceSink::new();
    let client = GreeterClient::new(connect(&sink, place.endpoint()).await.unwrap());
    let (call, port) = greet(&client, "first").await;
    let trace = sink.snapshot("");
    assert_linked(&trace, &call, port.unwrap());
    assert!(trace.dials[0].triggered_by.is_undefined());
    assert_eq!(call.timings().unwrap().connect, None);
}

#[tokio::test]
async fn a_dial_without_a_call_is_drawn_with_the_first_call() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let sink = TraceSink::new();
    let endpoint = Endpoint::from_shared(format!("http://localhost:{}", place.addr().port())).unwrap();
    let client = GreeterClient::new(connect(&sink, endpoint).await.unwrap());
    greet(&client, "first").await.1.unwrap();
    greet(&client, "second").await.1.unwrap();
    let trace = sink.snapshot("");
    let drawing = view::waterfall(&trace).width(140).to_string();
    let blocks: Vec<_> = drawing.split("\n\n").skip(1).collect();
    assert_eq!(blocks.len(), 2, "{drawing}");
    let row = format!("  127.0.0.1:{}", place.addr().port());
    for (block, is_first) in [(blocks[0], true), (blocks[1], false)] {
        assert_eq!(block.contains("\n  dialled "), is_first, "{drawing}");
        assert_eq!(
            block.contains("\n  dns ") && block.contains("\n  tcp ") && block.contains(&row),
            is_first,
            "{drawing}"
        );
    }
    let dialled =
        format!(" before this request to localhost:{} · {} · ", place.addr().port(), trace.dials[0].trace_id);
    assert!(blocks[0].contains(&dialled), "{drawing}");
    assert_eq!(drawing.matches(&row).count(), 1);
}

#[tokio::test]
async fn each_call_to_a_refusing_address_has_its_own_dial() {
    let refused = Refused::on("127.0.0.1:0");
    let endpoint = Endpoint::from_shared(format!("http://{}", refused.addr)).unwrap();
    let sink = TraceSink::new();
    let error = connect(&sink, endpoint.clone()).await.expect_err("no connection");
    assert!(std::error::Error::source(&error).is_some());
    let trace = sink.snapshot("");
    assert_eq!((trace.dials.len(), &trace.dials[0].failure), (1, &Some(Failure::ConnectionRefused)));

    sink.clear();
    let client = GreeterClient::new(connect_lazy(&sink, endpoint));
    for tries in 1..=2 {
        let (call, outcome) = greet(&client, "anybody").await;
        assert_eq!(outcome, Err(Code::Unavailable));
        let trace = call.trace();
        let [record] = &trace.http_requests[..] else { panic!("expected one request") };
        assert_eq!(
            (&record.failure, &record.end_reason),
            (&Some(Failure::ConnectionRefused), &Some(EndReason::Failed))
        );
        assert!(record.req_error.contains("onnection refused"), "{}", record.req_error);
        // Each call dials anew, and each dial makes one attempt.
        let [dial] = &trace.dials[..] else { panic!("expected one dial: {:?}", trace.dials) };
        assert_eq!(dial.triggered_by, record.trace_id);
        assert_eq!((trace.tcp_conns.len(), &trace.tcp_conns[0].from_dial), (1, &dial.trace_id));
        assert_eq!(sink.snapshot("").dials.len(), tries);
    }
    check::finished(&closed(&sink).await);
}

/// The server does not speak HTTP/2. The failed call stays linked to the connection that was dialled for it.
#[tokio::test]
async fn a_call_to_a_server_without_http2_is_linked_to_its_connection() {
    let server = Server::start(async |mut conn| {
        conn.read(24).await?; // the preface
        conn.write(b"SSH-2.0-OpenSSH_10.0\r\n\r\n").await?;
        conn.read_to_end().await
    });
    let sink = TraceSink::new();
    let endpoint = Endpoint::from_shared(format!("http://{}", server.addr())).unwrap();
    let client = GreeterClient::new(connect_lazy(&sink, endpoint));
    let (call, outcome) = greet(&client, "anybody").await;
    outcome.expect_err("no HTTP/2 response");
    drop(client);
    let trace = closed(&sink).await;
    let port = server.ended(1).await[0].peer.port();
    let (record, conn) = link(&trace, &call);
    assert_eq!(conn.expect("a connection").addr_tuple.src_port, port);
    assert_eq!(trace.dials[0].triggered_by, record.trace_id);
    assert!(record.failure.is_some() && !record.req_error.is_empty());
    check::finished(&trace);
}

/// The `CONNECT` request to the proxy is triggered by the call that waits for the tunnel, as the dial is.
#[tokio::test]
async fn a_connect_request_is_triggered_by_the_first_call() {
    require_tool!("tinyproxy");
    let (place, proxy) = (ReservedPort::new(), tinyproxy(""));
    let _server = place.serve();
    let sink = TraceSink::new();
    let layer = ProxyLayer::new(&sink, proxy.url("http").parse::<Proxy>().unwrap()).tunnel_http(true);
    let connector = layer.layer(TcpConnector::new(&sink));
    let client = GreeterClient::new(connect_with_connector_lazy(&sink, place.endpoint(), connector));
    for is_first in [true, false] {
        let (call, outcome) = greet(&client, "Ada").await;
        outcome.expect("a greeting");
        let trace = sink.snapshot("");
        check::running(&trace);
        let (record, conn) = link(&trace, &call);
        assert_eq!(conn.expect("a connection").addr_tuple.dst_port, proxy.addr.port());
        assert_eq!(record.network_proxy, proxy.url("http"));
        let connect = trace.http_requests.iter().find(|request| request.req_method == "CONNECT").unwrap();
        assert_eq!(connect.triggered_by == record.trace_id, is_first);
        assert_eq!(connect.tcp_conn, record.tcp_conn);
        assert_eq!(record.timings(&trace).proxy.is_some(), is_first);
        let drawn = nettrace::view::waterfall(&trace).to_string();
        assert!(drawn.contains("  proxy "), "{drawn}");
    }
    drop(client);
    check::finished(&closed(&sink).await);
}

/// The dial takes longer than the connect timeout of the endpoint.
#[tokio::test(start_paused = true)]
async fn a_dial_that_exceeds_the_connect_timeout_is_recorded_as_a_timeout() {
    let sink = TraceSink::new();
    let never = tower::service_fn(async |_: Uri| pending::<io::Result<TokioIo<TcpStream>>>().await);
    let endpoint = Endpoint::from_static("http://example.test:1").connect_timeout(Duration::from_secs(3));
    let connector = TraceConnectLayer::new(&sink).layer(never);
    let client = GreeterClient::new(connect_with_connector_lazy(&sink, endpoint, connector));
    let (call, outcome) = greet(&client, "anybody").await;
    outcome.expect_err("no connection");
    let trace = call.trace();
    let (record, _) = link(&trace, &call);
    assert_eq!(
        (&record.failure, &record.end_reason),
        (&Some(Failure::GenericTimeoutError), &Some(EndReason::Timeout))
    );
    let [dial] = &trace.dials[..] else { panic!("expected one dial") };
    assert_eq!(
        (&dial.triggered_by, &dial.end_reason, &dial.failure),
        (&record.trace_id, &Some(EndReason::Timeout), &Some(Failure::GenericTimeoutError))
    );
    check::finished(&closed(&sink).await);
}

/// The channel continues a dial whose call is dropped. The dial is not attributed to the next call.
#[tokio::test]
async fn the_dial_of_a_dropped_call_is_not_attributed_to_the_next_call() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let sink = TraceSink::new();
    let (go, addr) = (Arc::new(Semaphore::new(0)), place.addr());
    let waiting = go.clone();
    let slow = tower::service_fn(move |_: Uri| {
        let waiting = waiting.clone();
        async move {
            waiting.acquire().await.expect("never closed").forget();
            TcpStream::connect(addr).await.map(TokioIo::new)
        }
    });
    let connector = TraceConnectLayer::new(&sink).layer(slow);
    let client = GreeterClient::new(connect_with_connector_lazy(&sink, place.endpoint(), connector));
    let (dropped, request) = call(Name::of("dropped"));
    let mut caller = client.clone();
    let task = tokio::spawn(async move { caller.greet(request).await });
    wait::until("a dial", || !sink.snapshot("").dials.is_empty()).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    go.add_permits(1);
    let (later, port) = greet(&client, "later").await;
    let trace = sink.snapshot("");
    assert_linked(&trace, &later, port.unwrap());
    assert!(trace.dials[0].triggered_by.is_undefined());
    let (record, conn) = link(&trace, &dropped);
    assert_eq!((&record.end_reason, conn.is_none()), (&Some(EndReason::Cancelled), true));
    assert_eq!(record.failure, Some(Failure::Interrupted));
    drop(client);
    check::finished(&closed(&sink).await);
}
