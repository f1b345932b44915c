//! The URLs that a client accepts, and how they are recorded.

use std::sync::{Arc, Mutex};

use nettrace::client::Body;
use nettrace::{Client, Failure, FinishedRecord, HeaderCapture, Subscriber, TraceSink};

use crate::{client, read, request};
use test_support::web::{ReceivedRequest, Web, redirect, reply};

/// A subscriber that collects the `Debug` output of every finished record.
#[derive(Clone, Default)]
struct FinishedRecords(Arc<Mutex<String>>);

impl Subscriber for FinishedRecords {
    fn finished(&self, record: &FinishedRecord) {
        self.0.lock().unwrap().push_str(&format!("{record:?}"));
    }
}

/// Starts a server that returns the credentials, host, target and referer of a request. Two paths redirect to `/there`.
fn web() -> Web {
    Web::start(async |request: ReceivedRequest| match request.path() {
        "/moved" => redirect(302, "/there"),
        "/elsewhere" => redirect(302, &format!("http://ann:pw2%21@{}/there", request.header("host"))),
        _ => reply(format!(
            "{}|{}|{}|{}",
            request.header("authorization"),
            request.header("host"),
            request.uri,
            request.header("referer")
        )),
    })
}

#[tokio::test]
async fn user_info_becomes_an_authorization_header_and_is_not_recorded() {
    let (web, finished_records) = (web(), FinishedRecords::default());
    let sink =
        TraceSink::builder().headers(HeaderCapture::Values).subscriber(finished_records.clone()).build();
    let client = Client::builder(&sink).build().unwrap();
    let host = web.addr();
    let with = |user: &str, path: &str| format!("http://{user}@{host}{path}");
    // In Base64: `joe:p@ss`, `joe:` and `ann:pw2!`.
    for (url, credentials, referer) in [
        (with("joe:p%40ss", "/"), "Basic am9lOnBAc3M=", String::new()),
        (with("joe", "/"), "Basic am9lOg==", String::new()),
        (with("joe:p%40ss", "/moved"), "Basic am9lOnBAc3M=", web.url("/moved")),
        (web.url("/elsewhere"), "Basic YW5uOnB3MiE=", web.url("/elsewhere")),
    ] {
        let response = client.get(&url).await;
        let path = if referer.is_empty() { "/" } else { "/there" };
        assert_eq!(read(response).await.1, format!("{credentials}|{host}|{path}|{referer}"), "{url}");
    }
    let explicit = request("GET", &with("joe:p%40ss", "/"), &[("authorization", "Bearer x")], Body::empty());
    assert!(read(client.request(explicit).await).await.1.starts_with("Bearer x|"));
    // The error of a request that fails does not contain the password either.
    let error = client.get("http://joe:p%40ss@127.0.0.1:1/").await.unwrap_err();
    let trace = sink.snapshot("");
    let all = [
        serde_json::to_string(&trace).unwrap(),
        finished_records.0.lock().unwrap().clone(),
        format!("{sink:?} {client:?} {error:?} {error} {trace:?}"),
    ];
    for text in &all {
        for secret in ["p%40ss", "p@ss", "pw2", "am9lOnBAc3M", "YW5uOnB3MiE", "Bearer x"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[tokio::test]
async fn an_invalid_url_is_an_error_without_a_record() {
    let (client, sink) = client(|builder| builder);
    for url in ["", "web.test", "/path", "ftp://web.test/", "http://", "http://[::1/", "http://joe:secret@[/"]
    {
        let error = client.get(url).await.unwrap_err();
        assert_eq!(error.failure(), Failure::InvalidArgument, "{url}");
        assert!(
            !error.to_string().contains("secret") && !format!("{error:?}").contains("secret"),
            "{error:?}"
        );
        assert!(error.request().trace().http_requests.is_empty());
    }
    assert!(sink.snapshot("").http_requests.is_empty());
}

#[tokio::test]
async fn urls_are_encoded_and_stripped_of_dot_segments_and_fragments() {
    let (web, (client, sink)) = (web(), client(|builder| builder));
    let host = web.addr();
    for (url, target) in [
        (format!("http://{host}"), "/"),
        (format!("HTTP://{host}/ä b?q=ü&x=%20#top"), "/%C3%A4%20b?q=%C3%BC&x=%20"),
        (format!("http://{host}/a/../b/./c"), "/b/c"),
    ] {
        assert_eq!(read(client.get(&url).await).await.1, format!("|{host}|{target}|"));
        let recorded = sink.snapshot("").http_requests.last().unwrap().req_url.clone();
        assert_eq!(recorded, format!("http://{host}{target}"));
    }
}

#[tokio::test]
async fn the_user_agent_can_be_replaced_or_omitted() {
    let web = Web::start(async |request: ReceivedRequest| reply(request.header("user-agent").to_owned()));
    let url = web.url("/");
    let version = concat!("nettrace/", env!("CARGO_PKG_VERSION"));
    let (default, _) = client(|builder| builder);
    assert_eq!(read(default.get(&url).await).await.1, version);
    let own = request("GET", &url, &[("user-agent", "mine")], Body::empty());
    assert_eq!(read(default.request(own).await).await.1, "mine");
    let (named, _) = client(|builder| builder.user_agent(http::HeaderValue::from_static("robot/1")));
    assert_eq!(read(named.get(&url).await).await.1, "robot/1");
    let (none, _) = client(|builder| builder.user_agent(None));
    assert_eq!(read(none.get(&url).await).await.1, "");
    assert!(!web.requests().last().unwrap().headers.contains_key("user-agent"));
}

/// Errors mask the same parts of a URL as records.
#[tokio::test]
async fn the_error_of_an_invalid_url_masks_the_query_if_the_sink_does() {
    for (mask_query, shown) in [(false, "\"ftp://a.test/x?token=1\""), (true, "\"ftp://a.test/x?***\"")] {
        let sink = TraceSink::builder().mask_query(mask_query).build();
        let client = Client::builder(&sink).build().unwrap();
        let error = client.get("ftp://a.test/x?token=1").await.unwrap_err();
        assert!(error.to_string().contains(shown), "{error}");
        assert!(format!("{error:?}").contains(shown), "{error:?}");
    }
}

/// The URL of an error is masked in the same way as in the record.
#[tokio::test]
async fn an_error_has_the_url_of_the_hop_that_failed() {
    let refused = test_support::raw::Refused::on("127.0.0.1:0");
    let host = refused.addr;
    let to = format!("http://{host}/there?token=secret");
    let web = Web::start(async move |_| redirect(302, &to));
    for (mask, query) in [(false, "token=secret"), (true, "***")] {
        let sink = TraceSink::builder().mask_query(mask).build();
        let client = Client::builder(&sink).build().unwrap();
        let error = client.get(format!("http://joe:pw@{host}/?token=secret")).await.unwrap_err();
        assert_eq!(error.url().unwrap(), format!("http://{host}/?{query}"));
        let error = client.get(web.url("/")).await.unwrap_err();
        assert_eq!(error.url().unwrap(), format!("http://{host}/there?{query}"), "the last hop");
    }
    let client = Client::builder(&TraceSink::disabled()).build().unwrap();
    assert_eq!(client.get(web.url("/")).await.unwrap_err().url(), None, "not recorded");
    let error = client.get("ftp://joe:pw@a.test/").await.unwrap_err();
    assert_eq!(error.url().unwrap(), "ftp://***@a.test/");
}
