//! Where nothing went wrong, nothing is found.

use crate::{assert_nothing, client, explained, trace_of};
use futures_util::future::join_all;
use http::Request;
use nettrace::{
    Client, HeaderCapture, NetTrace, TraceSink,
    client::{Body, HttpVersion},
    linux::TcpInfoProbe,
    tls::Roots,
};
use std::{fs, path::Path};
use test_support::{
    dns::DnsServer,
    pki::Authority,
    raw::Server,
    web::{ReceivedRequest, Web, redirect, reply, status},
};

#[tokio::test]
async fn a_request_over_tls_with_a_redirect_and_a_lookup() {
    let (sink, authority) = (TraceSink::new(), Authority::new("nettrace test CA"));
    let web =
        Web::tls(authority.issue(&["web.test"]).server(), async |request: ReceivedRequest| {
            match request.path() {
                "/" => redirect(302, "/next"),
                _ => reply("hello"),
            }
        });
    let dns = DnsServer::answering(&["127.0.0.1"]).await;
    let roots = Roots::from_pem(authority.pem()).unwrap();
    let client = client(&sink).nameservers([dns.addr()]).roots(roots).build().unwrap();
    assert_nothing(&trace_of(&sink, &client, &format!("https://web.test:{}/", web.addr().port())).await);
}

#[tokio::test]
async fn a_page_that_is_missing_is_an_answer() {
    let (sink, web) = (TraceSink::new(), Web::start(async |_| status(404)));
    assert_nothing(&trace_of(&sink, &client(&sink).build().unwrap(), &web.url("/")).await);
}

/// Returns a client that records header fields, so that no rule lacks what it looks for.
fn seeing_all() -> (TraceSink, Client) {
    let sink = TraceSink::builder().headers(HeaderCapture::Values).probe(TcpInfoProbe::new()).build();
    let client = client(&sink).build().unwrap();
    (sink, client)
}

#[tokio::test]
async fn responses_without_a_body() {
    for (method, code) in [("GET", 204), ("GET", 304), ("HEAD", 200)] {
        let (sink, client) = seeing_all();
        let server = Server::start(async move |mut conn| {
            loop {
                conn.read_head().await?;
                conn.write(format!("HTTP/1.1 {code} OK\r\ncontent-length: 1000\r\n\r\n").as_bytes()).await?;
            }
        });
        let request = Request::builder().method(method).uri(format!("http://{}/", server.addr()));
        let response = client.request(request.body(Body::empty()).unwrap()).await.unwrap();
        assert!(response.into_body().bytes().await.unwrap().is_empty());
        client.close().await;
        assert_nothing(&sink.snapshot(""));
    }
}

#[tokio::test]
async fn a_response_of_which_the_program_wants_only_the_head() {
    let (sink, client) = seeing_all();
    let web = Web::start(async |_| reply(vec![b'x'; 1 << 20]));
    drop(client.get(web.url("/")).await.unwrap());
    client.close().await;
    assert_nothing(&sink.snapshot(""));
}

#[tokio::test]
async fn answers_that_refuse() {
    for code in [400, 401, 403, 404, 409, 410, 500, 501] {
        let ((sink, client), web) = (seeing_all(), Web::start(async move |_| status(code)));
        let response = client.post(web.url("/"), "some data").await.unwrap();
        response.into_body().bytes().await.unwrap();
        client.close().await;
        assert_nothing(&sink.snapshot(""));
    }
}

/// The client waits for the answer before it sends the body, which spares it.
#[tokio::test]
async fn an_expectation_that_fails() {
    let (sink, client) = seeing_all();
    let server = Server::answering(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n");
    let request = Request::post(format!("http://{}/", server.addr())).header("expect", "100-continue");
    let response = client.request(request.body(Body::from("data")).unwrap()).await.unwrap();
    assert_eq!(response.status(), 417);
    response.into_body().bytes().await.unwrap();
    client.close().await;
    assert_nothing(&sink.snapshot(""));
}

#[tokio::test]
async fn requests_at_the_same_time_and_one_after_the_other() {
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        let sink = TraceSink::builder().probe(TcpInfoProbe::new()).build();
        let web = Web::start(async |request: ReceivedRequest| reply(request.body));
        let client = client(&sink).http_version(version).build().unwrap();
        let upload = vec![b'x'; 300_000];
        for _ in 0..3 {
            let requests = (0..4).map(async |_| {
                let response = client.post(web.url("/"), upload.clone()).await.unwrap();
                response.into_body().bytes().await.unwrap()
            });
            join_all(requests).await;
        }
        client.close().await;
        assert_nothing(&sink.snapshot(""));
    }
}

#[tokio::test]
async fn many_requests_on_one_connection() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    let sink = TraceSink::new();
    let server = Server::answering(HEAD.as_bytes());
    let client = client(&sink).build().unwrap();
    for _ in 0..200 {
        let response = client.get(format!("http://{}/", server.addr())).await.unwrap();
        response.into_body().bytes().await.unwrap();
    }
    client.close().await;
    let trace = sink.snapshot("");
    assert_eq!(trace.tcp_conns.len(), 1);
    let explanation = explained(&trace);
    // A busy machine may delay one of so many responses, which then is slow indeed.
    let is_slow = |code: &str| code == "http_server_slow";
    assert!(explanation.findings.iter().all(|finding| is_slow(&finding.code)), "{explanation:#?}");
}

/// Traces that the Go package wrote have neither failure codes nor ends, so that nothing can be proven from them.
#[test]
fn traces_of_the_go_package() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/peer-json");
    let files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 10);
    for file in files {
        let trace: NetTrace = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let explanation = explained(&trace);
        assert!(explanation.is_empty(), "{}: {explanation:#?}", file.display());
    }
}
