//! Proxy credentials are in no record and in no text that is printed.

use crate::{Site, finished, get, greet};
use nettrace::{Client, FinishedRecord, HeaderCapture, TraceSink, proxy::Proxy, proxy::ProxySelector, view};
use std::sync::{Arc, Mutex};
use test_support::{
    proxies::{microsocks, squid, tinyproxy},
    require::require_tool,
    web::Web,
};

/// The credentials in plain text and as RFC 7617 encodes them.
const SECRETS: [&str; 3] = ["secret", "joe", "am9lOnNlY3JldA"];

#[track_caller]
fn assert_no_secrets(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn credentials_are_in_no_record_and_no_text() {
    require_tool!("tinyproxy", "squid", "microsocks");
    let site = Site::new();
    let (open, secure) = (Web::start(greet), site.web(&[]));
    let urls = [
        open.url("/"),
        format!("https://localhost:{}/", secure.addr().port()),
        "https://127.0.0.9:444/".to_owned(), // nothing listens here
    ];
    let http = tinyproxy("BasicAuth joe secret");
    let https = squid(Some((&site.leaf.pem, &site.leaf.key_pem())));
    let socks = microsocks(true);
    let proxies = [
        http.url_with_login("http"),
        https.url_with_login("https"),
        socks.url_with_login("socks5"),
        socks.url_with_login("socks5h"),
    ];
    for url in proxies {
        let subscriber_log = Arc::new(Mutex::new(String::new()));
        let log = subscriber_log.clone();
        let log_record = move |record: &FinishedRecord| *log.lock().unwrap() += &format!("{record:?}\n");
        let sink = TraceSink::builder().headers(HeaderCapture::Values).subscriber(log_record).build();
        let proxy: Proxy = url.parse().unwrap();
        let selector = ProxySelector::from(proxy.clone());
        let client = Client::builder(&sink).proxy(selector.clone()).roots(site.roots()).build().unwrap();
        let mut printed = format!("{proxy} {proxy:?} {selector:?} {client:?}");
        for url in &urls {
            if let Err(error) = get(&client, url).await {
                printed += &format!("{error} {error:?} {:?}", std::error::Error::source(&error));
            }
        }
        let trace = finished(&client, &sink).await;
        printed += &serde_json::to_string(&trace).unwrap();
        printed += &view::waterfall(&trace).headers(true).to_string();
        assert_no_secrets(&printed);
        assert_no_secrets(&subscriber_log.lock().unwrap());
        assert!(trace.http_requests.iter().all(|request| request.network_proxy.contains("://***@")));
    }
}
