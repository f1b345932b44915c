//! Messages of HTTP/1.

use crate::fixture::{Conn, conn_of, connector, finished, only_request, pool};
use http_body_util::BodyExt as _;
use nettrace::{
    HeaderCapture, TraceSink,
    record::{EndReason, HttpReqTrace},
};
use test_support::raw::Server;

const REQUESTS: &str = "GET /one?a=b HTTP/1.1\r\nHost: web.test:81\r\n\r\n\
    POST /two HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n\
    HEAD http://other.test/three HTTP/1.1\r\nHost: web.test\r\n\r\n\
    PUT /four HTTP/1.1\r\nHost: web.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nput";
const RESPONSES: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst\
    HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsec\r\n3;x=y\r\nond\r\n0\r\nX-Sum: 6\r\n\r\n\
    HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n\
    HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 204 No Content\r\n\r\n";

/// A server that answers all requests at once.
fn server() -> Server {
    Server::start(async |mut conn| {
        conn.read(REQUESTS.len()).await?;
        conn.write(RESPONSES.as_bytes()).await?;
        conn.read_to_end().await
    })
}

/// What is compared of a request: method, URL, version, status, both lengths, and the interim responses.
type Facts<'a> = (&'a str, &'a str, u8, u16, u64, u64, Vec<u16>);

fn facts(request: &HttpReqTrace) -> Facts<'_> {
    assert!(request.seen_on_wire && request.stream_id.is_none());
    assert_eq!((request.end_reason.clone(), &request.failure), (Some(EndReason::Closed), &None));
    assert!(
        request.req_body_end_at >= request.req_sent_at && request.first_byte_at >= request.req_body_end_at
    );
    assert!(
        request.resp_recv_at >= request.first_byte_at && request.resp_body_end_at >= request.resp_recv_at
    );
    let interim = request.informational.iter().map(|interim| interim.status).collect();
    let (method, url) = (request.req_method.as_str(), request.req_url.as_str());
    let lengths = (request.req_content_len, request.resp_content_len);
    (method, url, request.proto_minor, request.resp_status_code, lengths.0, lengths.1, interim)
}

#[tokio::test]
async fn pipelined_messages_are_read_however_they_are_divided() {
    for size in [1, 2, 3, 7, 64, 4096] {
        let (sink, server) = (TraceSink::new(), server());
        let mut conn = Conn::connect(&sink, server.addr()).await;
        conn.write_in_pieces(REQUESTS.as_bytes(), size).await;
        let answer = conn.read_in_pieces(RESPONSES.len(), size).await;
        assert_eq!(String::from_utf8_lossy(&answer), RESPONSES);
        drop(conn);
        let trace = finished(&sink).await;
        let read: Vec<_> = trace.http_requests.iter().map(facts).collect();
        let expected: [Facts<'_>; 4] = [
            ("GET", "http://web.test:81/one?a=b", 1, 200, 0, 5, vec![]),
            ("POST", "http://web.test/two", 1, 201, 4, 6, vec![]),
            ("HEAD", "http://other.test/three", 1, 404, 0, 0, vec![]),
            ("PUT", "http://web.test/four", 0, 204, 3, 0, vec![100]),
        ];
        assert_eq!(read, expected, "in pieces of {size} bytes");
        let [seen] = &server.ended(1).await[..] else { panic!("one connection") };
        assert_eq!(String::from_utf8_lossy(&seen.received), REQUESTS);
        let wire = conn_of(&trace, &trace.http_requests[0]).wire.as_deref().expect("it was read");
        assert_eq!((wire.protocol.as_str(), &wire.stop_reason), ("http/1.1", &None));
    }
}

#[tokio::test]
async fn a_response_may_end_with_the_connection() {
    let (sink, server) = (
        TraceSink::new(),
        Server::start(async |mut conn| {
            conn.read_head().await?;
            conn.write(b"HTTP/1.0 200 OK\r\n\r\nall of it").await?;
            conn.close().await
        }),
    );
    let mut conn = Conn::connect(&sink, server.addr()).await;
    conn.write(b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(conn.read_to_end().await.unwrap().ends_with(b"all of it"));
    let trace = sink.snapshot("");
    let request = only_request(&trace);
    assert_eq!((request.resp_content_len, request.end_reason.clone()), (9, Some(EndReason::Closed)));
    // Without `Host` the request went to the host that was dialed.
    assert_eq!(request.req_url, format!("http://{}/", server.addr()));
}

#[tokio::test]
async fn header_fields_are_recorded_by_the_policy_of_the_sink() {
    let sink = TraceSink::builder().headers(HeaderCapture::Values).build();
    let server =
        Server::answering(b"HTTP/1.1 200 OK\r\nset-cookie: id=secret\r\nx-a: b\r\ncontent-length: 0\r\n\r\n");
    let client = pool(connector(&sink), false);
    let request = http::Request::get(format!("http://{}/?token=1", server.addr()))
        .header("authorization", "Bearer secret")
        .header("accept", "*/*")
        .body(Default::default())
        .unwrap();
    client.request(request).await.unwrap().into_body().collect().await.unwrap();
    let json = serde_json::to_string(&sink.snapshot("")).unwrap();
    assert!(!json.contains("secret"), "{json}");
    let trace = sink.snapshot("");
    let request = only_request(&trace);
    let authorization = request.req_header.get("authorization").expect("the field");
    assert_eq!((authorization.field_val.as_str(), authorization.field_val_len), ("", 13));
    assert_eq!(request.req_header.get("accept").unwrap().field_val, "*/*");
    assert_eq!(request.resp_header.get("x-a").unwrap().field_val, "b");
}

#[tokio::test]
async fn targets_that_are_no_valid_urls_are_encoded() {
    for (target, url) in [
        ("/a b", "NOT HTTP"),
        ("/<id>x", "http://h.test/%3Cid%3Ex"),
        ("*", "*"),
        ("//double", "http://h.test//double"),
    ] {
        let (sink, server) = (TraceSink::new(), Server::answering(b"HTTP/1.1 204 No Content\r\n\r\n"));
        let mut conn = Conn::connect(&sink, server.addr()).await;
        conn.write(format!("OPTIONS {target} HTTP/1.1\r\nhost: h.test\r\n\r\n").as_bytes()).await;
        let trace = sink.snapshot("");
        let urls: Vec<_> = trace.http_requests.iter().map(|request| request.req_url.as_str()).collect();
        if url == "NOT HTTP" { assert!(urls.is_empty(), "{urls:?}") } else { assert_eq!(urls, [url]) }
    }
}
