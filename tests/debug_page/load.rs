//! A full sink.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use nettrace::{Retention, TraceSink, debug_page::DebugPage};

use crate::fixture::{fail, fetch, get};

/// The limit is generous, for a build without optimisation on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn alone_pages_of_ten_thousand_requests_are_quick() {
    let sink = TraceSink::builder().retention(Retention::bounded().requests(12_000)).build();
    let mut id = String::new();
    for number in 0..10_000 {
        let url = format!("http://h{}.test/{number}", number % 20);
        id = match number % 10 {
            0 => fail(&sink, &url, ErrorKind::ConnectionRefused, "refused").await,
            1 => fetch(&sink, &url, 503).await,
            _ => fetch(&sink, &url, 200).await,
        }
        .to_string();
    }
    let page = DebugPage::new(&sink);
    for path in
        ["/", "/?failed", "/?host=h3.test&limit=1000", "/summary", "/metrics", &format!("/request/{id}")]
    {
        let begin = Instant::now();
        let response = get(&page, path).await;
        let took = begin.elapsed();
        assert_eq!(response.status, 200, "{path}");
        assert!(took < LIMIT, "{path} took {took:?}");
        assert!(response.text.len() < 2 << 20, "{path} has {} bytes", response.text.len());
    }
    assert_eq!(get(&page, "/").await.rows().len(), 100);
}
