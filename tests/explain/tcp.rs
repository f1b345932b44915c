//! Connections that fail.

use crate::{client, root, trace_of};
use nettrace::TraceSink;
use test_support::raw::Refused;

#[tokio::test]
async fn a_port_that_nothing_listens_on() {
    let (sink, refused) = (TraceSink::new(), Refused::on("127.0.0.1:0"));
    let client = client(&sink).build().unwrap();
    let trace = trace_of(&sink, &client, &format!("http://{}/", refused.addr)).await;
    let root = root(&trace, "tcp_refused");
    assert_eq!(root.about, refused.addr.to_string());
    assert_eq!(root.evidence[0].record, trace.tcp_conns[0].trace_id);
}

#[tokio::test]
async fn an_error_and_its_request_say_why() {
    let (sink, refused) = (TraceSink::new(), Refused::on("127.0.0.1:0"));
    let client = client(&sink).build().unwrap();
    let error = client.get(format!("http://{}/", refused.addr)).await.unwrap_err();
    let verdict = error.explain().expect("a verdict");
    assert_eq!(verdict.root().unwrap().code, "tcp_refused");
    assert_eq!(error.request().explain(), Some(verdict));
    assert_eq!(nettrace::RequestHandle::new().explain(), None);
}
