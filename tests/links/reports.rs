//! A request layer with `capture_connection` above services that hide from it which connection was chosen.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use nettrace::TraceSink;
use nettrace::request::{TraceBody, TraceRequestLayer};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::clients::{BoxError, assert_linked, pool, traced};
use test_support::check;
use test_support::web::{Web, reply};

type ClientRequest = Request<TraceBody<Full<Bytes>>>;

/// A redirect that drops the request's extensions hides the connection of the second hop until the response names it.
#[tokio::test]
async fn a_connection_that_the_client_did_not_report_was_acquired_at_no_known_time() {
    let (first, second) = (Web::start(async |_| reply("first")), Web::start(async |_| reply("second")));
    let sink = TraceSink::new();
    let clients = (pool(false, &sink), pool::<Full<Bytes>>(false, &sink));
    let next = second.url("/");
    let redirecting = service_fn(move |request: ClientRequest| {
        let ((client, next_client), next) = (clients.clone(), next.clone());
        async move {
            let hop: Response<Incoming> = client.oneshot(request).await?;
            drop(hop);
            let request = Request::get(next).body(Full::default())?;
            Ok::<_, BoxError>(next_client.oneshot(request).await?)
        }
    });
    let client = TraceRequestLayer::new(&sink).capture_connection(true).layer(redirecting);
    let (request, port) = traced("redirecting", &sink, client).fetch(&first.url("/")).await;
    let trace = sink.snapshot("");
    assert_linked(&trace, &request, port);
    let record = trace.http_requests.get(request.id()).unwrap();
    assert!(record.conn_acquired_at.is_undefined(), "{record:?}");
    check::running(&trace);
}

/// The layer is polled again only when the response, without its extensions, is ready.
#[tokio::test]
async fn the_clients_report_suffices_for_the_link() {
    let web = Web::start(async |_| reply("hello"));
    let sink = TraceSink::new();
    let client = pool(false, &sink);
    let spawning = service_fn(move |request: ClientRequest| {
        let call = tokio::spawn(client.clone().oneshot(request));
        async move {
            let (mut parts, body) = call.await??.into_parts();
            parts.extensions.clear();
            Ok::<_, BoxError>(Response::from_parts(parts, body))
        }
    });
    let client = TraceRequestLayer::new(&sink).capture_connection(true).layer(spawning);
    let (request, port) = traced("spawning", &sink, client).fetch(&web.url("/")).await;
    let trace = sink.snapshot("");
    assert_linked(&trace, &request, port);
    let record = trace.http_requests.get(request.id()).unwrap();
    assert!(!record.conn_acquired_at.is_undefined(), "{record:?}");
    check::running(&trace);
}
