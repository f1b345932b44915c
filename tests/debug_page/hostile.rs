//! Text that a peer or a caller controls does nothing on the page.

use std::{collections::BTreeSet, io::ErrorKind};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use nettrace::{HeaderCapture, RequestHandle, TraceSink, debug_page::DebugPage};

use crate::fixture::{fail, fetch_with, get};

const HOSTILE: &str =
    "</pre></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u{0}\u{1b}[31m\u{202e}";

/// The elements and attributes that the pages have of their own.
const ELEMENTS: &str = "html head meta title style body a header p nav ul li main h1 h2 form label input button span \
    noscript div table caption thead tbody tr th td svg rect script pre code dl dt dd section strong details summary em";
const ATTRIBUTES: &str = "lang charset name content class href aria-label aria-hidden aria-pressed id method action role \
    type value size placeholder autocomplete inputmode hidden scope viewbox preserveaspectratio x y width height tabindex \
    data-post rel checked";

#[tokio::test]
async fn text_of_others_is_escaped_wherever_it_is_shown() {
    let sink = TraceSink::builder().headers(HeaderCapture::Values).build();
    // What a URL can have: the parser of `http` refuses more.
    let url = "http://a.test/\"'{}%3Cscript%3E?'&lt;=%22";
    let mut request = Request::get(url).body(Full::<Bytes>::default()).unwrap();
    let value = HOSTILE.replace(['\u{0}', '\u{1b}', '\u{202e}'], "").parse().unwrap();
    request.headers_mut().insert("x-hostile", value);
    let id = fetch_with(&sink, request, 503, "").await;
    let failed = fail(&sink, "http://b.test/", ErrorKind::Other, HOSTILE).await;
    tag(&sink).await;
    let page = DebugPage::new(&sink).title(HOSTILE);

    let hostile_query: String =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("host", HOSTILE).finish();
    for path in [
        "/".to_owned(),
        "/summary".to_owned(),
        format!("/request/{id}"),
        format!("/request/{failed}"),
        format!("/?{hostile_query}"),
        format!("/summary?{hostile_query}"),
        format!("/request/{}", hostile_query.replace("host=", "").replace('+', "%20")),
        "/nothing".to_owned(),
    ] {
        let html = get(&page, &path).await;
        assert!(html.header("content-type").starts_with("text/html"), "{path}: {}", html.text);
        let known: BTreeSet<_> = ELEMENTS.split_whitespace().collect();
        let attributes: BTreeSet<_> = ATTRIBUTES.split_whitespace().collect();
        let tags = html.tags();
        for tag in &tags {
            let name = String::from_utf8_lossy(&tag.name);
            assert!(known.contains(&*name), "{path}: <{name}>");
            for attribute in tag.attributes.keys().map(|name| String::from_utf8_lossy(name)) {
                assert!(attributes.contains(&*attribute), "{path}: {attribute}");
            }
        }
        assert_eq!(tags.iter().filter(|tag| &**tag.name == b"script").count(), 1, "{path}");
        for link in html.links() {
            assert!(link.starts_with(['?', '.', '#']), "{path}: {link}");
        }
        let controls = html.text.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
        assert_eq!(controls, None, "{path}");
        assert!(html.text.contains("&lt;/pre&gt;&lt;/script&gt;"), "{path}: the title is shown");
    }
    let request = get(&page, &format!("/request/{failed}")).await;
    assert!(request.text.contains("&lt;img src=x onerror=alert(2)&gt;"), "the error is shown");
}

/// Makes a request with a hostile tag.
async fn tag(sink: &TraceSink) {
    let handle = RequestHandle::new();
    let mut request = Request::get("http://c.test/").body(Full::<Bytes>::default()).unwrap();
    request.extensions_mut().insert(handle.clone());
    handle.tag(HOSTILE, HOSTILE);
    fetch_tagged(sink, request, &handle).await;
}

async fn fetch_tagged(sink: &TraceSink, request: Request<Full<Bytes>>, handle: &RequestHandle) {
    fetch_with(sink, request, 200, "").await;
    handle.tag(HOSTILE, HOSTILE);
}
