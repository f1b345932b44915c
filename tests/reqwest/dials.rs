//! Name lookups and dials of observed clients.

use hickory_proto::op::ResponseCode;
use nettrace::record::EndReason;
use nettrace::reqwest::{Observer, Resolver};
use nettrace::resolve::TraceResolve;
use nettrace::{Failure, ResponseExt as _};

use crate::clients::{Variant, linked, unrelated_roots};
use test_support::dns::DnsServer;
use test_support::raw::Refused;
use test_support::web::{Web, reply};

#[tokio::test]
async fn dns_queries_are_linked_to_their_dial() {
    let web = Web::start(async |_| reply("hello"));
    let dns = DnsServer::answering(&["127.0.0.1"]).await;
    let variant = Variant::observed(unrelated_roots());
    let client = variant.asking(dns.addr()).build().unwrap();
    let url = format!("http://web.test:{}/", web.addr().port());
    let response = variant.send(client.get(&url)).await.unwrap();
    let handle = response.request_handle().unwrap().clone();
    response.bytes().await.unwrap();

    let trace = variant.finished();
    let (record, conn) = linked(&trace, &handle);
    let dial = trace.dials.get(&conn.expect("a linked connection").from_dial).unwrap();
    assert_eq!(dial.dst_address, format!("web.test:{}", web.addr().port()));
    assert_eq!(dial.triggered_by, record.trace_id);
    assert_eq!(trace.dns_queries.len(), 2, "A and AAAA");
    assert!(trace.dns_queries.iter().all(|query| query.from_dial == dial.trace_id));
    assert_eq!(
        conn.expect("a linked connection").handshake_begin_at,
        dial.resolve_end_at,
        "the handshake begins when the name is resolved"
    );
    let timings = record.timings(&trace);
    assert!(timings.dns.is_some() && timings.connect.is_some() && !timings.connect_includes_dns, "{timings}");
}

#[tokio::test]
async fn a_nonexistent_name_fails_the_dial() {
    let dns = DnsServer::start(|query| query.nothing(ResponseCode::NXDomain)).await;
    let variant = Variant::observed(unrelated_roots());
    let client = variant.asking(dns.addr()).build().unwrap();
    let error = variant.send(client.get("http://web.test/")).await.unwrap_err();
    assert!(error.is_dns() && error.is_connect());
    let trace = variant.finished();
    assert_eq!(trace.http_requests[0].failure, Some(Failure::DnsNxdomainError));
    assert_eq!(trace.dials[0].failure, Some(Failure::DnsNxdomainError));
    assert_eq!(trace.tcp_conns.len(), 0);
}

#[tokio::test]
async fn a_lookup_by_a_hyper_util_resolver_is_recorded() {
    let web = Web::start(async |_| reply("hello"));
    let variant = Variant::observed(unrelated_roots());
    let gai = TraceResolve::new(hyper_util::client::legacy::connect::dns::GaiResolver::new());
    let observer = Observer::new(&variant.sink).resolver(Resolver::new(gai));
    let client = variant.builder_with(observer).build().unwrap();
    let url = format!("http://localhost:{}/", web.addr().port());
    variant.send(client.get(&url)).await.unwrap().bytes().await.unwrap();
    let dial = &variant.finished().dials[0];
    assert!(!dial.resolve_begin_at.is_undefined() && !dial.resolve_end_at.is_undefined());
}

#[tokio::test]
async fn a_refused_dial_fails_the_request() {
    let refused = Refused::on("127.0.0.1:0");
    let variant = Variant::observed(unrelated_roots());
    let client = variant.builder().build().unwrap();
    let error = variant.send(client.get(format!("http://{}/", refused.addr))).await.unwrap_err();
    assert!(error.is_connect());
    let trace = variant.finished();
    let (dial, request) = (&trace.dials[0], &trace.http_requests[0]);
    assert_eq!(
        (&dial.failure, &dial.end_reason),
        (&Some(Failure::ConnectionRefused), &Some(EndReason::Failed))
    );
    assert_eq!((&request.failure, &dial.triggered_by), (&dial.failure, &request.trace_id));
    assert!(request.req_error.contains("Connection refused"), "{}", request.req_error);
    assert_eq!(trace.tcp_conns.len(), 0, "reqwest does not report attempts");
}

#[tokio::test]
async fn dropping_a_request_cancels_its_dial() {
    let dns = DnsServer::silent().await;
    let variant = Variant::observed(unrelated_roots());
    let client = variant.asking(dns.addr()).build().unwrap();
    let mut sent = Box::pin(variant.send(client.get("http://web.test/")));
    tokio::select! {
        _ = &mut sent => panic!("the nameserver does not answer"),
        () = dns.wait_for_queries(2) => drop(sent),
    }
    let trace = variant.finished();
    assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::Cancelled));
    assert_eq!(trace.dials[0].end_reason, Some(EndReason::Cancelled));
}
