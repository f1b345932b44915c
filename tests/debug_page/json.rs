//! The trace and the explanation as JSON.

use std::io::ErrorKind;

use http_body_util::BodyExt as _;
use nettrace::{
    NetTrace, TraceSink,
    debug_page::DebugPage,
    explain::{self, Explanation},
    record::RequestFilter,
};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::fixture::{Page, fail, fetch, get, serve};

async fn sink() -> TraceSink {
    let sink = TraceSink::new();
    serve(&sink, "/order", 503).await;
    for number in 0..40 {
        fetch(&sink, &format!("http://a.test/{number}"), 200).await;
    }
    fail(&sink, "http://b.test/", ErrorKind::ConnectionRefused, "refused").await;
    sink
}

#[track_caller]
fn parsed(page: &Page) -> NetTrace {
    assert_eq!(page.header("content-type"), "application/json");
    serde_json::from_str(&page.text).unwrap()
}

/// Two traces of an idle sink differ in when they were taken alone.
fn at_the_same_time(mut trace: NetTrace, other: &NetTrace) -> NetTrace {
    trace.trace_end_at = other.trace_end_at;
    trace
}

fn in_whole_milliseconds(trace: &NetTrace) -> NetTrace {
    serde_json::from_value(serde_json::to_value(trace).unwrap()).unwrap()
}

#[tokio::test]
async fn the_trace_is_that_of_a_snapshot() {
    let sink = sink().await;
    let page = DebugPage::new(&sink).title("shop");
    let snapshot = sink.snapshot("shop");
    let trace = parsed(&get(&page, "/trace.json").await);
    let trace = at_the_same_time(trace, &in_whole_milliseconds(&snapshot));
    assert_eq!(trace, in_whole_milliseconds(&snapshot));
    let precise = parsed(&get(&page, "/trace.json?precise").await);
    assert_eq!(at_the_same_time(precise, &snapshot), snapshot);
}

#[tokio::test]
async fn a_filtered_trace_is_the_part_that_the_filter_chooses() {
    let sink = sink().await;
    let page = DebugPage::new(&sink);
    let snapshot = sink.snapshot("nettrace");
    for (query, filter) in [
        ("failed", RequestFilter::new().failed(true)),
        ("host=a.test", RequestFilter::new().host("a.test")),
        ("status=503", RequestFilter::new().status(503, 503)),
        ("host=nobody.test", RequestFilter::new().host("nobody.test")),
    ] {
        let part = snapshot.select(&filter);
        let trace = parsed(&get(&page, &format!("/trace.json?precise&{query}")).await);
        assert_eq!(at_the_same_time(trace, &snapshot), part, "{query}");
    }
    let limited = parsed(&get(&page, "/?view=trace.json&limit=3").await);
    let list = get(&page, "/?limit=3").await.rows();
    assert_eq!(limited.http_requests.len(), 3);
    assert!(list.iter().all(|id| limited.http_requests.get(id).is_some()), "those of the list");
}

#[tokio::test]
async fn explanations_are_those_of_the_trace() {
    let sink = sink().await;
    let page = DebugPage::new(&sink);
    let json = get(&page, "/explain.json").await.text;
    let explanation = explain::explain(&sink.snapshot(""));
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), serde_json::to_value(&explanation).unwrap());
    assert!(!explanation.is_empty());
    let schema = serde_json::from_str(explain::JSON_SCHEMA).unwrap();
    assert!(jsonschema::is_valid(&schema, &serde_json::from_str(&json).unwrap()));
    let none: Explanation =
        serde_json::from_str(&get(&page, "/explain.json?host=a.test").await.text).unwrap();
    assert!(none.is_empty());
}

/// A reader that goes away in the middle ends the thread that writes; the page goes on.
#[tokio::test]
async fn a_reader_may_go_away() {
    let sink = TraceSink::new();
    for number in 0..3_000 {
        fetch(&sink, &format!("http://a.test/{number}"), 200).await;
    }
    let page = DebugPage::new(&sink);
    for _ in 0..20 {
        let request = http::Request::get("/trace.json").body(()).unwrap();
        let Ok(response) = page.clone().oneshot(request).await;
        if response.status() == 200 {
            let frame = response.into_body().frame().await.unwrap().unwrap();
            assert!(frame.data_ref().is_some_and(|data| data.starts_with(b"{\"description\":\"nettrace\"")));
        }
    }
    let all = async {
        loop {
            let page = get(&page, "/trace.json").await;
            if page.status == 200 {
                return page;
            }
            assert_eq!((page.status.as_u16(), page.header("retry-after")), (503, "1"));
            tokio::task::yield_now().await;
        }
    };
    let all = tokio::time::timeout(std::time::Duration::from_secs(20), all).await.unwrap();
    assert_eq!(parsed(&all).http_requests.len(), 3_000);
}
