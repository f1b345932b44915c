//! Redirects that fail, or that are not followed.

use std::sync::{Arc, Mutex};

use nettrace::client::{Body, ClientService};
use nettrace::record::HttpReqTrace;
use nettrace::view::waterfall;
use nettrace::{FinishedRecord, ResponseExt, TraceSink};
use tower::layer::layer_fn;
use tower::{Service, service_fn};

use crate::fixture::{Failed, Fixture, Outcome, ended, failed, fetched};
use test_support::raw::{Refused, Server};

#[tokio::test]
async fn a_redirect_to_a_closed_port_fails_the_last_hop() {
    let (fixture, closed_port) = (Fixture::new().await, Refused::on("127.0.0.1:0"));
    let target = format!("http://other.test:{}/", closed_port.addr.port());
    let location = target.clone();
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(redirect(&location, "").as_bytes()).await?;
        conn.read_to_end().await
    });
    let failed = failed(&fixture.client(), fixture.http(&server)).await;
    let [first, last] = hops(&failed.outcome);
    assert_eq!((ended(first), first.resp_status_code), (("closed", ""), 302));
    assert_eq!((ended(last), last.req_url.as_str()), (("failed", "connection_refused"), target.as_str()));
    assert_eq!(last.prev_hop, first.trace_id);
    let dials = &failed.outcome.trace.dials;
    assert_eq!([&dials[0].triggered_by, &dials[1].triggered_by], [&first.trace_id, &last.trace_id]);
    assert_eq!(failed.error.request().trace().http_requests.len(), 2, "the error's trace has both hops");
}

#[tokio::test]
async fn an_endless_redirect_fails_at_the_limit() {
    let fixture = Fixture::new().await;
    let server = Server::start(async |mut conn| {
        loop {
            conn.read_head().await?;
            conn.write(redirect("/again", "").as_bytes()).await?;
        }
    });
    let client = fixture.builder().max_redirects(1).build().unwrap();
    let error = client.get(fixture.http(&server)).await.expect_err("too many redirects");
    assert_eq!(error.failure().as_str(), "x_too_many_redirects");
    assert_eq!(error.to_string(), "gave up after 1 redirects");
    let Failed { outcome, .. } = Failed::of(&client, error).await;
    let [first, last] = hops(&outcome);
    assert_eq!((ended(first), ended(last)), (("closed", ""), ("failed", "x_too_many_redirects")));
    assert_eq!((last.resp_status_code, &*last.prev_hop), (302, &first.trace_id));
    assert_eq!(last.req_error, "gave up after 1 redirects");
    assert!(waterfall(&outcome.trace).to_string().contains("x_too_many_redirects"));
}

/// The request of the redirect ends once, whatever its body is and however much of the body has been read.
#[tokio::test]
async fn a_redirect_that_cannot_be_followed_fails_once() {
    let long = "long ".repeat(1000);
    for (location, failure, max) in [
        ("ftp://a.test/", "x_invalid_redirect", 9),
        ("http://[bad/", "x_invalid_redirect", 9),
        ("/again", "x_too_many_redirects", 1),
    ] {
        for body in ["", "moved", &long] {
            let finished = Arc::new(Mutex::new(Vec::new()));
            let subscriber = finished.clone();
            let sink = TraceSink::builder()
                .subscriber(move |record: &FinishedRecord| {
                    if let FinishedRecord::HttpRequest(request) = record {
                        subscriber.lock().unwrap().push((request.trace_id.clone(), request.failure.clone()));
                    }
                })
                .build();
            let fixture = Fixture { sink, ..Fixture::new().await };
            let answer = redirect(location, body);
            let server = Server::start(async move |mut conn| {
                loop {
                    conn.read_head().await?;
                    conn.write(answer.as_bytes()).await?;
                }
            });
            let client = fixture.builder().max_redirects(max).build().unwrap();
            let Failed { outcome, error } = failed(&client, fixture.http(&server)).await;
            assert_eq!(ended(&outcome.request), ("failed", failure), "{location} {}", body.len());
            assert_eq!((error.failure().as_str(), outcome.request.resp_status_code), (failure, 302));
            let finished = finished.lock().unwrap();
            assert_eq!(finished.len(), outcome.trace.http_requests.len(), "each ends once");
            for (id, failure) in &*finished {
                assert_eq!(failure, &outcome.trace.http_requests.get(id).expect("recorded").failure);
            }
        }
    }
}

#[tokio::test]
async fn a_redirect_with_an_empty_location_is_the_response() {
    let fixture = Fixture::new().await;
    let server = Server::start(async |mut conn| {
        loop {
            conn.read_head().await?;
            conn.write(redirect("", "moved").as_bytes()).await?;
        }
    });
    let client = fixture.client();
    let (body, handle) = fetched(&client, fixture.http(&server)).await;
    assert_eq!(body, b"moved", "the redirect is the response");
    let outcome = Outcome::of(&client, &handle).await;
    assert_eq!((ended(&outcome.request), outcome.request.resp_status_code), (("closed", ""), 302));
}

/// A redirect that is not followed ends like any response: with its body, at once if the body is empty.
#[tokio::test]
async fn a_redirect_that_is_not_followed_ends_with_its_body() {
    for (status, body) in [(300, ""), (300, "choose"), (304, "")] {
        let fixture = Fixture::new().await;
        let answer = redirect("/other", body).replace("302 Found", &format!("{status} Other"));
        let server = Server::start(async move |mut conn| {
            loop {
                conn.read_head().await?;
                conn.write(answer.as_bytes()).await?;
            }
        });
        let client = fixture.client();
        let response = client.get(fixture.http(&server)).await.expect("a response");
        let end = || response.trace().http_requests[0].end_reason.clone();
        assert_eq!(end().is_some(), body.is_empty(), "{status}");
        let handle = response.request_handle().cloned().expect("traced");
        assert_eq!(response.into_body().bytes().await.expect("a body"), body);
        let outcome = Outcome::of(&client, &handle).await;
        assert_eq!((ended(&outcome.request), outcome.request.resp_status_code), (("closed", ""), status));
    }
}

/// A layer of the caller may follow the redirect itself and drop the response.
#[tokio::test]
async fn a_redirect_that_a_layer_drops_is_no_failure() {
    let fixture = Fixture::new().await;
    let server = Server::start(async |mut conn| {
        loop {
            let is_first = conn.read_head().await?.starts_with("GET / ");
            let hello = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_owned();
            let answer = if is_first { redirect("/next", "") } else { hello };
            conn.write(answer.as_bytes()).await?;
        }
    });
    let layer = layer_fn(|inner: ClientService| {
        service_fn(move |request: http::Request<Body>| {
            let mut inner = inner.clone();
            async move {
                let to = request.uri().to_string() + "next";
                drop(inner.call(request).await?);
                inner.call(http::Request::get(to).body(Body::empty())?).await
            }
        })
    });
    let client = fixture.builder().layer(layer).build().unwrap();
    let (body, handle) = fetched(&client, fixture.http(&server)).await;
    assert_eq!(body, b"hello");
    let outcome = Outcome::of(&client, &handle).await;
    assert_eq!((ended(&outcome.request), outcome.request.resp_status_code), (("closed", ""), 302));
}

/// The client does not read the body to its end, which is no failure.
#[tokio::test]
async fn a_redirect_with_a_long_body_is_no_failure() {
    let fixture = Fixture::new().await;
    let server = Server::start(async |mut conn| {
        loop {
            if conn.read_head().await?.starts_with("GET / ") {
                conn.write(redirect("/next", &"long ".repeat(1000)).as_bytes()).await?;
            } else {
                conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await?;
            }
        }
    });
    let client = fixture.client();
    let (body, handle) = fetched(&client, fixture.http(&server)).await;
    assert_eq!(body, b"hello");
    let outcome = Outcome::of(&client, &handle).await;
    let [first, last] = hops(&outcome);
    assert_eq!((ended(first), ended(last)), (("closed", ""), ("closed", "")));
    assert!(first.resp_body_end_at.is_undefined());
}

fn redirect(location: &str, body: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[track_caller]
fn hops(outcome: &Outcome) -> [&HttpReqTrace; 2] {
    let requests = &outcome.trace.http_requests;
    assert_eq!(requests.len(), 2);
    [&requests[0], &requests[1]]
}
