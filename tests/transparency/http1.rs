//! The bytes on an HTTP/1.1 connection.

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::clients::{AnyClient, Endless, Hollow, Outcome, empty, exchange, full, request, same, stream};
use http_body_util::BodyExt as _;
use test_support::raw::{Conn, Seen, Server};

fn text(seen: &Seen) -> String {
    String::from_utf8_lossy(&seen.received).into_owned()
}

/// Returns the value of `content-length` in the head, or 0.
fn content_length(head: &str) -> usize {
    let mut lines = head.lines();
    lines.find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0)
}

/// Reads a request with its body.
async fn read_request(conn: &mut Conn) -> std::io::Result<String> {
    let head = conn.read_head().await?;
    conn.read(content_length(&head)).await?;
    if head.contains("transfer-encoding: chunked") {
        // Up to the empty line after the last chunk or after the trailers.
        conn.read_head().await?;
    }
    Ok(head)
}

/// Starts a server that reads whole requests and answers each according to its path.
fn server(answers: &'static [(&'static str, &'static str)]) -> Server {
    Server::start(async move |mut conn| {
        loop {
            let head = read_request(&mut conn).await?;
            let path = head.split(' ').nth(1).unwrap_or_default();
            let (_, answer) = answers.iter().find(|(known, _)| *known == path).expect("a known path");
            conn.write(answer.as_bytes()).await?;
            if answer.contains("connection: close") || answer.starts_with("HTTP/1.0") {
                return conn.close().await;
            }
        }
    })
}

/// Makes one request with every variant, and asserts that each succeeds and is recorded.
async fn check(
    server: &Server,
    make: impl Fn() -> http::Request<crate::clients::Payload>,
) -> (Outcome, Seen) {
    let (variants, outcome, seen) =
        same(server, async |client: &AnyClient| exchange(client, make()).await).await;
    for variant in &variants {
        let records = variant.sink.snapshot(variant.name).http_requests;
        assert_eq!(records.len(), usize::from(variant.is_traced()), "{}", variant.name);
        let ended =
            records.iter().all(|record| record.end_reason == Some(nettrace::record::EndReason::Closed));
        assert!(ended, "{}: {records:?}", variant.name);
    }
    let [seen] = seen.try_into().expect("one connection");
    (outcome.expect("a response"), seen)
}

#[tokio::test]
async fn a_response_body_of_known_length_is_the_same() {
    let server = server(&[("/", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")]);
    let (outcome, seen) = check(&server, || request("GET", &server, "/").body(empty()).unwrap()).await;
    assert_eq!((outcome.status, outcome.body.data.as_slice()), (StatusCode::OK, &b"hello"[..]));
    assert_eq!(outcome.body.hints, [(5, Some(5), false), (0, Some(0), true)]);
    assert_eq!(text(&seen), format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", server.addr()));
}

#[tokio::test]
async fn a_chunked_response_with_trailers_is_the_same() {
    let server = server(&[(
        "/",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
         3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 5\r\n\r\n",
    )]);
    let make = || request("GET", &server, "/").header("te", "trailers").body(empty()).unwrap();
    let (outcome, _) = check(&server, make).await;
    assert_eq!(outcome.body.data, b"abcde");
    assert_eq!(outcome.body.trailers.expect("trailers")["x-sum"], "5");
    assert_eq!(outcome.body.hints[0], (0, None, false));
}

#[tokio::test]
async fn a_response_body_that_ends_with_the_connection_is_the_same() {
    let server = server(&[
        ("/old", "HTTP/1.0 200 OK\r\n\r\nto the end"),
        ("/new", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nto the end"),
    ]);
    for path in ["/old", "/new"] {
        let (outcome, _) = check(&server, || request("GET", &server, path).body(empty()).unwrap()).await;
        assert_eq!(outcome.body.data, b"to the end");
    }
}

#[tokio::test]
async fn request_bodies_are_sent_the_same_way() {
    let server = server(&[("/", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")]);
    let (_, seen) = check(&server, || request("POST", &server, "/").body(full("data")).unwrap()).await;
    assert!(text(&seen).ends_with("content-length: 4\r\n\r\ndata"), "{}", text(&seen));

    let (_, seen) =
        check(&server, || request("PUT", &server, "/").body(stream(&["da", "ta"], None)).unwrap()).await;
    assert!(text(&seen).contains("transfer-encoding: chunked\r\n"), "{}", text(&seen));
    assert!(text(&seen).ends_with("2\r\nda\r\n2\r\nta\r\n0\r\n\r\n"), "{}", text(&seen));

    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("4"))]);
    let make = || {
        let request = request("POST", &server, "/").header("trailer", "x-sum");
        request.body(stream(&["data"], Some(trailers.clone()))).unwrap()
    };
    let (_, seen) = check(&server, make).await;
    assert!(text(&seen).ends_with("4\r\ndata\r\n0\r\nx-sum: 4\r\n\r\n"), "{}", text(&seen));

    // The caller sets the length.
    let make = || {
        let request = request("POST", &server, "/").header("content-length", "4");
        request.body(stream(&["da", "ta"], None)).unwrap()
    };
    let (_, seen) = check(&server, make).await;
    assert!(text(&seen).contains("content-length: 4\r\n") && text(&seen).ends_with("\r\n\r\ndata"));
}

#[tokio::test]
async fn an_empty_request_body_is_sent_the_same_way() {
    let server = server(&[("/", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")]);
    // Only the size hint shows that the body is empty.
    for method in ["POST", "PUT", "PATCH", "GET", "DELETE"] {
        let (_, seen) = check(&server, || request(method, &server, "/").body(Hollow.boxed()).unwrap()).await;
        assert!(text(&seen).contains("content-length: 0\r\n"), "{method}: {}", text(&seen));
        assert!(!text(&seen).contains("transfer-encoding"), "{method}: {}", text(&seen));
    }
    // `is_end_stream` returns `true` from the beginning.
    for body in [empty, || full("")] {
        let (_, seen) = check(&server, || request("DELETE", &server, "/").body(body()).unwrap()).await;
        assert_eq!(text(&seen), format!("DELETE / HTTP/1.1\r\nhost: {}\r\n\r\n", server.addr()));
        let make = || request("POST", &server, "/").header("content-length", "0").body(body()).unwrap();
        let (_, seen) = check(&server, make).await;
        assert!(text(&seen).contains("content-length: 0\r\n"), "{}", text(&seen));
    }
}

#[tokio::test]
async fn responses_without_a_body_are_the_same() {
    let server = server(&[
        ("/head", "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"),
        ("/chunked", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("/204", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("/304", "HTTP/1.1 304 Not Modified\r\ncontent-length: 1000\r\netag: \"x\"\r\n\r\n"),
        ("/empty", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ]);
    for (method, path) in
        [("HEAD", "/head"), ("HEAD", "/chunked"), ("GET", "/204"), ("GET", "/304"), ("GET", "/empty")]
    {
        let make = || request(method, &server, path).body(empty()).unwrap();
        // The second request uses the same connection, in which no byte of the first response may be left.
        let twice =
            async |client: &AnyClient| (exchange(client, make()).await, exchange(client, make()).await);
        let (_, outcomes, seen) = same(&server, twice).await;
        let first = outcomes.0.expect("a response");
        assert_eq!(first.body.hints, [(0, Some(0), true); 2], "{method} {path}");
        assert!(first.body.data.is_empty() && outcomes.1.as_ref() == Ok(&first));
        assert_eq!(seen.len(), 1, "{method} {path}");
    }
}

#[tokio::test]
async fn a_response_before_the_end_of_the_request_is_the_same() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.read("5\r\nbegin\r\n".len()).await?;
        conn.write(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\n\r\nno!").await?;
        conn.close().await
    });
    let make = || request("POST", &server, "/").body(Endless(Some("begin".into())).boxed()).unwrap();
    let (outcome, seen) = check(&server, make).await;
    assert_eq!((outcome.status.as_u16(), outcome.body.data.as_slice()), (413, &b"no!"[..]));
    assert!(text(&seen).ends_with("\r\n\r\n5\r\nbegin\r\n"), "{}", text(&seen));
}

#[tokio::test]
async fn header_fields_are_sent_unchanged() {
    let server = server(&[(
        "/a/b?c=d%20e",
        "HTTP/1.1 299 So So\r\nX-Many: 1\r\nx-many: 2\r\ncontent-length: 0\r\n\r\n",
    )]);
    let make = || {
        let request =
            request("PROPFIND", &server, "/a/b?c=d%20e").header("x-many", "1").header("x-many", "2");
        request.header("host", "elsewhere.test").header("x-bytes", &b"\xe9\xff"[..]).body(empty()).unwrap()
    };
    let (outcome, seen) = check(&server, make).await;
    assert_eq!(outcome.headers.get_all("x-many").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert!(seen.received.starts_with(b"PROPFIND /a/b?c=d%20e HTTP/1.1\r\n"));
    assert!(
        seen.received
            .windows(15)
            .any(|part| part == b"x-bytes: \xe9\xff\r\nho" || part.starts_with(b"x-bytes: \xe9\xff"))
    );
    assert!(text(&seen).contains("host: elsewhere.test\r\n"));
}

#[tokio::test]
async fn an_http_1_0_request_is_sent_as_http_1_0() {
    let server = server(&[("/", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok")]);
    let make = || request("GET", &server, "/").version(http::Version::HTTP_10).body(empty()).unwrap();
    let (outcome, seen) = check(&server, make).await;
    assert_eq!((outcome.version, outcome.body.data.as_slice()), (http::Version::HTTP_10, &b"ok"[..]));
    assert!(text(&seen).starts_with("GET / HTTP/1.0\r\n"));
}
