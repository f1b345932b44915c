//! The list of requests, its filters, and the page of a request.

use std::{io::ErrorKind, time::Duration};

use http::StatusCode;
use nettrace::{TraceSink, debug_page::DebugPage, record::RequestFilter};

use crate::fixture::{fail, fetch, get, get_text, serve};

#[tokio::test]
async fn failed_requests_come_first_and_then_the_newest() {
    let sink = TraceSink::new();
    let page = DebugPage::new(&sink).title("shop & co");
    assert!(get(&page, "/").await.text.contains("none was made yet"));
    let first = fetch(&sink, "http://a.test/", 200).await;
    let failed = fail(&sink, "http://b.test:81/x", ErrorKind::ConnectionRefused, "no listener").await;
    let broken = fetch(&sink, "http://a.test/broken", 503).await;
    let last = fetch(&sink, "http://a.test/last", 404).await;

    let list = get(&page, "/").await;
    assert_eq!(list.status, StatusCode::OK);
    assert_eq!(list.rows(), [&broken, &failed, &last, &first].map(|id| id.to_string()));
    assert!(list.text.contains("<title>Requests · shop &amp; co</title>"));
    assert!(list.text.contains("4 requests, failed ones first"));
    for text in ["404 Not Found", "503 Service Unavailable", "connection_refused", "GET http://b.test:81/x"] {
        assert!(list.text.contains(text), "{text}");
    }
}

#[tokio::test]
async fn requests_made_for_a_served_one_are_below_it() {
    let sink = TraceSink::new();
    let (served, made) = serve(&sink, "/order", 200).await;
    let (failing, broken) = serve(&sink, "/order", 500).await;
    fetch(&sink, "http://a.test/", 200).await;
    let page = DebugPage::new(&sink);

    let list = get(&page, "/").await;
    let rows = list.rows();
    assert_eq!(rows[..2], [failing.to_string(), broken.to_string()], "one of the group has failed");
    assert_eq!(rows[3..], [served.to_string(), made.to_string()]);
    assert_eq!(list.text.matches("made for the one above").count(), 2);

    let of_served = get(&page, &format!("/request/{served}")).await;
    assert!(of_served.links().contains(&format!("../?request={made}")), "{:?}", of_served.links());
    let of_made = get(&page, &format!("/request/{made}")).await;
    assert!(of_made.links().contains(&format!("../?request={served}")));
}

#[tokio::test]
async fn filters_are_those_of_the_command() {
    let sink = TraceSink::new();
    let ok = fetch(&sink, "http://a.test/", 200).await;
    let missing = fetch(&sink, "http://a.test:81/", 404).await;
    let broken = fetch(&sink, "http://b.test/", 503).await;
    let refused = fail(&sink, "http://b.test/", ErrorKind::ConnectionRefused, "refused").await;
    let page = DebugPage::new(&sink);
    let trace = sink.snapshot("");
    for (query, filter, expected) in [
        ("failed", RequestFilter::new().failed(true), &[&refused, &broken][..]),
        ("host=a.test", RequestFilter::new().host("a.test"), &[&missing, &ok]),
        ("host=a.test:81", RequestFilter::new().host("a.test:81"), &[&missing]),
        ("status=5xx", RequestFilter::new().status(500, 599), &[&broken]),
        ("status=404", RequestFilter::new().status(404, 404), &[&missing]),
        ("since=1h", RequestFilter::new(), &[]),
        (
            "since=3600",
            RequestFilter::new().sent_within(Duration::from_secs(3600)),
            &[&refused, &broken, &missing, &ok],
        ),
        ("slow=3600", RequestFilter::new().slower_than(Duration::from_secs(3600)), &[]),
        ("code=connection_refused", RequestFilter::new().failure("connection_refused"), &[&refused]),
        (
            "host=b.test&failed=1&status=",
            RequestFilter::new().host("b.test").failed(true),
            &[&refused, &broken],
        ),
    ] {
        let list = get(&page, &format!("/?{query}")).await;
        if query == "since=1h" {
            assert_eq!(list.status, StatusCode::BAD_REQUEST);
            continue;
        }
        assert_eq!(list.rows(), expected.iter().map(|id| id.to_string()).collect::<Vec<_>>(), "{query}");
        assert_eq!(trace.requests(&filter).len(), expected.len(), "{query}");
    }
    // A cause names the requests that it explains, as with the command.
    let status = get(&page, "/?code=http_unavailable").await;
    assert_eq!(status.status, StatusCode::OK);
    let two = get(&page, &format!("/?request={ok}&request={refused}")).await;
    assert_eq!(two.rows(), [&refused, &ok].map(|id| id.to_string()));
}

#[tokio::test]
async fn long_lists_are_divided() {
    let sink = TraceSink::new();
    let mut ids = Vec::new();
    for _ in 0..250 {
        ids.push(fetch(&sink, "http://a.test/", 200).await.to_string());
    }
    ids.reverse();
    let page = DebugPage::new(&sink);
    let first = get(&page, "/?host=a.test").await;
    assert_eq!(first.rows(), ids[..100]);
    assert!(first.text.contains("1 to 100 of 250 requests"), "{}", first.text);
    let next = first.links().into_iter().find(|link| link.contains("skip=100")).unwrap();
    assert_eq!(next, "?host=a.test&skip=100");
    assert_eq!(get(&page, "/?skip=200").await.rows(), ids[200..]);
    assert_eq!(get(&page, "/?limit=3&skip=1").await.rows(), ids[1..4]);
    assert_eq!(get(&page, "/?skip=1000").await.status, StatusCode::OK);
    assert_eq!(get(&page, &format!("/?limit={}", usize::MAX)).await.rows(), ids);
    assert_eq!(get(&page, &format!("/?skip={}", usize::MAX)).await.rows().len(), 0);
}

#[tokio::test]
async fn a_request_has_its_waterfall_verdict_and_records() {
    let sink = TraceSink::new();
    let id = fetch(&sink, "http://a.test/busy", 429).await;
    let page = DebugPage::new(&sink);
    for path in [format!("/request/{id}"), format!("/?request={id}")] {
        let html = get(&page, &path).await;
        assert_eq!(html.status, StatusCode::OK, "{path}");
        assert!(html.text.contains("http_throttled") && html.text.contains("429 Too Many Requests"));
        assert!(
            html.text.contains("<pre tabindex=\"0\">GET http://a.test/busy · 429 Too Many Requests"),
            "{path}"
        );
        assert!(html.text.contains("&quot;reqURL&quot;: &quot;http://a.test/busy&quot;"));
    }
    let text = get_text(&page, &format!("/request/{id}")).await;
    assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
    assert!(text.text.starts_with("GET http://a.test/busy · 429"), "{}", text.text);
    assert!(text.text.contains("http_throttled"), "{}", text.text);
}

#[tokio::test]
async fn the_summary_is_html_or_text() {
    let sink = TraceSink::new();
    let id = fetch(&sink, "http://a.test/busy", 429).await;
    fetch(&sink, "http://b.test/", 200).await;
    let page = DebugPage::new(&sink);
    let text = get_text(&page, "/summary").await.text;
    assert!(text.starts_with("2 requests to 2 hosts\n"), "{text}");
    assert!(text.contains("http_throttled"), "{text}");
    let html = get(&page, "/summary").await;
    assert!(html.text.contains("2 requests to 2 hosts"));
    assert!(html.links().contains(&format!("./?request={id}")), "{:?}", html.links());
    assert!(get_text(&page, "/summary?host=b.test").await.text.starts_with("1 request to 1 host\n"));
}

/// Without a script, the page is loaded again only if that is asked for.
#[tokio::test]
async fn a_page_is_loaded_again_on_demand() {
    let page = DebugPage::new(&TraceSink::new());
    let list = get(&page, "/?host=a.test").await;
    assert!(!list.text.contains("http-equiv=\"refresh\""));
    assert!(list.links().contains(&"?host=a.test&refresh=5".to_owned()), "{:?}", list.links());
    let list = get(&page, "/?host=a.test&refresh=5").await;
    assert!(list.text.contains("<meta http-equiv=\"refresh\" content=\"5\">"));
    assert!(list.links().contains(&"?host=a.test".to_owned()));
}
