//! Calls that fail or are dropped.

use std::time::Duration;

use nettrace::record::{EndReason, HttpReqTrace};
use nettrace::tonic::{Channel, connect};
use nettrace::{Failure, RequestHandle, TraceSink};
use tonic::{Code, Status};

use crate::greeter::{GreeterClient, Greeting, Name};
use crate::servers::{ReservedPort, RunningServer, assert_linked, call, closed, greet};
use test_support::check;

const LONG: Duration = Duration::from_secs(60);

struct Scene {
    sink: TraceSink,
    client: GreeterClient<Channel>,
    server: Option<RunningServer>,
    /// The client port, which identifies the connection.
    port: u16,
}

impl Scene {
    async fn with(timeout: Option<Duration>) -> Self {
        let place = ReservedPort::new();
        let server = Some(place.serve());
        let sink = TraceSink::new();
        let endpoint = timeout.into_iter().fold(place.endpoint(), tonic::transport::Endpoint::timeout);
        let client = GreeterClient::new(connect(&sink, endpoint).await.unwrap());
        let port = greet(&client, "anybody").await.1.unwrap();
        Scene { sink, client, server, port }
    }

    /// A call that is never answered, once the connection has taken it.
    async fn unanswered(&self) -> (RequestHandle, tokio::task::JoinHandle<Result<Greeting, Status>>) {
        let (call, request) = call(Name::of("never"));
        let mut client = self.client.clone();
        let task = tokio::spawn(async move { client.greet(request).await.map(tonic::Response::into_inner) });
        while call.trace().http_requests.iter().all(|request| request.req_body_end_at.is_undefined()) {
            tokio::task::yield_now().await;
        }
        (call, task)
    }

    /// The record of the call, which is linked to its connection.
    fn record(&self, call: &RequestHandle) -> HttpReqTrace {
        let trace = self.sink.snapshot("");
        check::running(&trace);
        assert_linked(&trace, call, self.port).clone()
    }

    async fn end(self) {
        drop(self.client);
        check::finished(&closed(&self.sink).await);
    }
}

#[tokio::test]
async fn the_endpoints_time_is_over() {
    let scene = Scene::with(Some(LONG)).await;
    tokio::time::pause(); // from now on timeouts expire as soon as every task waits
    let (call, outcome) = greet(&scene.client, "never").await;
    assert_eq!(outcome, Err(Code::Cancelled));
    let record = scene.record(&call);
    assert_eq!(
        (&record.end_reason, &record.failure),
        (&Some(EndReason::Timeout), &Some(Failure::GenericTimeoutError))
    );
    assert_eq!((record.grpc_status, record.resp_status_code), (None, 0));
    assert_eq!(record.req_error, "Timeout expired");
    scene.end().await;
}

#[tokio::test]
async fn the_calls_own_deadline_is_exceeded() {
    let scene = Scene::with(None).await;
    let (call, mut request) = call(Name::of("never"));
    request.set_timeout(LONG);
    tokio::time::pause();
    let status = scene.client.clone().greet(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Cancelled);
    let record = scene.record(&call);
    assert_eq!((&record.end_reason, record.grpc_status), (&Some(EndReason::Timeout), None));
    assert_eq!(record.failure, Some(Failure::GenericTimeoutError));
    scene.end().await;
}

#[tokio::test]
async fn the_caller_has_enough() {
    let scene = Scene::with(None).await;
    let (call, task) = scene.unanswered().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    let record = scene.record(&call);
    assert_eq!(
        (&record.end_reason, &record.failure),
        (&Some(EndReason::Cancelled), &Some(Failure::Interrupted))
    );
    scene.end().await;
}

#[tokio::test]
async fn a_stream_is_not_read_to_its_end() {
    let mut scene = Scene::with(None).await;
    let (call, request) = call(Name { name: "never".into(), times: 2 });
    let mut greetings = scene.client.repeat(request).await.unwrap().into_inner();
    assert!(greetings.message().await.unwrap().is_some());
    drop(greetings);
    let record = scene.record(&call);
    assert_eq!((&record.end_reason, record.grpc_status), (&Some(EndReason::Cancelled), None));
    assert_eq!(record.resp_status_code, 200);
    assert!(record.resp_content_len > 0);
    scene.end().await;
}

#[tokio::test]
async fn the_server_goes_away() {
    let mut scene = Scene::with(None).await;
    let (before_head, task) = scene.unanswered().await;
    let (amid_body, request) = call(Name { name: "never".into(), times: 1 });
    let mut greetings = scene.client.repeat(request).await.unwrap().into_inner();
    assert!(greetings.message().await.unwrap().is_some());
    drop(scene.server.take());
    task.await.unwrap().unwrap_err();
    greetings.message().await.unwrap_err();
    for (call, status) in [(before_head, 0), (amid_body, 200)] {
        let record = scene.record(&call);
        assert_eq!((&record.end_reason, record.resp_status_code), (&Some(EndReason::Failed), status));
        let failure = record.failure.as_ref().expect("a code");
        assert!(
            matches!(failure, Failure::EofError | Failure::ConnectionReset | Failure::ConnectionAborted),
            "{failure}: {}",
            record.req_error
        );
        assert!(!record.req_error.is_empty() && record.grpc_status.is_none());
    }
    drop(greetings);
    scene.end().await;
}

/// A server that is asked to stop lets the calls that it has come to their end.
#[tokio::test]
async fn the_server_is_shut_down() {
    let mut scene = Scene::with(None).await;
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let names = futures_util::stream::unfold(told, async |mut told| Some((told.recv().await?, told)));
    let (call, request) = call(names);
    tell.send(Name::of("Ada")).unwrap();
    let mut greetings = scene.client.chat(request).await.unwrap().into_inner();
    assert!(greetings.message().await.unwrap().is_some());
    let server = scene.server.take().unwrap();
    let stopping = tokio::task::spawn_blocking(|| server.shut_down());
    tell.send(Name::of("Grace")).unwrap();
    assert_eq!(greetings.message().await.unwrap().unwrap().text, "hello Grace");
    drop(tell);
    assert!(greetings.message().await.unwrap().is_none());
    let record = scene.record(&call);
    assert_eq!((&record.end_reason, record.grpc_status), (&Some(EndReason::Closed), Some(0)));
    drop(greetings);
    scene.end().await;
    stopping.await.unwrap();
}

/// More calls than the server takes at once: the others are with the connection already, and have not got it.
#[tokio::test]
async fn calls_that_wait_for_their_turn() {
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
    let taken = |call: &RequestHandle| {
        call.trace().http_requests.first().is_some_and(|request| !request.conn_acquired_at.is_undefined())
    };
    while !tasks.iter().any(|(call, _)| taken(call)) {
        tokio::task::yield_now().await;
    }
    drop(server);
    let mut waiting = 0;
    for (call, task) in tasks {
        task.await.unwrap().unwrap_err();
        let trace = sink.snapshot("");
        let (record, conn) = crate::servers::link(&trace, &call);
        assert_eq!(record.end_reason, Some(EndReason::Failed), "{record:?}");
        assert_eq!(conn.expect("its connection").addr_tuple.src_port, port);
        waiting += usize::from(record.conn_acquired_at.is_undefined());
    }
    assert!(waiting > 0);
    drop(client);
    check::finished(&closed(&sink).await);
}
