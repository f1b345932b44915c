//! Requests that this side serves.

use crate::{only_verdict, quoted, root};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use nettrace::{TraceSink, explain::Outcome, request::TraceBody, server::TraceServerLayer};
use std::{convert::Infallible, future::pending};
use test_support::wait;
use tokio::io::AsyncWriteExt as _;
use tower::{Layer as _, service_fn};

#[tokio::test]
async fn a_client_that_goes_away_before_the_answer() {
    let sink = TraceSink::new();
    let (mut client, stream) = tokio::io::duplex(1024);
    let service = TraceServerLayer::new(&sink)
        .layer(service_fn(async |_: Request<TraceBody<Incoming>>| pending::<Answer>().await));
    let server = tokio::spawn(async move {
        let service = hyper_util::service::TowerToHyperService::new(service);
        let server = auto::Builder::new(TokioExecutor::new());
        drop(server.serve_connection(TokioIo::new(stream), service).await);
    });
    client.write_all(b"GET /report HTTP/1.1\r\nhost: web.test\r\n\r\n").await.unwrap();
    wait::until("the request has come", || !sink.snapshot("").http_requests.is_empty()).await;
    drop(client);
    server.await.unwrap();
    let trace = sink.snapshot("");
    assert_eq!(only_verdict(&trace).outcome, Outcome::GivenUp);
    let root = root(&trace, "caller_gave_up");
    assert!(root.sentence.starts_with("The served request was dropped after"), "{}", root.sentence);
    assert!(["peer-closed", "cancelled"].contains(&quoted(&root, "endReason")));
}

type Answer = Result<Response<Full<Bytes>>, Infallible>;
