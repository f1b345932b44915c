//! Layers that the caller adds to the client. They run inside the redirect handling and outside the tracing.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex};

use http::{HeaderValue, Request};
use nettrace::client::{Body, ClientService};
use nettrace::record::EndReason;
use tower::util::MapRequestLayer;
use tower::{Layer, ServiceBuilder, ServiceExt as _, service_fn};

use crate::{client, read};
use test_support::web::{ReceivedRequest, Web, redirect, reply, status};

#[tokio::test]
async fn layers_see_every_hop_and_their_changes_are_recorded() {
    let web = Web::start(async |request: ReceivedRequest| match request.path() {
        "/" => redirect(302, "/next"),
        _ => reply(request.header("x-hop").to_owned()),
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let token = MapRequestLayer::new(move |mut request: Request<Body>| {
        let mut log = log.lock().unwrap();
        log.push(request.uri().path().to_owned());
        request.headers_mut().insert("x-hop", HeaderValue::from(log.len()));
        request
    });
    let sink = nettrace::TraceSink::builder().headers(nettrace::HeaderCapture::Values).build();
    let client = nettrace::Client::builder(&sink).layer(token).build().unwrap();
    assert_eq!(read(client.get(web.url("/")).await).await.1, "2");
    assert_eq!(*seen.lock().unwrap(), ["/", "/next"]);
    let trace = sink.snapshot("");
    let tokens: Vec<_> = trace
        .http_requests
        .iter()
        .map(|hop| hop.req_header.get("x-hop").unwrap().field_val.clone())
        .collect();
    assert_eq!(tokens, ["1", "2"]);
}

#[tokio::test]
async fn the_layer_added_last_is_the_outermost() {
    let web = Web::start(async |request: ReceivedRequest| reply(request.header("x-order").to_owned()));
    fn named(name: &'static str) -> MapRequestLayer<impl Fn(Request<Body>) -> Request<Body> + Clone> {
        MapRequestLayer::new(move |mut request: Request<Body>| {
            let before = request.headers().get("x-order").map_or("", |value| value.to_str().unwrap());
            let value = format!("{before}{name}").parse().unwrap();
            request.headers_mut().insert("x-order", value);
            request
        })
    }
    let (client, _) = client(|builder| builder.layer(named("inner")).layer(named("outer")));
    assert_eq!(read(client.get(web.url("/")).await).await.1, "outerinner");
}

/// A layer that repeats a request while the response is 503.
#[derive(Clone)]
struct Retry;

impl Layer<ClientService> for Retry {
    type Service = tower::util::BoxCloneSyncService<
        Request<Body>,
        http::Response<nettrace::client::ResponseBody>,
        Box<dyn Error + Send + Sync>,
    >;

    fn layer(&self, inner: ClientService) -> Self::Service {
        tower::util::BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
            let inner = inner.clone();
            async move {
                loop {
                    let mut retry = Request::get(request.uri()).body(Body::empty()).unwrap();
                    *retry.extensions_mut() = request.extensions().clone();
                    let response = inner.clone().oneshot(retry).await?;
                    if response.status() != 503 {
                        return Ok(response);
                    }
                }
            }
        }))
    }
}

#[tokio::test]
async fn each_retry_of_a_layer_is_recorded() {
    let count = Arc::new(Mutex::new(0));
    let web = Web::start(async move |_| {
        let mut count = count.lock().unwrap();
        *count += 1;
        if *count < 3 { status(503) } else { reply("at last") }
    });
    let (client, sink) = client(|builder| builder.layer(Retry));
    let response = client.get(web.url("/")).await;
    let handle = nettrace::ResponseExt::request_handle(response.as_ref().unwrap()).cloned().unwrap();
    assert_eq!(read(response).await.1, "at last");
    let trace = sink.snapshot("");
    let statuses: Vec<_> = trace.http_requests.iter().map(|request| request.resp_status_code).collect();
    assert_eq!(statuses, [503, 503, 200]);
    assert_eq!(trace.http_requests[2].trace_id, handle.id(), "the handle identifies the last request");
    assert!(
        trace.http_requests.iter().all(|request| request.prev_hop.is_undefined()),
        "a retry is not a redirect"
    );
    assert_eq!(handle.trace().http_requests.len(), 3);
}

#[tokio::test]
async fn retries_of_a_hop_follow_the_same_redirect() {
    let count = Arc::new(Mutex::new(0));
    let web = Web::start(async move |request: ReceivedRequest| {
        let mut count = count.lock().unwrap();
        match request.path() {
            "/" => redirect(302, "/next"),
            _ if std::mem::replace(&mut *count, 1) == 0 => status(503),
            _ => reply("at last"),
        }
    });
    let (client, sink) = client(|builder| builder.layer(Retry));
    assert_eq!(read(client.get(web.url("/")).await).await.1, "at last");
    let trace = sink.snapshot("");
    let [first, failed, last] = &trace.http_requests[..] else { panic!("three requests") };
    assert_eq!([&*failed.prev_hop, &*last.prev_hop], [&first.trace_id; 2]);
}

#[derive(Debug)]
struct NoToken;

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no token was to be had")
    }
}

impl Error for NoToken {}

/// A layer that fails every request.
#[derive(Clone)]
struct Refusing;

impl Layer<ClientService> for Refusing {
    type Service = tower::util::BoxCloneSyncService<
        Request<Body>,
        http::Response<nettrace::client::ResponseBody>,
        NoToken,
    >;

    fn layer(&self, _: ClientService) -> Self::Service {
        tower::util::BoxCloneSyncService::new(service_fn(|_| async { Err(NoToken) }))
    }
}

#[tokio::test]
async fn errors_of_layers_keep_their_type() {
    let (client, sink) = client(|builder| builder.layer(Refusing));
    let error = client.get("http://web.test/").await.unwrap_err();
    assert!(error.source().is_some_and(|source| source.is::<NoToken>()), "{error:?}");
    assert_eq!(error.to_string(), "no token was to be had");
    assert!(error.request().trace().http_requests.is_empty() && sink.snapshot("").http_requests.is_empty());
}

#[tokio::test]
async fn a_request_that_a_layer_drops_is_cancelled() {
    let web = Web::start(async |_| std::future::pending().await);
    let (client, sink) = client(|builder| {
        builder
            .layer(ServiceBuilder::new().layer(tower::timeout::TimeoutLayer::new(std::time::Duration::ZERO)))
    });
    let error = client.get(web.url("/")).await.unwrap_err();
    assert!(error.source().is_some_and(|source| source.is::<tower::timeout::error::Elapsed>()), "{error:?}");
    assert_eq!(sink.snapshot("").http_requests[0].end_reason, Some(EndReason::Cancelled));
}
