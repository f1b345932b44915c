//! Redirects. The client follows them by the same rules as the client of Go's `net/http`.

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use nettrace::Failure;
use nettrace::client::Body;
use nettrace::record::EndReason;

use crate::{client, read, request};
use test_support::dns::DnsServer;
use test_support::web::{ReceivedRequest, Web, redirect, reply};

/// Starts a server that redirects `/<status>` to `/to?q=1`, which returns the method, target, body and content headers
/// of its request.
fn web() -> Web {
    Web::start(async |request: ReceivedRequest| match request.path().trim_start_matches('/').parse() {
        Ok(status) => redirect(status, "to?q=1"),
        Err(_) => reply(format!(
            "{} {} {} {}{}",
            request.method,
            request.uri,
            String::from_utf8_lossy(&request.body),
            request.header("content-type"),
            request.header("content-length"),
        )),
    })
}

#[tokio::test]
async fn the_status_of_a_redirect_determines_the_method_and_body() {
    let (web, (client, _)) = (web(), client(|builder| builder));
    let headers = [("content-type", "text/plain"), ("content-encoding", "none"), ("content-language", "en")];
    for (status, method, expected) in [
        (301, "POST", "GET /to?q=1  "),
        (302, "PUT", "GET /to?q=1  "),
        (303, "DELETE", "GET /to?q=1  "),
        (302, "GET", "GET /to?q=1  "),
        (307, "POST", "POST /to?q=1 data text/plain4"),
        (308, "PUT", "PUT /to?q=1 data text/plain4"),
    ] {
        let body = if method == "GET" { Body::empty() } else { Body::from("data") };
        let request = request(method, &web.url(&format!("/{status}")), &headers, body);
        assert_eq!(read(client.request(request).await).await.1, expected, "{status} {method}");
        let last = web.requests().pop().unwrap();
        if expected.starts_with("GET") {
            let removed = [
                "content-type",
                "content-encoding",
                "content-language",
                "content-length",
                "transfer-encoding",
            ];
            assert!(removed.iter().all(|name| !last.headers.contains_key(*name)), "{:?}", last.headers);
        }
    }
    for status in [301, 302, 303, 307, 308] {
        client.head(web.url(&format!("/{status}"))).await.unwrap();
        assert_eq!(web.requests().pop().unwrap().method, "HEAD");
    }
}

/// A stream cannot be sent twice. A redirect that drops the body is followed.
#[tokio::test]
async fn a_redirect_that_needs_a_streamed_body_again_is_the_response() {
    let (web, (client, sink)) = (web(), client(|builder| builder));
    let stream = || {
        let pieces = [Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"data")))];
        Body::new(StreamBody::new(futures_util::stream::iter(pieces)))
    };
    for status in [307, 308] {
        let url = web.url(&format!("/{status}"));
        let response = client.request(request("POST", &url, &[], stream())).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["location"]),
            (status, &"to?q=1".parse().unwrap())
        );
        response.into_body().bytes().await.unwrap();
    }
    let response = client.request(request("POST", &web.url("/303"), &[], stream())).await;
    assert_eq!(read(response).await.1, "GET /to?q=1  ");
    assert!(sink.snapshot("").http_requests.iter().all(|hop| hop.end_reason == Some(EndReason::Closed)));
}

#[tokio::test]
async fn a_body_that_one_redirect_drops_is_not_sent_after_the_next() {
    let web = Web::start(async |request: ReceivedRequest| match request.path() {
        "/1" => redirect(303, "/2"),
        "/2" => redirect(307, "/3"),
        _ => reply(format!("{} {}", request.method, request.body.len())),
    });
    let (client, _) = client(|builder| builder);
    assert_eq!(read(client.post(web.url("/1"), "data").await).await.1, "GET 0");
}

#[tokio::test]
async fn a_location_is_resolved_against_the_url_of_the_request() {
    let web = Web::start(async |request: ReceivedRequest| {
        let to = |host: &str| match request.path() {
            "/a/relative" => "c".to_owned(),
            "/a/up" => "../c".to_owned(),
            "/a/absolute" => "/c".to_owned(),
            "/a/dot" => "./".to_owned(),
            "/a/fragment" => "d#top".to_owned(),
            "/a/host" => format!("//{host}/e"),
            "/a/whole" => format!("http://{host}/f?g=h"),
            _ => String::new(),
        };
        match to(request.header("host")) {
            end if end.is_empty() => reply(request.uri.to_string()),
            location => redirect(302, &location),
        }
    });
    let (client, _) = client(|builder| builder);
    for (path, expected) in [
        ("relative", "/a/c"),
        ("up", "/c"),
        ("absolute", "/c"),
        ("dot", "/a/"),
        ("fragment", "/a/d"),
        ("host", "/e"),
        ("whole", "/f?g=h"),
    ] {
        assert_eq!(read(client.get(web.url(&format!("/a/{path}"))).await).await.1, expected);
    }
}

#[tokio::test]
async fn redirects_that_cannot_be_followed_are_the_response_or_an_error() {
    let web = Web::start(async |request: ReceivedRequest| match request.path() {
        "/none" => test_support::web::status(302),
        "/ftp" => redirect(302, "ftp://web.test/"),
        "/bad" => redirect(302, "http://[bad/"),
        "/304" => redirect(304, "/"),
        _ => redirect(300, "/"),
    });
    let (client, _) = client(|builder| builder);
    for path in ["/none", "/304", "/300"] {
        let response = client.get(web.url(path)).await.unwrap();
        assert!(response.status().is_redirection(), "{path}");
    }
    for path in ["/ftp", "/bad"] {
        let error = client.get(web.url(path)).await.unwrap_err();
        assert_eq!(error.failure(), Failure::InvalidRedirect);
        assert!(error.to_string().starts_with("cannot follow the redirect (302 Found): "), "{error}");
        assert_eq!(error.request().trace().http_requests[0].resp_status_code, 302);
    }
    assert_eq!(web.requests().len(), 5);
}

#[tokio::test]
async fn the_number_of_redirects_is_limited() {
    let web = Web::start(async |request: ReceivedRequest| {
        let n: usize = request.path().trim_start_matches('/').parse().unwrap();
        if n == 0 { reply("the end") } else { redirect(302, &format!("/{}", n - 1)) }
    });
    let (default, sink) = client(|builder| builder);
    assert_eq!(read(default.get(web.url("/9")).await).await.1, "the end");
    let error = default.get(web.url("/10")).await.unwrap_err();
    assert_eq!(error.failure(), Failure::TooManyRedirects);
    assert_eq!(error.to_string(), "gave up after 9 redirects");
    assert_eq!(error.request().trace().http_requests.len(), 10);
    let trace = sink.snapshot("");
    let failed = |hop: &&nettrace::record::HttpReqTrace| hop.end_reason != Some(EndReason::Closed);
    let failed: Vec<_> = trace.http_requests.iter().filter(failed).collect();
    assert_eq!(failed.len(), 1, "only the last hop, which was not followed");
    assert_eq!(
        (failed[0].trace_id.clone(), &failed[0].failure),
        (error.request().id(), &Some(error.failure()))
    );

    let (few, _) = client(|builder| builder.max_redirects(1));
    assert_eq!(read(few.get(web.url("/1")).await).await.1, "the end");
    assert_eq!(few.get(web.url("/2")).await.unwrap_err().failure(), Failure::TooManyRedirects);
    let (none, _) = client(|builder| builder.max_redirects(0));
    assert_eq!(none.get(web.url("/1")).await.unwrap().status(), 302);
}

/// Headers with credentials, and one without.
const HEADERS: [(&str, &str); 4] =
    [("authorization", "Bearer x"), ("cookie", "a=b"), ("proxy-authorization", "Basic y"), ("x-other", "z")];

/// Once a redirect to another host has removed the credentials, they are not sent to the first host again either.
#[tokio::test]
async fn credentials_are_sent_only_to_the_first_host_and_its_subdomains() {
    let web = Web::start(async |request: ReceivedRequest| {
        let host = request.header("host").split(':').next().unwrap_or_default().to_owned();
        let port = request.header("host").rsplit(':').next().unwrap_or_default().to_owned();
        match (host.as_str(), request.path()) {
            ("a.test", "/sub") => redirect(302, &format!("http://sub.a.test:{port}/end")),
            ("a.test", "/same") => redirect(302, "/end"),
            ("a.test", "/other") => redirect(302, &format!("http://nota.test:{port}/back")),
            ("sub.a.test", "/up") => redirect(302, &format!("http://a.test:{port}/end")),
            ("nota.test", "/back") => redirect(302, &format!("http://a.test:{port}/end")),
            _ => {
                let kept = HEADERS.iter().filter(|(name, _)| request.headers.contains_key(*name));
                reply(kept.map(|(name, _)| *name).collect::<Vec<_>>().join(" "))
            }
        }
    });
    let nameserver = DnsServer::answering(&["127.0.0.1"]).await;
    let (client, _) = client(|builder| builder.nameservers([nameserver.addr()]));
    let all = HEADERS.map(|(name, _)| name).join(" ");
    for (host, path, kept) in [
        ("a.test", "/same", all.as_str()),
        ("a.test", "/sub", &all),
        ("sub.a.test", "/up", "x-other"),
        ("a.test", "/other", "x-other"),
    ] {
        let url = format!("http://{host}:{}{path}", web.addr().port());
        let response = client.request(request("GET", &url, &HEADERS, Body::empty())).await;
        assert_eq!(read(response).await.1, kept, "{host}{path}");
    }
}

#[tokio::test]
async fn a_redirect_sets_the_referer_and_keeps_an_explicit_host_on_the_same_server() {
    let end = async |request: ReceivedRequest| match request.path() {
        "/start" => redirect(302, "/end"),
        "/away" => redirect(302, request.uri.query().unwrap_or_default()),
        _ => reply(format!("{}|{}", request.header("host"), request.header("referer"))),
    };
    let (first, second) = (Web::start(end), Web::start(end));
    let (client, _) = client(|builder| builder);
    let get = async |url: &str, headers: &[(&str, &str)]| {
        read(client.request(request("GET", url, headers, Body::empty())).await).await.1
    };
    let start = first.url("/start?x=1");
    assert_eq!(get(&start, &[]).await, format!("{}|{start}", first.addr()));
    assert_eq!(
        get(&start, &[("referer", "http://mine.test/")]).await,
        format!("{}|http://mine.test/", first.addr())
    );
    assert_eq!(get(&start, &[("host", "virtual.test")]).await, format!("virtual.test|{start}"));
    let away = first.url(&format!("/away?{}", second.url("/end")));
    assert_eq!(get(&away, &[("host", "virtual.test")]).await, format!("{}|{away}", second.addr()));
}

#[tokio::test]
async fn a_redirect_from_https_to_http_sends_no_referer() {
    let authority = test_support::pki::Authority::new("redirects");
    let plain = Web::start(async |request: ReceivedRequest| reply(request.header("referer").to_owned()));
    let to = plain.url("/");
    let secure =
        Web::tls(
            authority.issue(&["127.0.0.1"]).server(),
            async move |request: ReceivedRequest| match request.path() {
                "/out" => redirect(302, &to),
                "/in" => redirect(302, "/end"),
                _ => reply(request.header("referer").to_owned()),
            },
        );
    let roots = nettrace::tls::Roots::from_pem(authority.pem()).unwrap();
    let (client, _) = client(|builder| builder.roots(roots));
    let url = format!("https://{}", secure.addr());
    assert_eq!(read(client.get(format!("{url}/out")).await).await.1, "");
    assert_eq!(read(client.get(format!("{url}/in")).await).await.1, format!("{url}/in"));
}

/// A short body is read so that the connection can be reused. Dropping a long one is not a failure of the hop.
#[tokio::test]
async fn a_short_redirect_body_is_read_and_a_long_one_is_dropped() {
    let web = Web::start(async |request: ReceivedRequest| {
        let body = match request.path() {
            "/short" => vec![b'x'; 2000],
            "/long" => vec![b'x'; 1 << 20],
            _ => return reply("the end"),
        };
        let (mut head, _) = redirect(302, "/end").into_parts();
        head.headers.remove("content-length");
        http::Response::from_parts(head, reply(body).into_body())
    });
    for (path, connections) in [("/short", 1), ("/long", 2)] {
        let (client, sink) = client(|builder| builder);
        read(client.get(web.url(path)).await).await;
        let trace = sink.snapshot("");
        assert_eq!(trace.tcp_conns.len(), connections, "{path}");
        assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::Closed), "{path}");
        assert_eq!(trace.http_requests[0].resp_body_end_at.is_undefined(), path == "/long");
    }
}
