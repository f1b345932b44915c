//! Requests of every kind compared with nginx's log.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use nettrace::client::{Body, Client, HttpVersion};
use nettrace::record::HttpReqTrace;
use nettrace::{HeaderCapture, NetTrace, ResponseExt as _, TraceSink};

use crate::site::{Site, http, https};
use test_support::curl::Curl;
use test_support::nginx::Nginx;
use test_support::require::require_tool;

#[tokio::test]
async fn every_version_of_http_and_tls_matches_nginx() {
    require_tool!("nginx", "dnsmasq", "openssl");
    let site = Site::start();
    let Nginx { http: plain, h2c, https: tls, https_h1, tls12, tls13, .. } = site.nginx;
    let cases = [
        (HttpVersion::Auto, http(plain, "/hello"), "1.1", ""),
        (HttpVersion::Http2Only, http(h2c, "/hello"), "2.0", ""),
        (HttpVersion::Auto, https(tls, "/hello"), "2.0", "TLSv1.3"),
        (HttpVersion::PreferHttp1, https(tls, "/hello"), "2.0", "TLSv1.3"), // nginx prefers HTTP/2
        (HttpVersion::Http1Only, https(tls, "/hello"), "1.1", "TLSv1.3"),
        (HttpVersion::Http2Only, https(tls, "/hello"), "2.0", "TLSv1.3"),
        (HttpVersion::Auto, https(https_h1, "/hello"), "1.1", "TLSv1.3"),
        (HttpVersion::Auto, https(tls12, "/hello"), "2.0", "TLSv1.2"),
        (HttpVersion::Http1Only, https(tls12, "/hello"), "1.1", "TLSv1.2"),
        (HttpVersion::Auto, https(tls13, "/hello"), "2.0", "TLSv1.3"),
        (HttpVersion::Http1Only, https(tls13, "/hello"), "1.1", "TLSv1.3"),
    ];
    for (version, url, expected, tls) in cases {
        site.sink.clear();
        let client = site.client().http_version(version).build().unwrap();
        assert_eq!(
            fetch(&client, Method::GET, &url, Body::empty()).await,
            (StatusCode::OK, "hello\n".into())
        );
        let trace = site.trace_after(&client).await;

        let request = only(&trace);
        assert_eq!(format!("{}.{}", request.proto_major, request.proto_minor), expected, "{url}");
        let tunnel = trace.tls_tunnels.get(&request.tls_tunnel);
        assert_eq!(tunnel.map_or("", |tunnel| tunnel.tls_version.as_str()), tls, "{url}");
    }
}

#[tokio::test]
async fn responses_of_every_kind_match_nginx() {
    require_tool!("nginx", "dnsmasq", "openssl");
    let text = Bytes::from("All that glitters is not gold. ".repeat(10_000));
    let site = Site::with(|nginx| nginx.file("text", &text));
    let Nginx { http: plain, https: tls, .. } = site.nginx;
    let none = Bytes::new;
    let cases = [
        (Method::GET, "/hello", StatusCode::OK, "hello\n".into()),
        (Method::HEAD, "/hello", StatusCode::OK, none()),
        (Method::HEAD, "/chunked/text", StatusCode::OK, none()),
        (Method::GET, "/status/204", StatusCode::NO_CONTENT, none()),
        (Method::GET, "/files?none", StatusCode::NOT_FOUND, none()),
        (Method::GET, "/status/503", StatusCode::SERVICE_UNAVAILABLE, none()),
        (Method::GET, "/text", StatusCode::OK, text.clone()),
        (Method::GET, "/chunked/text", StatusCode::OK, text.clone()),
        (Method::GET, "/trailers/text", StatusCode::OK, text.clone()),
        (Method::GET, "/gzip/text", StatusCode::OK, text.clone()),
        (Method::GET, "/close", StatusCode::OK, "bye\n".into()),
        (Method::OPTIONS, "/hello?again", StatusCode::OK, "hello\n".into()),
    ];
    for base in [http(plain, ""), https(tls, "")] {
        site.sink.clear();
        let client = site.client().build().unwrap();
        let mut received = Vec::new();
        for (method, path, status, body) in cases.clone() {
            let answer = fetch(&client, method.clone(), &format!("{base}{path}"), Body::empty()).await;
            assert_eq!(answer.0, status, "{method} {path}");
            if status.is_success() {
                assert!(answer.1 == body, "{method} {path}: {} bytes", answer.1.len());
            } else {
                // nginx writes an error page.
                let page = String::from_utf8_lossy(&answer.1);
                assert!(page.contains(&format!("<h1>{} ", status.as_u16())), "{method} {path}: {page}");
            }
            received.push(answer.1.len() as u64);
        }
        let trace = site.trace_after(&client).await;

        let recorded: Vec<_> = trace.http_requests.iter().map(|request| request.resp_content_len).collect();
        assert_eq!(recorded, received);
        for request in &trace.http_requests {
            let gzip = request.req_url.contains("/gzip/");
            assert_eq!(request.resp_encoded_len.is_some(), gzip, "{request:#?}");
            let is_smaller = |encoded| encoded < request.resp_content_len / 10;
            assert!(request.resp_encoded_len.is_none_or(is_smaller), "{request:#?}");
        }
    }
}

/// curl requests gzip here but does not decode it, so it reports the encoded length.
#[tokio::test]
async fn encoded_and_decoded_lengths_are_recorded() {
    require_tool!("nginx", "dnsmasq", "curl");
    let text = "All that glitters is not gold. ".repeat(100);
    let site = Site::with(|nginx| nginx.file("text", text.as_bytes()));
    let url = http(site.nginx.http, "/gzip/text");
    let client = site.client().build().unwrap();
    let (_, body) = fetch(&client, Method::GET, &url, Body::empty()).await;
    assert_eq!(body, text);
    let trace = site.trace_after(&client).await;

    let curl = Curl::new(&format!("http://{}/gzip/text", site.nginx.http))
        .args(["--header", "accept-encoding: gzip"])
        .run();
    let request = only(&trace);
    assert_eq!(request.resp_encoded_len, Some(curl.size_download));
    assert_eq!(request.resp_content_len, text.len() as u64);
}

#[tokio::test]
async fn request_bodies_match_nginx() {
    require_tool!("nginx", "dnsmasq", "openssl");
    let site = Site::start();
    let Nginx { http: plain, https: tls, .. } = site.nginx;
    for url in [http(plain, "/upload"), https(tls, "/upload")] {
        site.sink.clear();
        let client = site.client().build().unwrap();
        let sizes = [0, 1, 1000, 3 << 20];
        for size in sizes {
            let (status, answer) = fetch(&client, Method::POST, &url, Body::from(vec![b'x'; size])).await;
            assert_eq!((status, answer), (StatusCode::OK, format!("received {size}\n").into()));
        }
        let trace = site.trace_after(&client).await;
        let sent: Vec<_> = trace.http_requests.iter().map(|request| request.req_content_len).collect();
        assert_eq!(sent, sizes.map(|size| size as u64));
    }
}

#[tokio::test]
async fn requested_trailers_are_recorded() {
    require_tool!("nginx", "dnsmasq", "openssl");
    let mut site = Site::with(|nginx| nginx.file("text", b"words"));
    site.sink = TraceSink::builder().headers(HeaderCapture::Values).build();
    let client = site.client().build().unwrap();
    for (version, base) in [("1.1", http(site.nginx.http, "")), ("2.0", https(site.nginx.https, ""))] {
        let mut request = Request::get(format!("{base}/trailers/text")).body(Body::empty()).unwrap();
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        let response = client.request(request).await.unwrap();
        let handle = response.request_handle().unwrap().clone();
        let body = response.into_body().collect().await.unwrap();
        let trailer = body.trailers().and_then(|trailers| trailers.get("x-trailer")).cloned();
        assert_eq!(trailer, Some(HeaderValue::from_static("last")), "HTTP/{version}");

        let trace = handle.trace();
        let request = only(&trace);
        let field = request.trailers.get("x-trailer").map(|field| field.field_val.as_str());
        assert_eq!(field, Some("last"), "HTTP/{version}");
        assert!(request.resp_header.get("server").unwrap().field_val.starts_with("nginx/"));
    }
    site.trace_after(&client).await;
}

#[tokio::test]
async fn every_redirect_hop_matches_nginx() {
    require_tool!("nginx", "dnsmasq", "openssl");
    let site = Site::start();
    for base in [http(site.nginx.http, ""), https(site.nginx.https, "")] {
        for (code, method) in [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")] {
            site.sink.clear();
            let client = site.client().build().unwrap();
            let url = format!("{base}/redirect/{code}");
            let response = client.post(&url, "data").await.unwrap();
            let handle = response.request_handle().unwrap().clone();
            response.into_body().bytes().await.unwrap();
            let trace = site.trace_after(&client).await;

            let [first, second] = &trace.http_requests[..] else { panic!("two hops: {trace:#?}") };
            assert_eq!((first.resp_status_code, first.prev_hop.is_undefined()), (code, true));
            assert_eq!((&*second.prev_hop, second.req_method.as_str()), (&first.trace_id, method));
            assert_eq!((&second.tcp_conn, handle.id()), (&first.tcp_conn, second.trace_id.clone()));
            assert_eq!(handle.trace().http_requests.len(), 2);
        }
    }

    let client = site.client().max_redirects(3).build().unwrap();
    site.sink.clear();
    let error = client.get(http(site.nginx.http, "/redirect/loop")).await.unwrap_err();
    let trace = site.trace_after(&client).await;
    assert_eq!(trace.http_requests.len(), 4);
    assert_eq!(error.request().trace().http_requests.len(), 4);
}

/// Makes a request and returns the status and the body of the response.
async fn fetch(client: &Client, method: Method, url: &str, body: Body) -> (StatusCode, Bytes) {
    let request = Request::builder().method(method).uri(url).body(body).unwrap();
    let response = client.request(request).await.unwrap();
    (response.status(), response.into_body().bytes().await.unwrap())
}

#[track_caller]
fn only(trace: &NetTrace) -> &HttpReqTrace {
    let [request] = &trace.http_requests[..] else { panic!("one request: {trace:#?}") };
    request
}
