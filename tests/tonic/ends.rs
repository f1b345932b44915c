//! End reasons and failures of calls that fail or are dropped.

use std::time::Duration;

use nettrace::record::{EndReason, HttpReqTrace};
use nettrace::tonic::{Channel, connect};
use nettrace::{Failure, RequestHandle, TraceSink};
use tonic::{Code, Status};

use crate::greeter::{GreeterClient, Greeting, Name};
use crate::servers::{ReservedPort, RunningServer, assert_linked, call, closed, greet};
use test_support::{check, wait};

/// Expires immediately, since the tests pause the clock.
const TIMEOUT: Duration = Duration::from_secs(60);

struct Fixture {
    sink: TraceSink,
    client: GreeterClient<Channel>,
    server: Option<RunningServer>,
    /// The client port, which identifies the connection.
    port: u16,
}

impl Fixture {
    async fn with(timeout: Option<Duration>) -> Self {
        let place = ReservedPort::new();
        let server = Some(place.serve());
        let sink = TraceSink::new();
        let endpoint = timeout.into_iter().fold(place.endpoint(), tonic::transport::Endpoint::timeout);
        let client = GreeterClient::new(connect(&sink, endpoint).await.unwrap());
        let port = greet(&client, "anybody").await.1.unwrap();
        Fixture { sink, client, server, port }
    }

    /// Starts a call that is never answered, and returns when its request has been sent.
    async fn start_unanswered(&self) -> (RequestHandle, tokio::task::JoinHandle<Result<Greeting, Status>>) {
        let (call, request) = call(Name::of("never"));
        let mut client = self.client.clone();
        let task = tokio::spawn(async move { client.greet(request).await.map(tonic::Response::into_inner) });
        let is_sent =
            || call.trace().http_requests.iter().any(|request| !request.req_body_end_at.is_undefined());
        wait::until("the request to be sent", is_sent).await;
        (call, task)
    }

    /// Asserts that the call is linked to the connection, and returns its record.
    fn record(&self, call: &RequestHandle) -> HttpReqTrace {
        let trace = self.sink.snapshot("");
        check::running(&trace);
        assert_linked(&trace, call, self.port).clone()
    }

    /// Closes the connection and asserts that every record has ended.
    async fn close(self) {
        drop(self.client);
        check::finished(&closed(&self.sink).await);
    }
}

#[tokio::test]
async fn an_expired_endpoint_timeout_is_recorded_as_a_timeout() {
    let fixture = Fixture::with(Some(TIMEOUT)).await;
    tokio::time::pause(); // timeouts expire as soon as every task is idle
    let (call, outcome) = greet(&fixture.client, "never").await;
    assert_eq!(outcome, Err(Code::Cancelled));
    let record = fixture.record(&call);
    assert_eq!(
        (&record.end_reason, &record.failure),
        (&Some(EndReason::Timeout), &Some(Failure::GenericTimeoutError))
    );
    assert_eq!((record.grpc_status, record.resp_status_code), (None, 0));
    assert_eq!(record.req_error, "Timeout expired");
    fixture.close().await;
}

#[tokio::test]
async fn an_exceeded_deadline_of_a_call_is_recorded_as_a_timeout() {
    let fixture = Fixture::with(None).await;
    let (call, mut request) = call(Name::of("never"));
    request.set_timeout(TIMEOUT);
    tokio::time::pause();
    let status = fixture.client.clone().greet(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Cancelled);
    let record = fixture.record(&call);
    assert_eq!((&record.end_reason, record.grpc_status), (&Some(EndReason::Timeout), None));
    assert_eq!(record.failure, Some(Failure::GenericTimeoutError));
    fixture.close().await;
}

#[tokio::test]
async fn a_dropped_call_is_recorded_as_cancelled() {
    let fixture = Fixture::with(None).await;
    let (call, task) = fixture.start_unanswered().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    let record = fixture.record(&call);
    assert_eq!(
        (&record.end_reason, &record.failure),
        (&Some(EndReason::Cancelled), &Some(Failure::Interrupted))
    );
    fixture.close().await;
}

#[tokio::test]
async fn a_dropped_stream_is_recorded_as_cancelled() {
    let mut fixture = Fixture::with(None).await;
    let (call, request) = call(Name { name: "never".into(), times: 2 });
    let mut greetings = fixture.client.repeat(request).await.unwrap().into_inner();
    assert!(greetings.message().await.unwrap().is_some());
    drop(greetings);
    let record = fixture.record(&call);
    assert_eq!((&record.end_reason, record.grpc_status), (&Some(EndReason::Cancelled), None));
    assert_eq!(record.resp_status_code, 200);
    assert!(record.resp_content_len > 0);
    fixture.close().await;
}

#[tokio::test]
async fn calls_fail_when_the_server_cuts_the_connection() {
    let mut fixture = Fixture::with(None).await;
    let (before_head, task) = fixture.start_unanswered().await;
    let (amid_body, request) = call(Name { name: "never".into(), times: 1 });
    let mut greetings = fixture.client.repeat(request).await.unwrap().into_inner();
    assert!(greetings.message().await.unwrap().is_some());
    drop(fixture.server.take());
    task.await.unwrap().unwrap_err();
    greetings.message().await.unwrap_err();
    for (call, status) in [(before_head, 0), (amid_body, 200)] {
        let record = fixture.record(&call);
        assert_eq!((&record.end_reason, record.resp_status_code), (&Some(EndReason::Failed), status));
        let failure = record.failure.as_ref().expect("a failure");
        assert!(
            matches!(failure, Failure::EofError | Failure::ConnectionReset | Failure::ConnectionAborted),
            "{failure}: {}",
            record.req_error
        );
        assert!(!record.req_error.is_empty() && record.grpc_status.is_none());
    }
    drop(greetings);
    fixture.close().await;
}

/// A server that shuts down gracefully completes the calls in progress.
#[tokio::test]
async fn a_graceful_shutdown_completes_calls_in_progress() {
    let mut fixture = Fixture::with(None).await;
    let (tx, rx) = tokio::sync::mpsc::unbounded_channel();
    let names = futures_util::stream::unfold(rx, async |mut rx| Some((rx.recv().await?, rx)));
    let (call, request) = call(names);
    tx.send(Name::of("Ada")).unwrap();
    let mut greetings = fixture.client.chat(request).await.unwrap().into_inner();
    assert!(greetings.message().await.unwrap().is_some());
    let server = fixture.server.take().unwrap();
    let stopping = tokio::task::spawn_blocking(|| server.shut_down());
    tx.send(Name::of("Grace")).unwrap();
    assert_eq!(greetings.message().await.unwrap().unwrap().text, "hello Grace");
    drop(tx);
    assert!(greetings.message().await.unwrap().is_none());
    let record = fixture.record(&call);
    assert_eq!((&record.end_reason, record.grpc_status), (&Some(EndReason::Closed), Some(0)));
    drop(greetings);
    fixture.close().await;
    stopping.await.unwrap();
}

/// The server accepts one stream at a time. Further calls wait in the HTTP/2 connection: they are linked to it, but
/// have not acquired it when it is cut.
#[tokio::test]
async fn calls_that_wait_for_a_stream_are_linked_to_the_connection() {
    let place = ReservedPort::new();
    let server = place.serve_with(tonic::transport::Server::builder().max_concurrent_streams(1));
    let sink = TraceSink::new();
    let client = GreeterClient::new(connect(&sink, place.endpoint()).await.unwrap());
    let port = greet(&client, "anybody").await.1.unwrap();
    let tasks = [(); 6].map(|()| {
        let (handle, request) = call(Name::of("never"));
        let mut client = client.clone();
        (handle, tokio::spawn(async move { client.greet(request).await.map(drop) }))
    });
    let has_acquired = |call: &RequestHandle| {
        call.trace().http_requests.first().is_some_and(|request| !request.conn_acquired_at.is_undefined())
    };
    wait::until("a call with a connection", || tasks.iter().any(|(call, _)| has_acquired(call))).await;
    drop(server);
    let mut waiting = 0;
    for (call, task) in tasks {
        task.await.unwrap().unwrap_err();
        let trace = sink.snapshot("");
        let (record, conn) = crate::servers::link(&trace, &call);
        assert_eq!(record.end_reason, Some(EndReason::Failed), "{record:?}");
        assert_eq!(conn.expect("a linked connection").addr_tuple.src_port, port);
        waiting += usize::from(record.conn_acquired_at.is_undefined());
    }
    assert!(waiting > 0);
    drop(client);
    check::finished(&closed(&sink).await);
}
