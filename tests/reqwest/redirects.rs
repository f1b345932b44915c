//! Redirects that reqwest follows, hop by hop.

use nettrace::record::EndReason;
use nettrace::reqwest::{Observer, RequestBuilderExt as _};
use nettrace::{Failure, ResponseExt as _};
use reqwest::redirect::Policy;

use crate::clients::{Variant, answer, same, unrelated_roots};
use test_support::raw::Refused;
use test_support::web::{Web, redirect, reply};

#[tokio::test]
async fn every_hop_is_recorded_as_a_request() {
    let web = Web::start(async |request| match request.path() {
        "/a" => redirect(302, "/b"),
        "/b" => redirect(307, "/c"),
        _ => reply("there"),
    });
    let (observed, outcome) = same(async |variant| {
        let client = variant.builder().build().unwrap();
        answer(variant.send(client.post(web.url("/a")).body("data")).await).await
    })
    .await;
    let outcome = outcome.unwrap();
    assert_eq!((outcome.url, outcome.body), (web.url("/c"), Ok("there".into())));

    let trace = observed.finished();
    let [a, b, c] = &trace.http_requests[..] else { panic!("{:#?}", trace.http_requests) };
    let seen = |record: &nettrace::record::HttpReqTrace| {
        (record.req_method.to_string(), record.resp_status_code, record.req_url.to_string())
    };
    assert_eq!(seen(a), ("POST".into(), 302, web.url("/a")));
    assert_eq!(seen(b), ("GET".into(), 307, web.url("/b")));
    assert_eq!(seen(c), ("GET".into(), 200, web.url("/c")));
    assert!(a.prev_hop.is_undefined());
    assert_eq!((&*b.prev_hop, &*c.prev_hop), (&a.trace_id, &b.trace_id));
    assert!([a, b, c].iter().all(|hop| hop.end_reason == Some(EndReason::Closed)));
    // reqwest reports the connection of the last hop only.
    assert!(a.tcp_conn.is_undefined() && b.tcp_conn.is_undefined() && !c.tcp_conn.is_undefined());
    assert_eq!(trace.dials[0].triggered_by, a.trace_id);
}

#[tokio::test]
async fn each_hop_has_the_length_of_its_own_body() {
    let web = Web::start(async |request| match request.path() {
        "/303" => redirect(303, "/there"),
        "/307" => redirect(307, "/there"),
        _ => reply("there"),
    });
    for (path, sent) in [("/303", [4, 0]), ("/307", [4, 4]), ("/there", [4, 0])] {
        let variant = Variant::observed(unrelated_roots());
        let client = variant.builder().build().unwrap();
        variant.send(client.put(web.url(path)).body("data")).await.unwrap().bytes().await.unwrap();
        let trace = variant.finished();
        let hops = trace.http_requests.iter().map(|hop| hop.req_content_len);
        assert!(hops.eq(sent.into_iter().take(trace.http_requests.len())), "{path}");
    }
    let refused = Refused::on("127.0.0.1:0");
    let variant = Variant::observed(unrelated_roots());
    let client = variant.builder().build().unwrap();
    variant.send(client.put(format!("http://{}/", refused.addr)).body("data")).await.unwrap_err();
    assert_eq!(variant.finished().http_requests[0].req_content_len, 0, "the body was not sent");
}

#[tokio::test]
async fn a_handle_has_the_id_of_the_last_hop_and_a_trace_of_all() {
    let web =
        Web::start(async |request| if request.path() == "/a" { redirect(303, "/b") } else { reply("there") });
    let variant = Variant::observed(unrelated_roots());
    let client = variant.client();
    let sent = client.get(web.url("/a")).send_traced(&client);
    let handle = sent.request_handle().clone();
    let first = handle.id();
    let response = sent.await.unwrap();
    assert_eq!(response.request_handle().unwrap().id(), handle.id());
    response.bytes().await.unwrap();
    assert_ne!(handle.id(), first);
    let urls: Vec<_> = handle.trace().http_requests.iter().map(|hop| hop.req_url.to_string()).collect();
    assert_eq!(urls, [web.url("/a"), web.url("/b")]);
}

#[tokio::test]
async fn a_redirect_to_a_refusing_address_fails_the_second_hop() {
    let refused = Refused::on("127.0.0.1:0");
    let target = format!("http://{}/x", refused.addr);
    let location = target.clone();
    let web = Web::start(async move |_| redirect(301, &location));
    let (observed, outcome) = same(async |variant| {
        let client = variant.builder().build().unwrap();
        answer(variant.send(client.get(web.url("/a"))).await).await
    })
    .await;
    assert_eq!(outcome.unwrap_err().is, ["request", "connect"]);
    let trace = observed.finished();
    let [first, second] = &trace.http_requests[..] else { panic!("expected two hops") };
    assert_eq!((first.resp_status_code, &first.failure), (301, &None));
    assert_eq!((&*second.req_url, &second.failure), (&*target, &Some(Failure::ConnectionRefused)));
    assert_eq!(trace.dials[1].triggered_by, second.trace_id, "the second hop triggered its dial");
}

/// A path, the redirect policy, the failure of the last request, and the number of requests.
type Case = (&'static str, fn() -> Policy, Option<Failure>, usize);

#[tokio::test]
async fn redirects_that_are_not_followed_are_recorded() {
    let web = Web::start(async |request| match request.path() {
        "/loop" => redirect(302, "/loop"),
        "/mail" => redirect(302, "mailto:joe@a.test"),
        "/bad" => redirect(302, "http://www.yikes{KABOOM}"),
        _ => redirect(302, "/there"),
    });
    let policies: [Case; 6] = [
        ("/loop", Policy::default, Some(Failure::TooManyRedirects), 11),
        ("/loop", || Policy::limited(2), Some(Failure::TooManyRedirects), 3),
        ("/a", Policy::none, None, 1),
        (
            "/a",
            || Policy::custom(|attempt| attempt.error("Follow no more")),
            Some(Failure::InvalidRedirect),
            1,
        ),
        ("/a", || Policy::custom(|attempt| attempt.stop()), None, 1),
        ("/bad", Policy::default, None, 1),
    ];
    for (path, policy, failure, requests) in policies {
        let (observed, _) = same(async |variant| {
            let observer = Observer::new(&variant.sink).redirect(policy());
            let mut builder = variant.builder_with(observer);
            if variant.name == "untraced" {
                builder = builder.redirect(policy());
            }
            let client = builder.build().unwrap();
            answer(variant.send(client.get(web.url(path))).await).await
        })
        .await;
        let trace = observed.finished();
        assert_eq!(trace.http_requests.len(), requests, "{path}");
        assert_eq!(trace.http_requests.last().unwrap().failure, failure, "{path}");
    }
    let (observed, outcome) = same(async |variant| {
        let client = variant.builder().build().unwrap();
        answer(variant.send(client.get(web.url("/mail"))).await).await
    })
    .await;
    // reqwest reports the unsupported scheme as an error of the builder.
    assert_eq!(outcome.unwrap_err().is, ["builder"]);
    assert_eq!(observed.finished().http_requests.len(), 1);
}

#[tokio::test]
async fn a_policy_that_is_set_later_applies_and_its_hops_are_not_recorded() {
    let web =
        Web::start(async |request| if request.path() == "/a" { redirect(302, "/b") } else { reply("there") });
    let variant = Variant::observed(unrelated_roots());
    let client = variant.builder().redirect(Policy::limited(5)).build().unwrap();
    let response = variant.send(client.get(web.url("/a"))).await.unwrap();
    assert_eq!(response.url().path(), "/b");
    response.bytes().await.unwrap();
    let trace = variant.finished();
    assert_eq!(trace.http_requests.len(), 1);
    assert_eq!(trace.http_requests[0].resp_status_code, 200);
}
