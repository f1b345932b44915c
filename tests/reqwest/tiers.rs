//! Both ways of tracing reqwest, observing its client and sending through [`Client`], give the same responses and
//! records.

use std::collections::BTreeMap;
use std::time::Duration;

use nettrace::client::ClientError;
use nettrace::record::{EndReason, HttpReqTrace, NetTrace};
use nettrace::reqwest::{ClientAdapter, RequestBuilderExt as _};
use nettrace::tls::Roots;
use nettrace::{Client, Failure, ResponseExt as _, TraceSink};
use reqwest::{Body, RequestBuilder};
use tower::ServiceExt as _;

use crate::clients::{
    Answer, Variant, answer, answer_hello, hanging, talk, unrelated_roots, upgrading, variants,
    with_paused_clock,
};
use test_support::check;
use test_support::pki::Authority;
use test_support::raw::{Refused, Server};
use test_support::web::{ReceivedRequest, Web, redirect, reply};

/// An observed reqwest client and a [`Client`] that trust the same authority.
struct Tiers {
    observing: Variant,
    client: reqwest::Client,
    full: Client,
    sink: TraceSink,
}

impl Tiers {
    fn new(authority: &Authority) -> Self {
        let observing = Variant::observed(authority.store());
        let client = observing.builder().build().unwrap();
        let sink = TraceSink::new();
        let full = Client::builder(&sink).roots(Roots::from_pem(authority.pem()).unwrap()).user_agent(None);
        let full = full.compression(false).build().unwrap();
        Tiers { observing, client, full, sink }
    }

    /// Sends the request with both clients. Returns the response or the failure of each.
    async fn both(&self, make: impl Fn(&reqwest::Client) -> RequestBuilder) -> [Result<Answer, Failure>; 2] {
        let request = || make(&self.client).header("accept", "*/*");
        let observed = answer(self.observing.send(request()).await).await;
        let code = |trace: NetTrace| trace.http_requests.last().unwrap().failure.clone().expect("a failure");
        let observed = observed.map_err(|_| code(self.observing.sink.snapshot("")));
        let full = match request().send_through(&self.full).await {
            Ok(response) => Ok(answer(Ok(response)).await.unwrap()),
            Err(error) => Err(error.failure()),
        };
        [observed, full]
    }

    /// Returns the traces of both clients, in which every record must have ended.
    async fn traces(self) -> [NetTrace; 2] {
        let Tiers { observing, full, sink, .. } = self;
        full.close().await;
        let trace = sink.snapshot("full depth");
        check::finished(&trace);
        [observing.finished(), trace]
    }
}

/// Returns the fields that both record.
fn common_fields(record: &HttpReqTrace, trace: &NetTrace) -> BTreeMap<&'static str, String> {
    let conn = trace.tcp_conns.get(&record.tcp_conn);
    let tls = trace.tls_tunnels.get(&record.tls_tunnel);
    BTreeMap::from([
        ("method", record.req_method.to_string()),
        ("url", record.req_url.to_string()),
        ("status", record.resp_status_code.to_string()),
        ("sent", record.req_content_len.to_string()),
        ("received", record.resp_content_len.to_string()),
        ("failure", format!("{:?}", record.failure)),
        ("end", format!("{:?}", record.end_reason)),
        ("version", format!("{}.{}", record.proto_major, record.proto_minor)),
        ("is hop", record.prev_hop.is_undefined().to_string()),
        ("peer", conn.map_or(String::new(), |conn| conn.addr_tuple.dst_port.to_string())),
        ("server name", tls.map_or(String::new(), |tls| tls.server_name.to_string())),
        ("tls version", tls.map_or(String::new(), |tls| tls.tls_version.to_string())),
        ("certificates", tls.map_or(String::new(), |tls| format!("{:?}", tls.peer_certs))),
        ("tls failure", format!("{:?}", tls.map(|tls| &tls.failure))),
    ])
}

#[tokio::test]
async fn responses_and_records_over_http_and_https_are_the_same() {
    let authority = Authority::new("known");
    let answers = async |request: test_support::web::ReceivedRequest| match request.path() {
        "/a" => redirect(302, "/b"),
        "/empty" => reply(""),
        _ => reply(format!("{} {:?}", request.method, request.body)),
    };
    let plain = Web::start(answers);
    let secure = Web::tls(authority.issue(&["127.0.0.1"]).server(), answers);
    let tiers = Tiers::new(&authority);
    for base in [format!("http://{}", plain.addr()), format!("https://{}", secure.addr())] {
        for (method, path) in
            [("GET", "/"), ("POST", "/x"), ("HEAD", "/x"), ("GET", "/empty"), ("GET", "/b?c#d")]
        {
            let url = format!("{base}{path}");
            let make = |client: &reqwest::Client| {
                let request = client.request(method.parse().unwrap(), &url);
                if method == "POST" { request.body("data") } else { request }
            };
            let [observed, full] = tiers.both(make).await;
            assert_eq!(observed, full, "{method} {url}");
            assert!(observed.is_ok());
        }
        let [observed, full] = tiers.both(|client| client.get(format!("{base}/a"))).await;
        // The requests differ in `Referer`, which `Client` sends as Go's client does.
        assert_eq!(observed, full);
        assert_eq!(full.unwrap().url, format!("{base}/b"));
    }
    let [observed, full] = tiers.traces().await;
    let mut seen = [&observed, &full].map(|trace| {
        let all = trace.http_requests.iter().map(|record| common_fields(record, trace));
        all.collect::<Vec<_>>()
    });
    // For a hop that it follows, reqwest reports neither the connection nor the length of the body.
    for hops in seen.iter_mut() {
        for hop in hops.iter_mut().filter(|hop| hop["status"] == "302") {
            hop.retain(|what, _| ["method", "url", "status", "failure", "end"].contains(what));
        }
    }
    assert_eq!(seen[0], seen[1]);
    // Only `Client` records socket operations and cipher suites.
    assert!(full.tcp_conns.iter().all(|conn| conn.socket_trace.is_some() && conn.total_sent_bytes > 0));
    assert!(observed.tcp_conns.iter().all(|conn| conn.socket_trace.is_none()));
    assert!(full.tls_tunnels[0].cipher_suite != 0 && observed.tls_tunnels[0].cipher_suite == 0);
}

#[tokio::test]
async fn failures_are_the_same() {
    let (known, unknown) = (Authority::new("known"), Authority::new("unknown"));
    let untrusted = Web::tls(unknown.issue(&["127.0.0.1"]).server(), async |_| reply("hello"));
    let misnamed = Web::tls(known.issue(&["else.test"]).server(), async |_| reply("hello"));
    let closing = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.close().await
    });
    let no_tls = Server::start(async |conn| answer_hello(conn).await);
    let hanging = Server::start(async |conn| conn.hang().await);
    let looping = Web::start(async |_| redirect(302, "/"));
    let refused = Refused::on("127.0.0.1:0");
    let cases = [
        (format!("https://{}/", untrusted.addr()), Failure::SslUnknownAuthority),
        (format!("https://{}/", misnamed.addr()), Failure::SslInvalidHostname),
        (format!("http://{}/", closing.addr()), Failure::EofError),
        (format!("https://{}/", no_tls.addr()), Failure::TlsNotTls),
        (format!("http://{}/", hanging.addr()), Failure::GenericTimeoutError),
        (format!("http://{}/", refused.addr), Failure::ConnectionRefused),
        (looping.url("/"), Failure::TooManyRedirects),
    ];
    for (url, code) in cases {
        let tiers = Tiers::new(&known);
        let limit = Duration::from_secs(if code == Failure::GenericTimeoutError { 0 } else { 60 });
        let limit = limit + Duration::from_millis(100);
        let both = tiers.both(|client| client.get(&url).timeout(limit)).await;
        assert_eq!(both, [Err(code.clone()), Err(code.clone())], "{url}");
        let traces = tiers.traces().await;
        if code != Failure::TooManyRedirects {
            assert_eq!(
                traces.each_ref().map(|trace| trace.http_requests[0].failure.clone()),
                [Some(code.clone()), Some(code)]
            );
        }
        let tls = traces.each_ref().map(|trace| {
            let all = trace.tls_tunnels.iter();
            all.map(|tls| (tls.failure.clone(), tls.peer_certs.clone(), tls.server_name.clone()))
                .collect::<Vec<_>>()
        });
        assert_eq!(tls[0], tls[1]);
    }
}

#[tokio::test]
async fn send_through_returns_a_response_of_reqwest_or_a_failure() {
    let sink = TraceSink::new();
    let client = Client::builder(&sink).build().unwrap();
    let web = Web::start(async |request| reply(request.body));
    let reqwest = Variant::observed(unrelated_roots()).builder().build().unwrap();

    let pieces = ["one", "two"].map(Ok::<_, std::io::Error>);
    let stream = Body::wrap_stream(futures_util::stream::iter(pieces));
    let response = reqwest.post(web.url("/")).body(stream).send_through(&client).await.unwrap();
    assert_eq!(response.remote_addr(), Some(web.addr()));
    let handle = response.request_handle().expect("a request handle").clone();
    assert_eq!(response.text().await.unwrap(), "onetwo");
    assert!(handle.timings().unwrap().connect.is_some());

    // The adapter as a service. The request asks for a version that the connection does not speak.
    let mut request = reqwest.get(web.url("/")).build().unwrap();
    *request.version_mut() = reqwest::Version::HTTP_2;
    let error = ClientAdapter::new(&client).oneshot(request).await.expect_err("an HTTP/1 connection");
    assert_eq!(error.failure(), Failure::InvalidArgument);

    let error = reqwest.get("http://[bad/").send_through(&client).await.unwrap_err();
    assert_eq!(error.failure(), Failure::InvalidArgument);
    client.close().await;
    check::finished(&sink.snapshot(""));
}

/// Compares the timeout of a request and the timeout of the client with the timeout of an untraced reqwest client.
#[tokio::test]
async fn timeouts_apply_to_the_response_body() {
    let server = hanging();
    let url = format!("http://{}/body", server.addr());
    let untraced = Variant::untraced(unrelated_roots()).builder().build().unwrap();
    let response = untraced.get(&url).timeout(Duration::from_secs(30)).send().await.unwrap();
    let expected = with_paused_clock(response.bytes()).await.unwrap_err();
    assert!(expected.is_timeout());

    let sink = TraceSink::new();
    let client = Client::builder(&sink).timeout(Duration::from_secs(60)).build().unwrap();
    let reqwest = Variant::observed(unrelated_roots()).builder().build().unwrap();
    for limit in [Some(Duration::from_secs(30)), None] {
        let request = reqwest.get(&url);
        let request = limit.into_iter().fold(request, RequestBuilder::timeout);
        let response = request.send_through(&client).await.unwrap();
        let error = with_paused_clock(response.bytes()).await.unwrap_err();
        assert_eq!((error.is_timeout(), error.is_decode()), (true, expected.is_decode()), "{error:?}");
        // The error of `Client` is in the chain.
        let mut next = std::error::Error::source(&error);
        let own = loop {
            let error = next.expect("a `ClientError` in the chain");
            if let Some(own) = error.downcast_ref::<ClientError>() {
                break own;
            }
            next = error.source();
        };
        assert_eq!(own.failure(), Failure::GenericTimeoutError);
    }
    client.close().await;
    let trace = sink.snapshot("");
    check::finished(&trace);
    assert_eq!(trace.http_requests.len(), 2);
    for record in &trace.http_requests {
        assert_eq!(
            (&record.failure, &record.end_reason),
            (&Some(Failure::GenericTimeoutError), &Some(EndReason::Timeout))
        );
    }
}

#[tokio::test]
async fn send_through_supports_upgrades_and_redirected_bodies() {
    let server = upgrading();
    let web = Web::start(
        async |request| if request.path() == "/a" { redirect(307, "/b") } else { reply(request.body) },
    );
    let sink = TraceSink::new();
    let client = Client::builder(&sink).build().unwrap();
    let reqwest = Variant::observed(unrelated_roots()).builder().build().unwrap();
    let request = reqwest.get(format!("http://{}/", server.addr()));
    let request = request.header("connection", "upgrade").header("upgrade", "echo");
    assert_eq!(talk(request.send_through(&client).await.unwrap()).await, "hiecho");

    let response = reqwest.post(web.url("/a")).body("data").send_through(&client).await.unwrap();
    assert_eq!(response.url().as_str(), web.url("/b"));
    assert_eq!(response.text().await.unwrap(), "data");
    client.close().await;
    check::finished(&sink.snapshot(""));
}

/// A redirect to another port of the same host drops credentials, as with reqwest.
#[tokio::test]
async fn redirects_drop_credentials_as_reqwest_does() {
    let there = Web::start(async |request: ReceivedRequest| {
        let names = ["authorization", "cookie", "x-mine"];
        reply(names.map(|name| request.header(name).to_owned()).join(","))
    });
    let elsewhere = there.url("/there");
    let web = Web::start(async move |request: ReceivedRequest| match request.path() {
        "/port" => redirect(302, &elsewhere),
        "/path" => redirect(302, "/here"),
        _ => {
            let names = ["authorization", "cookie", "x-mine"];
            reply(names.map(|name| request.header(name).to_owned()).join(","))
        }
    });
    let [untraced, ..] = variants(unrelated_roots());
    let untraced = untraced.builder().build().unwrap();
    let full = Client::builder(&TraceSink::new()).build().unwrap();
    for (path, expected) in [("/port", ",,kept"), ("/path", "Bearer secret,a=b,kept")] {
        let request = || {
            let request = untraced.get(web.url(path)).bearer_auth("secret");
            request.header("cookie", "a=b").header("x-mine", "kept")
        };
        let without = request().send().await.unwrap().text().await.unwrap();
        let with = request().send_through(&full).await.unwrap().text().await.unwrap();
        assert_eq!((without.as_str(), with.as_str()), (expected, expected), "{path}");
        let preset = http::Request::get(web.url(path)).header("authorization", "Bearer secret");
        let preset = preset.header("cookie", "a=b").header("x-mine", "kept");
        let response = full.request(preset.body(nettrace::client::Body::empty()).unwrap()).await.unwrap();
        let own = response.into_body().bytes().await.unwrap();
        assert_eq!(own, "Bearer secret,a=b,kept", "requests of `Client` itself follow Go's rule");
    }
}
