//! Requests that fail or are dropped keep their links.

use std::pin::pin;

use nettrace::record::EndReason;
use nettrace::{Client, Failure, RequestHandle, TraceSink};

use crate::clients::{assert_linked, assert_resolves, clients, link, traced};
use test_support::dns::DnsServer;
use test_support::raw::{Refused, Server};
use test_support::wait;
use test_support::web::{ReceivedRequest, Web, reply};

#[tokio::test]
async fn a_request_that_fails_on_a_connection_is_linked_to_it() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        match conn.index % 2 {
            0 => conn.close().await,
            _ => conn.reset(),
        }
    });
    let url = format!("http://{}/", server.addr());
    let mut count = 0;
    for client in clients(false) {
        for failure in [Failure::EofError, Failure::ConnectionReset] {
            let (request, outcome) = client.get(&url).await;
            assert!(outcome.is_err());
            count += 1;
            let port = server.accepted(count).await[count - 1].peer.port();
            let trace = client.sink.snapshot("");
            assert_linked(&trace, &request, port);
            let record = link(&trace, &request).0;
            assert_eq!(record.failure, Some(failure), "{}", client.name);
            assert_eq!((&record.end_reason, record.resp_status_code), (&Some(EndReason::Failed), 0));
        }
    }
}

#[tokio::test]
async fn a_request_whose_response_is_cut_off_is_linked_to_its_connection() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await?;
        conn.close().await
    });
    let url = format!("http://{}/", server.addr());
    for (i, client) in clients(false).into_iter().enumerate() {
        let (request, outcome) = client.get(&url).await;
        assert!(outcome.is_err());
        let port = server.accepted(i + 1).await[i].peer.port();
        let trace = client.sink.snapshot("");
        assert_linked(&trace, &request, port);
        let record = link(&trace, &request).0;
        assert_eq!((record.failure.clone(), record.resp_content_len), (Some(Failure::EofError), 4));
    }
}

#[tokio::test]
async fn a_refused_request_is_linked_to_its_dial() {
    let refused = Refused::on("127.0.0.1:0");
    for client in clients(false) {
        let (request, outcome) = client.get(&format!("http://{}/", refused.addr)).await;
        assert!(outcome.is_err());
        let trace = request.trace();
        assert_resolves(&trace);
        assert!(link(&trace, &request).1.is_none(), "no connection was established");
        assert_eq!(trace.dials[0].triggered_by, request.id(), "{}", client.name);
        assert_eq!(trace.dials[0].failure, Some(Failure::ConnectionRefused));
        assert_eq!(trace.http_requests[0].failure, Some(Failure::ConnectionRefused));
    }
}

#[tokio::test]
async fn a_request_dropped_while_waiting_is_linked_to_its_connection() {
    for h2 in [false, true] {
        let web = Web::start(async |request: ReceivedRequest| match request.path() {
            "/never" => std::future::pending().await,
            _ => reply("hello"),
        });
        for client in clients(h2) {
            let (before, url) = (web.requests().len(), web.url("/never"));
            let handle = RequestHandle::new();
            {
                let mut request = http::Request::get(&url).body(Default::default()).unwrap();
                request.extensions_mut().insert(handle.clone());
                let mut waiting = pin!(tower::ServiceExt::oneshot(client.client.clone(), request));
                let is_received = || web.requests().len() > before;
                wait::polling_until("the request", waiting.as_mut(), is_received).await;
            }
            let port = web.requests()[before].peer.port();
            let trace = client.sink.snapshot("");
            let record = link(&trace, &handle).0;
            assert_eq!(record.end_reason, Some(EndReason::Cancelled), "{}", client.name);
            assert_eq!(record.failure, Some(Failure::Interrupted), "{}", client.name);
            assert_linked(&trace, &handle, port);
            assert_eq!(record.conn_acquired_at.is_undefined(), !client.captures(), "{}", client.name);
        }
    }
}

#[tokio::test]
async fn a_request_dropped_while_reading_is_linked_to_its_connection() {
    let web = Web::start(async |_| reply(vec![b'x'; 1 << 20]));
    for client in clients(false) {
        let handle = RequestHandle::new();
        let mut request = http::Request::get(web.url("/")).body(Default::default()).unwrap();
        request.extensions_mut().insert(handle.clone());
        let response = tower::ServiceExt::oneshot(client.client.clone(), request).await.unwrap();
        let port = response.headers()["x-peer"].to_str().unwrap().parse().unwrap();
        drop(response);
        let trace = client.sink.snapshot("");
        assert_linked(&trace, &handle, port);
        assert_eq!(link(&trace, &handle).0.end_reason, Some(EndReason::Cancelled), "{}", client.name);
    }
}

#[tokio::test]
async fn a_request_dropped_while_dialling_is_linked_to_its_dial() {
    let nameserver = DnsServer::silent().await;
    let sink = TraceSink::new();
    let client = Client::builder(&sink).nameservers([nameserver.addr()]).build().unwrap();
    let client = traced("preset", &sink, client);
    {
        let mut waiting = pin!(client.get("http://web.test/"));
        wait::polling_until("a query", waiting.as_mut(), || !nameserver.queries().is_empty()).await;
    }
    let trace = sink.snapshot("");
    assert_resolves(&trace);
    let (request, dial) = (&trace.http_requests[0], &trace.dials[0]);
    assert_eq!(dial.triggered_by, request.trace_id);
    assert_eq!(
        (&request.end_reason, &dial.end_reason),
        (&Some(EndReason::Cancelled), &Some(EndReason::Cancelled))
    );
    assert!(!dial.ctx_close_at.is_undefined() && request.tcp_conn.is_undefined());
    assert!(trace.udp_conns.iter().all(|conn| conn.end_reason.is_some() && conn.from_dial == dial.trace_id));
    assert!(!trace.udp_conns.is_empty());
}
