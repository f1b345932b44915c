//! Requests that fail, and how their end shows.

use crate::{client, quoted, root, trace_of};
use nettrace::TraceSink;
use std::time::Duration;
use test_support::raw::Server;

#[tokio::test]
async fn a_time_limit_that_runs_out_while_the_server_is_silent() {
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| conn.read_to_end().await);
    let client = client(&sink).timeout(Duration::from_millis(100)).build().unwrap();
    let trace = trace_of(&sink, &client, &format!("http://{}/", server.addr())).await;
    let root = root(&trace, "http_timed_out");
    assert!(root.sentence.ends_with("while the request waited for the response."), "{}", root.sentence);
    assert_eq!(quoted(&root, "endReason"), "timeout");
}
