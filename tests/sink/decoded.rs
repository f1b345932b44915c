//! Decoded responses: the request ends when the body has been read, with the sizes before and after decoding.

use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use nettrace::{Client, Failure, FinishedRecord, TraceSink, record::HttpReqTrace};

use crate::server::Server;
use test_support::check;

/// Makes one request and reads up to `frames` frames of the response. Returns the record, and whether a frame was an
/// error.
async fn get(path: &str, frames: usize) -> (HttpReqTrace, bool) {
    let published = Arc::<Mutex<Vec<HttpReqTrace>>>::default();
    let subscriber = published.clone();
    let sink = TraceSink::builder().subscriber(move |record: &FinishedRecord| {
        if let FinishedRecord::HttpRequest(request) = record {
            subscriber.lock().unwrap().push(request.clone());
        }
    });
    let (sink, server) = (sink.build(), Server::start().await);
    let client = Client::builder(&sink).build().unwrap();
    let mut body = client.get(server.url(path)).await.unwrap().into_body();
    let mut failed = false;
    for _ in 0..frames {
        match body.frame().await {
            Some(frame) => failed |= frame.is_err(),
            None => break,
        }
    }
    drop(body);
    client.close().await;
    let trace = sink.snapshot("all");
    check::finished(&trace);
    assert_eq!(
        *published.lock().unwrap(),
        trace.http_requests[..],
        "subscribers get the record that is in the trace"
    );
    (trace.http_requests[0].clone(), failed)
}

#[tokio::test]
async fn a_decoded_body_has_the_lengths_before_and_after_decoding() {
    let (request, failed) = get("/gzip", usize::MAX).await;
    assert_eq!((request.resp_content_len, request.resp_encoded_len, failed), (6_000, Some(53), false));
    assert_eq!(request.end_reason, Some(nettrace::record::EndReason::Closed));
}

#[tokio::test]
async fn dropping_an_unread_body_is_recorded_as_interrupted() {
    let (request, _) = get("/gzip", 0).await;
    assert_eq!(request.failure, Some(Failure::Interrupted));
}

#[tokio::test]
async fn a_body_that_cannot_be_decoded_fails_the_request() {
    let (request, failed) = get("/broken-gzip", usize::MAX).await;
    assert!(failed);
    assert_eq!(request.failure, Some(Failure::DecodingError));
}
