//! Redaction: no output of a sink contains secrets.

use std::sync::{Arc, Mutex, OnceLock};

use http::{HeaderMap, HeaderName, Request, Response, header};
use http_body_util::{BodyExt, StreamBody};
use nettrace::{
    FinishedRecord, HeaderCapture, NetTrace, RequestHandle, TraceSink, TraceSinkBuilder,
    connect::TcpConnector, record::HttpHeaders,
};
use tower::{Layer, Service};

use crate::mock::{self, Body};
use test_support::check;

const REQUEST: [(&str, &str); 5] = [
    ("accept", "text/plain"),
    ("authorization", "Bearer secret-1"),
    ("proxy-authorization", "Basic secret-2"),
    ("cookie", "session=secret-3"),
    ("x-mine", "open"),
];
const RESPONSE: [(&str, &str); 3] =
    [("content-type", "text/plain"), ("set-cookie", "session=secret-4"), ("set-cookie", "other=secret-5")];

/// The output of a sink for one exchange.
struct Shown {
    trace: NetTrace,
    /// The JSON and all `Debug` output, also from before the exchange was complete.
    text: String,
}

impl Shown {
    async fn with(builder: TraceSinkBuilder, uri: &str) -> Self {
        let published = Arc::<Mutex<Vec<FinishedRecord>>>::default();
        let subscriber = published.clone();
        let sink = builder
            .subscriber(move |record: &FinishedRecord| subscriber.lock().unwrap().push(record.clone()))
            .build();
        let handle = RequestHandle::new();
        let mut request = Request::builder().uri(uri).body(Body::default()).unwrap();
        *request.headers_mut() = headers(&REQUEST);
        request.extensions_mut().insert(handle.clone());
        let response = mock::exchange(&sink, request, || {
            let mut response = Response::new(Body::from("hello"));
            *response.headers_mut() = headers(&RESPONSE);
            response
        });
        let response = response.await;
        let while_it_runs = format!("{sink:?} {handle:?} {:?} {:?}", handle.trace(), response.body());
        mock::finish(response).await;
        let trace = sink.snapshot("all");
        check::finished(&trace);
        let json = serde_json::to_string(&trace).unwrap();
        let text = format!("{while_it_runs} {json} {trace:?} {sink:?} {handle:?} {published:?}");
        Shown { trace, text }
    }

    async fn captured(capture: HeaderCapture) -> Self {
        Self::with(TraceSink::builder().headers(capture), "/").await
    }

    fn headers(&self) -> [&HttpHeaders; 2] {
        let request = &self.trace.http_requests[0];
        [&request.req_header, &request.resp_header]
    }

    fn field(&self, name: &str) -> Option<(&str, u32)> {
        let field = self.headers().into_iter().find_map(|headers| headers.get(name));
        field.map(|field| (field.field_val.as_str(), field.field_val_len))
    }
}

#[tokio::test]
async fn header_fields_follow_the_capture_policy() {
    let off = Shown::with(TraceSink::builder(), "/").await;
    assert!(off.headers().iter().all(|headers| headers.is_empty()));

    let names = Shown::captured(HeaderCapture::Names).await;
    assert_eq!(names.headers().map(|headers| headers.len()), [5, 3]);
    assert_eq!(names.field("Accept"), Some(("", 0)));

    let lengths = Shown::captured(HeaderCapture::Lengths).await;
    assert_eq!(lengths.field("accept"), Some(("", 10)));
    assert_eq!(lengths.field("authorization"), Some(("", 15)));

    let values = Shown::captured(HeaderCapture::Values).await;
    assert_eq!(values.field("accept"), Some(("text/plain", 10)));
    assert_eq!(values.field("authorization"), Some(("", 15)));
    assert_eq!(values.headers()[1].get_all("set-cookie").count(), 2);

    for shown in [off, names, lengths, values] {
        assert!(!shown.text.contains("secret-"), "{}", shown.text);
    }
}

#[tokio::test]
async fn only_the_named_headers_are_revealed() {
    let builder = TraceSink::builder()
        .headers(HeaderCapture::Values)
        .reveal_headers([header::COOKIE])
        .exclude_header(|name: &HeaderName| name == "x-mine" || *name == header::SET_COOKIE);
    let shown = Shown::with(builder, "/").await;
    assert_eq!(shown.field("cookie"), Some(("session=secret-3", 16)));
    assert_eq!(shown.field("x-mine"), None);
    assert_eq!(shown.headers().map(|headers| headers.len()), [4, 1]);
    for secret in ["secret-1", "secret-2", "secret-4", "secret-5"] {
        assert!(!shown.text.contains(secret), "{}", shown.text);
    }
}

#[tokio::test]
async fn trailers_are_redacted() {
    let sink = TraceSink::builder().headers(HeaderCapture::Values).build();
    let trailers = headers(&[("set-cookie", "a=secret-6"), ("x-sum", "42")]);
    let frames = [Ok::<_, std::io::Error>(http_body::Frame::<bytes::Bytes>::trailers(trailers))];
    let body = Mutex::new(Some(StreamBody::new(futures_util::stream::iter(frames))));
    let service = tower::service_fn(|_: Request<nettrace::request::TraceBody<Body>>| {
        let response = Response::new(body.lock().unwrap().take().unwrap());
        async { Ok::<_, std::convert::Infallible>(response) }
    });
    let mut service = nettrace::request::TraceRequestLayer::new(&sink).layer(service);
    let response = service.call(Request::new(Body::default())).await.unwrap();
    response.into_body().collect().await.unwrap();
    let trace = sink.snapshot("all");
    assert_eq!(trace.http_requests[0].trailers.len(), 2);
    assert!(!format!("{trace:?} {sink:?}").contains("secret-6"));
}

#[tokio::test]
async fn user_info_and_queries_of_urls_are_masked() {
    let uri = "http://joe:secret-7@example.test:81/path?token=secret-8";
    let shown = Shown::with(TraceSink::builder(), uri).await;
    assert_eq!(shown.trace.http_requests[0].req_url, "http://***@example.test:81/path?token=secret-8");
    assert!(!shown.text.contains("secret-7"));
    let masked = Shown::with(TraceSink::builder().mask_query(true), uri).await;
    assert_eq!(masked.trace.http_requests[0].req_url, "http://***@example.test:81/path?***");
    assert!(!masked.text.contains("secret-"));
}

#[tokio::test]
async fn a_password_in_an_address_is_in_no_output() {
    let sink = TraceSink::new();
    let connector = TcpConnector::new(&sink);
    for target in ["joe:secret-9@127.0.0.1:1", "http://joe:secret-9@127.0.0.1:1/"] {
        let error = connector.connect(target).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret-9"), "{error:?}");
    }
    let uri = "http://joe:secret-9@127.0.0.1:1/".parse().unwrap();
    let error = connector.clone().call(uri).await.unwrap_err();
    let trace = sink.snapshot("all");
    check::finished(&trace);
    let json = serde_json::to_string(&trace).unwrap();
    assert!(!format!("{error:?} {error} {json} {trace:?} {sink:?}").contains("secret-9"), "{json}");
}

#[tokio::test]
async fn exclude_is_called_without_locks_and_its_panics_are_caught() {
    let cell = Arc::<OnceLock<TraceSink>>::default();
    let inner_cell = cell.clone();
    let sink =
        TraceSink::builder().headers(HeaderCapture::Values).exclude_header(move |name: &HeaderName| {
            if let Some(sink) = inner_cell.get() {
                sink.snapshot("inside");
            }
            assert!(*name != header::COOKIE, "deliberate panic");
            false
        });
    let sink = sink.build();
    cell.set(sink.clone()).unwrap();
    let mut request = Request::new(Body::default());
    *request.headers_mut() = headers(&REQUEST);
    mock::finish(mock::exchange(&sink, request, || Response::new(Body::default())).await).await;
    let trace = sink.snapshot("outside");
    check::finished(&trace);
    let headers = &trace.http_requests[0].req_header;
    assert!(headers.len() == 4 && headers.get("cookie").is_none(), "a field whose check panics is left out");
}

/// Makes one exchange whose response has these header fields, and asserts the value that is recorded for each.
async fn assert_recorded(
    builder: TraceSinkBuilder,
    fields: &'static [(&'static str, &'static str, &'static str)],
) {
    let sink = builder.headers(HeaderCapture::Values).build();
    let request = Request::builder().uri("/").body(Body::default()).unwrap();
    let response = mock::exchange(&sink, request, || {
        let mut response = Response::new(Body::from("hello"));
        let pairs: Vec<_> = fields.iter().map(|(name, value, _)| (*name, *value)).collect();
        *response.headers_mut() = headers(&pairs);
        response
    });
    mock::finish(response.await).await;
    let trace = sink.snapshot("all");
    for (name, value, shown) in fields {
        let field = trace.http_requests[0].resp_header.get(name).expect("the field");
        assert_eq!(field.field_val, *shown, "{name}: {value}");
    }
    let json = serde_json::to_string(&trace).unwrap();
    assert!(!json.contains("secret"), "{json}");
}

#[tokio::test]
async fn user_info_is_masked_in_every_field_that_may_hold_a_url() {
    assert_recorded(
        TraceSink::builder(),
        &[
            ("origin", "https://joe:secret@a.test", "https://***@a.test"),
            ("destination", "https://joe:secret@a.test/x?q=1", "https://***@a.test/x?q=1"),
            ("refresh", "5; url=http://joe:secret@a.test/x?q=1", "5; url=http://***@a.test/x?q=1"),
            (
                "link",
                "<http://joe:sec,ret/secret@a.test/x?q=1>; rel=next, <//joe:secret@b.test>; anchor=\"//c:secret@d\"",
                "<http://***@a.test/x?q=1>; rel=next, <//***@b.test>; anchor=\"//***@d\"",
            ),
            ("location", r"\\joe:secret@a.test/x", r"\\***@a.test/x"),
            ("x-other", "see ftp://joe:secret@a.test/@x, or //b.test", "see ftp://***@a.test/@x, or //b.test"),
            ("x-plain", "joe@a.test // c@d", "joe@a.test // c@d"),
        ],
    )
    .await;
}

#[tokio::test]
async fn queries_are_masked_in_every_field_that_may_hold_a_url() {
    assert_recorded(
        TraceSink::builder().mask_query(true),
        &[
            ("destination", "https://a.test/x?q=secret", "https://a.test/x?***"),
            ("refresh", "5; url=http://a.test/x?q=secret", "5; url=http://a.test/x?***"),
            ("link", "</x?q=secret>; rel=next, </y>; rel=last", "</x?***>; rel=next, </y>; rel=last"),
            ("x-plain", "is it?", "is it?"),
        ],
    )
    .await;
}

#[tokio::test]
async fn credentials_are_masked_in_all_usual_fields() {
    assert_recorded(
        TraceSink::builder(),
        &[
            ("cookie2", "secret", ""),
            ("set-cookie2", "secret", ""),
            ("x-api-key", "secret", ""),
            ("api-key", "secret", ""),
            ("x-auth-token", "secret", ""),
            ("x-csrf-token", "secret", ""),
            ("private-token", "secret", ""),
            ("x-amz-security-token", "secret", ""),
            ("x-goog-iam-authorization-token", "secret", ""),
            ("x-goog-iap-jwt-assertion", "secret", ""),
            ("x-goog-api-key", "secret", ""),
            ("x-forwarded-authorization", "secret", ""),
            ("authentication-info", "nextnonce=\"secret\"", ""),
            ("proxy-authentication-info", "nextnonce=\"secret\"", ""),
            (
                "www-authenticate",
                "Basic realm=\"secret, Digest x\", Digest nonce = secret,qop=\"a\"",
                "Basic ***, Digest ***",
            ),
            ("proxy-authenticate", "Negotiate secret==, NTLM", "Negotiate ***, NTLM"),
            ("etag", "\"not\"", "\"not\""),
            ("sec-websocket-key", "nonce", "nonce"),
            ("idempotency-key", "1", "1"),
        ],
    )
    .await;
}

#[tokio::test]
async fn every_field_can_be_revealed() {
    let names = ["www-authenticate", "x-api-key", "link"].map(HeaderName::from_static);
    assert_recorded(
        TraceSink::builder().reveal_headers(names),
        &[
            ("www-authenticate", "Basic realm=\"open\"", "Basic realm=\"open\""),
            ("x-api-key", "open", "open"),
            ("link", "<//joe:open@a.test>", "<//joe:open@a.test>"),
        ],
    )
    .await;
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}
