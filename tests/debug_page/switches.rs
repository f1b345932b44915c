//! What can be switched, and by whom.

use http::{Method, StatusCode};
use nettrace::{TraceSink, debug_page::DebugPage};

use crate::fixture::{ask, fetch, get};

const OWN: (&str, &str) = ("x-nettrace", "1");

#[tokio::test]
async fn recording_is_switched_off_and_on() {
    let sink = TraceSink::new();
    let page = DebugPage::new(&sink);
    assert!(get(&page, "/").await.text.contains("?view=recording&amp;on=false"));
    let off = ask(&page, Method::POST, "/recording?on=false", &[OWN]).await;
    assert_eq!((off.status, off.text.as_str()), (StatusCode::OK, "recording is off\n"));
    assert!(!sink.is_enabled());
    fetch(&sink, "http://a.test/", 200).await;
    assert!(get(&page, "/").await.text.contains("?view=recording&amp;on=true"));
    let on = ask(&page, Method::POST, "/?view=recording&on=true", &[OWN]).await;
    assert_eq!(on.text, "recording is on\n");
    fetch(&sink, "http://a.test/", 200).await;
    assert_eq!(get(&page, "/").await.rows().len(), 1);
}

#[tokio::test]
async fn a_page_of_another_origin_switches_nothing() {
    let sink = TraceSink::new();
    let page = DebugPage::new(&sink);
    for fields in [
        &[][..],
        &[("content-type", "application/x-www-form-urlencoded"), ("origin", "https://evil.test")],
        &[OWN, ("sec-fetch-site", "cross-site")],
        &[OWN, ("origin", "https://evil.test")],
        &[OWN, ("origin", "null")],
    ] {
        let refused = ask(&page, Method::POST, "/recording?on=false", fields).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{fields:?}");
        assert!(sink.is_enabled());
    }
    let refused = ask(&page, Method::POST, "/recording?on=false", &[]).await;
    assert!(refused.text.contains("X-Nettrace: 1"), "{}", refused.text);
    for fields in [
        &[OWN, ("sec-fetch-site", "same-origin"), ("origin", "http://shop.test")][..],
        &[OWN, ("origin", "http://shop.test")],
    ] {
        let accepted = ask(&page, Method::POST, "/recording?on=false", fields).await;
        assert_eq!(accepted.status, StatusCode::OK, "{fields:?}");
        sink.set_enabled(true);
    }
}

#[tokio::test]
async fn a_read_only_page_switches_nothing() {
    let sink = TraceSink::new();
    let page = DebugPage::new(&sink).read_only(true);
    let refused = ask(&page, Method::POST, "/recording?on=false", &[OWN]).await;
    assert_eq!((refused.status, sink.is_enabled()), (StatusCode::FORBIDDEN, true));
    let list = get(&page, "/").await;
    assert!(list.text.contains("recording is") && !list.text.contains("view=recording"));
}

#[tokio::test]
async fn what_cannot_be_switched_says_so() {
    let closed = TraceSink::new();
    closed.close();
    for sink in [closed, TraceSink::disabled()] {
        let page = DebugPage::new(&sink);
        let refused = ask(&page, Method::POST, "/recording?on=true", &[OWN]).await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert!(get(&page, "/").await.text.contains("off for good"));
    }
    let page = DebugPage::new(&TraceSink::new());
    let refused = ask(&page, Method::POST, "/capture?on=true", &[OWN]).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.text.contains("CaptureProbe"), "{}", refused.text);
    let unsaid = ask(&page, Method::POST, "/recording", &[OWN]).await;
    assert_eq!(unsaid.status, StatusCode::BAD_REQUEST);
}

#[cfg(all(unix, feature = "capture"))]
#[test]
fn capture_is_switched_off_and_on() {
    use nettrace::capture::CaptureProbe;

    test_support::require::require_lab!();
    let capture = CaptureProbe::builder(["lo"]).start();
    let sink = TraceSink::builder().probe(capture.clone()).build();
    let page = DebugPage::new(&sink);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        assert!(get(&page, "/").await.text.contains("?view=capture&amp;on=false"));
        let off = ask(&page, Method::POST, "/capture?on=false", &[OWN]).await;
        assert_eq!((off.text.as_str(), capture.is_enabled()), ("capture is off\n", false));
        ask(&page, Method::POST, "/capture?on=true", &[OWN]).await;
        assert!(capture.is_enabled());
        capture.stop();
        let refused = ask(&page, Method::POST, "/capture?on=true", &[OWN]).await;
        assert_eq!((refused.status, capture.is_enabled()), (StatusCode::CONFLICT, false));
    });
}
