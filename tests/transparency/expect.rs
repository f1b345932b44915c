//! Requests with `Expect: 100-continue`.

use std::sync::{Arc, Mutex};

use crate::clients::{AnyClient, empty, exchange, full, request, same};
use nettrace::record::EndReason;
use test_support::raw::Server;

fn server(interim: &'static str, last: &'static str) -> Server {
    Server::start(async move |mut conn| {
        let head = conn.read_head().await?;
        assert!(head.contains("expect: 100-continue\r\n"));
        conn.write(interim.as_bytes()).await?;
        conn.read(4).await?;
        conn.write(last.as_bytes()).await?;
        conn.close().await
    })
}

#[tokio::test]
async fn every_answer_to_an_expectation_has_the_same_outcome() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let no = "HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\nno";
    for (interim, last, informational) in
        [("HTTP/1.1 100 Continue\r\n\r\n", ok, vec![100]), ("", no, vec![]), ("", ok, vec![])]
    {
        let server = server(interim, last);
        let make = || {
            let request = request("POST", &server, "/").header("expect", "100-continue");
            request.body(full("data")).unwrap()
        };
        let (variants, outcome, seen) =
            same(&server, async |client: &AnyClient| exchange(client, make()).await).await;
        assert_eq!(outcome.expect("a response").body.data, &last.as_bytes()[last.len() - 2..]);
        // hyper does not wait for `100 Continue` before it sends the body, traced or not.
        assert!(seen[0].received.ends_with(b"\r\n\r\ndata"));
        for variant in variants.iter().filter(|variant| variant.is_traced()) {
            let record = variant.sink.snapshot("").http_requests[0].clone();
            assert_eq!(
                (record.req_content_len, record.end_reason),
                (4, Some(EndReason::Closed)),
                "{}",
                variant.name
            );
            if matches!(variant.name, "layers that listen" | "preset") {
                let statuses: Vec<_> = record.informational.iter().map(|interim| interim.status).collect();
                assert_eq!(statuses, informational, "{}", variant.name);
            }
        }
    }
}

#[tokio::test]
async fn the_informational_callback_of_the_caller_is_kept() {
    let server =
        Server::answering(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
    let scenario = async |client: &AnyClient| {
        let statuses = Arc::new(Mutex::new(Vec::new()));
        let mut request = request("GET", &server, "/").body(empty()).unwrap();
        let log = statuses.clone();
        hyper::ext::on_informational(&mut request, move |response| {
            log.lock().unwrap().push(response.status())
        });
        exchange(client, request).await.expect("a response");
        let statuses = statuses.lock().unwrap();
        statuses.clone()
    };
    for variant in crate::clients::variants(false) {
        // `TraceRequestLayer::informational` replaces the callback, as its documentation says.
        let listens = variant.name == "layers that listen";
        assert_eq!(scenario(&variant.client).await.len(), usize::from(!listens), "{}", variant.name);
    }
}
