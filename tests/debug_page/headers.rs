//! Methods, statuses, and the header fields that keep a browser from doing anything else.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Method, StatusCode};
use nettrace::{TraceSink, debug_page::DebugPage};
use sha2::{Digest as _, Sha256};

use crate::fixture::{Page, ask, fetch, get, get_text};

const PATHS: [&str; 8] = [
    "/",
    "/summary",
    "/trace.json",
    "/explain.json",
    "/metrics",
    "/request/nothing",
    "/nothing",
    "/?limit=many",
];

fn page() -> DebugPage {
    DebugPage::new(&TraceSink::new())
}

#[tokio::test]
async fn every_response_has_the_security_fields() {
    let page = page();
    for path in PATHS {
        for response in [get(&page, path).await, ask(&page, Method::DELETE, path, &[]).await] {
            assert_eq!(response.header("x-content-type-options"), "nosniff", "{path}");
            assert_eq!(response.header("cache-control"), "no-store");
            assert_eq!(response.header("referrer-policy"), "no-referrer");
            assert_eq!(response.header("x-frame-options"), "DENY");
            assert_eq!(response.header("cross-origin-resource-policy"), "same-origin");
            let policy = response.header("content-security-policy");
            assert!(policy.starts_with("default-src 'none'; "), "{policy}");
            assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
            assert!(!response.header("content-type").is_empty());
        }
    }
}

/// Returns the text of the only element of this name.
#[track_caller]
fn element<'a>(html: &'a str, name: &str) -> &'a str {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    assert_eq!((html.matches(&begin).count(), html.matches(&end).count()), (1, 1), "{name}");
    html.split_once(&begin).unwrap().1.split_once(&end).unwrap().0
}

#[tokio::test]
async fn the_policy_has_the_hashes_of_what_is_served() {
    let sink = TraceSink::new();
    let id = fetch(&sink, "http://shop.test/", 200).await;
    let page = DebugPage::new(&sink);
    for path in ["/", "/summary", &format!("/request/{id}"), "/nothing"] {
        let response = get(&page, path).await;
        for (directive, name) in [("style-src", "style"), ("script-src", "script")] {
            let hash = STANDARD.encode(Sha256::digest(element(&response.text, name)));
            let policy = response.header("content-security-policy");
            assert!(policy.contains(&format!("{directive} 'sha256-{hash}';")), "{path}: {policy}");
        }
    }
}

#[tokio::test]
async fn statuses_say_what_is_wrong() {
    let page = page();
    let not_found = get_text(&page, "/nothing").await;
    assert_eq!(not_found.status, StatusCode::NOT_FOUND);
    assert!(not_found.text.contains("/summary") && not_found.text.contains("/trace.json"));
    let not_found = get(&page, "/nothing").await;
    assert!(not_found.links().contains(&"./?view=summary".to_owned()), "{:?}", not_found.links());

    let wrong = get(&page, "/?slow=fast").await;
    assert_eq!(
        (wrong.status, wrong.text.as_str()),
        (StatusCode::BAD_REQUEST, "slow=fast: not a number of seconds\n")
    );
    let gone = get(&page, "/request/tid-0").await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    assert!(gone.text.contains("not any more"));

    for method in [Method::POST, Method::PUT, Method::OPTIONS] {
        let refused = ask(&page, method, "/summary", &[]).await;
        assert_eq!((refused.status, refused.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"));
    }
    let refused = get(&page, "/recording?on=false").await;
    assert_eq!((refused.status, refused.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
}

#[tokio::test]
async fn head_has_the_fields_of_get() {
    let page = page();
    for path in PATHS {
        let head = ask(&page, Method::HEAD, path, &[("accept", "text/html")]).await;
        let Page { status, headers, text } = get(&page, path).await;
        assert_eq!(
            (head.status, head.header("content-type")),
            (status, headers["content-type"].to_str().unwrap())
        );
        if status == StatusCode::OK {
            assert_eq!(head.text, "", "{path}");
        }
        if !head.header("content-length").is_empty() && path != "/" {
            assert_eq!(head.header("content-length"), text.len().to_string(), "{path}");
        }
    }
}

/// A website whose name is made to resolve to the address of the page names itself as the host.
#[tokio::test]
async fn only_the_given_hosts_are_answered() {
    let refused = get(&page().hosts(["localhost", "127.0.0.1"]), "/trace.json").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(get(&page().hosts(["shop.test"]), "/trace.json").await.status, StatusCode::OK);
}
