//! The graph of traces that are made by hand: what belongs to what.

use super::*;
use crate::record::{HttpHeaderField, Timestamp};

fn request(id: &str, url: &str, sent_ms: u64) -> HttpReqTrace {
    HttpReqTrace {
        trace_id: id.into(),
        req_url: url.into(),
        req_sent_at: Timestamp::relative(sent_ms * 1_000_000),
        ..HttpReqTrace::default()
    }
}

fn dial(id: &str, to: &str, begin_ms: u64) -> DialTrace {
    DialTrace {
        trace_id: id.into(),
        dst_address: to.into(),
        dial_begin_at: Timestamp::relative(begin_ms * 1_000_000),
        ..DialTrace::default()
    }
}

fn trace_of(requests: Vec<HttpReqTrace>) -> NetTrace {
    NetTrace { http_requests: requests.into(), ..NetTrace::default() }
}

fn ids<'a>(sources: &[ConnSource<'a>]) -> Vec<&'a str> {
    let id = |source: &ConnSource<'a>| match *source {
        ConnSource::Dial(dial) => dial.trace_id.as_str(),
        ConnSource::Conn(conn) => conn.trace_id.as_str(),
    };
    sources.iter().map(id).collect()
}

#[test]
fn dials_of_requests_that_failed_are_found_by_their_target() {
    let requests = vec![
        request("a", "http://web.test/", 0),
        request("b", "https://web.test/", 5),
        request("c", "http://web.test/x", 10),
    ];
    let dials = vec![
        dial("d1", "web.test:80", 1),
        dial("d2", "web.test:443", 4),
        dial("d3", "web.test:80", 11),
        DialTrace { triggered_by: "gone".into(), ..dial("d4", "web.test:443", 6) },
        DialTrace { triggered_by: "b".into(), ..dial("d5", "elsewhere:1", 6) },
    ];
    let trace = NetTrace { http_requests: requests.into(), dials: dials.into(), ..NetTrace::default() };
    let graph = TraceGraph::new(&trace);
    assert_eq!(ids(graph.own_sources(0)), ["d1"]);
    assert_eq!(ids(graph.own_sources(1)), ["d5"]);
    assert_eq!(ids(graph.own_sources(2)), ["d3"]);
    assert_eq!(ids(&graph.unattributed), ["d2", "d4"]);
}

#[test]
fn a_dial_belongs_to_the_first_request_on_its_connection() {
    let on_conn = |id: &str, sent| HttpReqTrace { tcp_conn: "conn".into(), ..request(id, "http://h/", sent) };
    let mut trace = NetTrace {
        http_requests: vec![on_conn("later", 8), on_conn("first", 1)].into(),
        dials: vec![dial("d", "h:80", 2)].into(),
        ..NetTrace::default()
    };
    trace.tcp_conns =
        vec![TcpConnTrace { trace_id: "conn".into(), from_dial: "d".into(), ..TcpConnTrace::default() }]
            .into();
    let graph = TraceGraph::new(&trace);
    assert_eq!((ids(graph.own_sources(1)), graph.own_sources(0).len()), (vec!["d"], 0));

    trace.dials.iter_mut().for_each(|dial| dial.dial_begin_at = Timestamp::relative(0));
    let graph = TraceGraph::new(&trace);
    assert_eq!(ids(graph.earlier_sources(1)), ["d"], "it began before any request was sent");
    assert_eq!((graph.own_sources(1).len(), graph.unattributed.len()), (0, 0));
}

#[test]
fn redirects_form_chains() {
    let hop = |id: &str, prev: &str| HttpReqTrace { prev_hop: prev.into(), ..request(id, "http://h/", 0) };
    let trace = trace_of(vec![
        hop("a", "self"),
        hop("x", ""),
        hop("b", "a"),
        hop("c", "b"),
        hop("d", "b"),
        hop("e", "e"),
    ]);
    assert_eq!(TraceGraph::new(&trace).chains(), [vec![0, 2, 3], vec![1], vec![4], vec![5]]);
    let trace = trace_of(vec![hop("a", "b"), hop("b", "a")]);
    assert_eq!(TraceGraph::new(&trace).chains(), [vec![0, 1]]);
}

#[test]
fn unlinked_redirects_are_chained_by_their_location() {
    let redirect = |id: &str, url: &str, to: &str| HttpReqTrace {
        resp_status_code: 302,
        resp_header: vec![HttpHeaderField {
            field_name: "Location".into(),
            field_val: to.into(),
            field_val_len: 0,
        }]
        .into(),
        resp_recv_at: Timestamp::relative(0),
        ..request(id, url, 0)
    };
    let trace = trace_of(vec![
        redirect("a", "http://h:81/x", "/y#z"),
        redirect("b", "http://h:81/y", "https://other/"),
        request("c", "http://h:81/y", 1),
        request("d", "https://other/", 1),
    ]);
    assert_eq!(TraceGraph::new(&trace).chains(), [vec![0, 1, 3], vec![2]]);
}

#[test]
fn records_without_references_are_unattributed() {
    let trace = NetTrace {
        tcp_conns: vec![TcpConnTrace::default()].into(),
        dials: vec![DialTrace::default()].into(),
        ..NetTrace::default()
    };
    let graph = TraceGraph::new(&trace);
    assert!(graph.tcp_of(&trace.dials[0]).is_empty());
    assert_eq!(graph.unattributed.len(), 2);
}
