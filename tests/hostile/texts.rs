//! Long URLs, methods, header fields, reason phrases and error texts.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use nettrace::{
    Client, HeaderCapture, NetTrace, TraceSink, client::HttpVersion, proxy::Proxy, record::EndReason,
    request::TraceBody, server::TraceServerLayer,
};
use tokio::task::JoinSet;
use tower::{Layer as _, Service as _, service_fn};

use crate::{assert_bounded, assert_cut, mock};
use test_support::raw::Server;

const MAX_URL_BYTES: usize = 8 << 10;
const MAX_ERROR_BYTES: usize = 1 << 10;

/// Fewer in unoptimised builds, which would take too long.
const PATHS: usize = if cfg!(debug_assertions) { 2_000 } else { 10_000 };

/// Serves the request with a traced service.
async fn serve(sink: &TraceSink, request: Request<Empty<Bytes>>) {
    let mut service =
        TraceServerLayer::new(sink).layer(service_fn(async |_: Request<TraceBody<Empty<Bytes>>>| {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
        }));
    let response: Response<_> = service.call(request).await.unwrap();
    response.into_body().collect().await.unwrap();
}

/// Returns a text of this many bytes that begins with `number`.
fn long_text(bytes: usize, number: usize) -> String {
    format!("{number:08}{}", "a".repeat(bytes - 8))
}

/// Asserts that each of the `requests` is kept or counted as dropped, and that not all are dropped.
#[track_caller]
fn assert_all_counted(trace: &NetTrace, requests: usize) {
    let dropped = trace.dropped.as_ref().map_or(0, |dropped| dropped.http_requests);
    assert_eq!(trace.http_requests.len() as u64 + dropped, requests as u64);
    assert!(!trace.http_requests.is_empty(), "all requests were dropped");
}

#[test]
fn a_server_truncates_long_paths() {
    assert_bounded(
        TraceSink::new(),
        async |sink| {
            for i in 0..PATHS {
                let request = Request::get(format!("http://web.test/{}", long_text(60_000, i)));
                serve(sink, request.body(Empty::new()).unwrap()).await;
            }
        },
        |trace| {
            assert_all_counted(trace, PATHS);
            for request in &trace.http_requests {
                assert_cut(&request.req_url, MAX_URL_BYTES, request.truncated_fields.get("reqURL"), 60_000);
                assert_eq!(request.end_reason, Some(EndReason::Closed));
            }
            let newest = trace.http_requests.last().unwrap();
            let begin = format!("http://web.test/{:08}aaa", PATHS - 1);
            assert!(newest.req_url.starts_with(&begin), "{}", &newest.req_url[..40]);
        },
    );
}

#[test]
fn a_server_truncates_long_methods() {
    assert_bounded(
        TraceSink::new(),
        async |sink| {
            for i in 0..2_000 {
                let method = Method::from_bytes(long_text(60_000, i).as_bytes()).unwrap();
                serve(sink, Request::builder().method(method).body(Empty::new()).unwrap()).await;
            }
        },
        |trace| {
            for request in &trace.http_requests {
                assert_cut(&request.req_method, 64, request.truncated_fields.get("reqMethod"), 60_000);
            }
            assert!(trace.http_requests.len() == 2_000, "truncated requests are small enough to be kept");
        },
    );
}

#[test]
fn long_and_numerous_header_fields_are_truncated() {
    let sink = TraceSink::builder().headers(HeaderCapture::Values).build();
    assert_bounded(
        sink,
        async |sink| {
            for i in 0..1_000 {
                let mut request = Request::new(Empty::new());
                let headers = request.headers_mut();
                headers.insert("x-first", HeaderValue::from_static("first"));
                for field in 0..3 {
                    let name = HeaderName::try_from(format!("x-{field}")).unwrap();
                    headers.insert(name, HeaderValue::try_from(long_text(40_000, i)).unwrap());
                }
                for _ in 0..1_000 {
                    headers.append("x-many", HeaderValue::from_static(""));
                }
                serve(sink, request).await;
            }
        },
        |trace| {
            assert_all_counted(trace, 1_000);
            for request in &trace.http_requests {
                let fields = &request.req_header;
                assert_eq!(fields.get("x-first").unwrap().field_val, "first");
                let bytes =
                    fields.iter().map(|field| field.field_name.len() + field.field_val.len()).sum::<usize>();
                assert!(
                    bytes < (64 << 10) + 100 && fields.len() <= 256,
                    "{bytes} bytes in {} fields",
                    fields.len()
                );
                assert_eq!(request.truncated_fields.get("reqHeader"), Some(1_004));
                let cut =
                    fields.iter().find(|field| field.field_val.ends_with('…')).expect("a truncated value");
                assert_eq!(cut.field_val_len, 40_000);
            }
        },
    );
}

/// Each request is redirected once, to a path of 60,000 bytes.
#[test]
fn long_redirect_targets_are_truncated() {
    let server = Server::start(async |mut conn| {
        for i in 0.. {
            let head = conn.read_head().await?;
            if head.starts_with("GET /from") {
                let location = long_text(60_000, i);
                let head =
                    format!("HTTP/1.1 302 Found\r\nlocation: /{location}\r\ncontent-length: 0\r\n\r\n");
                conn.write(head.as_bytes()).await?;
            } else {
                conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
            }
        }
        Ok(())
    });
    assert_bounded(
        TraceSink::new(),
        async |sink| {
            let client = Client::builder(sink).build().unwrap();
            for _ in 0..20 {
                let response = client.get(format!("http://{}/from", server.addr())).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                response.into_body().collect().await.unwrap();
            }
            client.close().await;
        },
        |trace| {
            let (from, to): (Vec<_>, Vec<_>) =
                trace.http_requests.iter().partition(|request| request.req_url.ends_with("/from"));
            assert_eq!((from.len(), to.len()), (20, 20));
            for (from, to) in from.into_iter().zip(to) {
                assert_cut(&to.req_url, MAX_URL_BYTES, to.truncated_fields.get("reqURL"), 60_000);
                assert_eq!(to.prev_hop, from.trace_id);
            }
        },
    );
}

/// The host is too long for a DNS name. It is part of the error of the request and of the dial, and of its address.
#[test]
fn long_hosts_are_truncated() {
    assert_bounded(
        TraceSink::new(),
        async |sink| {
            let client = Client::builder(sink).build().unwrap();
            for i in 0..200 {
                let url = format!("http://{}.test/", long_text(60_000, i));
                client.get(url).await.expect_err("no such name");
            }
            client.close().await;
        },
        |trace| {
            assert_eq!((trace.http_requests.len(), trace.dials.len()), (200, 200));
            for request in &trace.http_requests {
                assert_cut(&request.req_url, MAX_URL_BYTES, request.truncated_fields.get("reqURL"), 60_000);
                let (text, size) = (&request.req_error, request.truncated_fields.get("reqError"));
                assert_cut(text, MAX_ERROR_BYTES, size, 60_000);
            }
            for dial in &trace.dials {
                assert_cut(&dial.dst_address, 512, dial.truncated_fields.get("dstAddress"), 60_000);
                assert_cut(&dial.dial_err, MAX_ERROR_BYTES, dial.truncated_fields.get("dialErr"), 60_000);
            }
        },
    );
}

/// The server sends GOAWAY with 16,000 bytes of debug data, which the error of each request contains.
#[test]
fn goaway_debug_data_is_truncated() {
    let server = Server::start(async |mut conn| {
        const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        conn.read(PREFACE.len()).await?;
        conn.write(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
        let mut requests = 0;
        while requests < 100 {
            let header = conn.read(9).await?;
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            conn.read(length as usize).await?;
            requests += usize::from(header[3] == 1);
        }
        let payload = [&[0, 0, 0, 0, 0, 0, 0, 11][..], &[0xff; 16_000]].concat();
        let length = (payload.len() as u32).to_be_bytes();
        conn.write(&[&length[1..], &[7, 0, 0, 0, 0, 0], &payload].concat()).await?;
        conn.close().await
    });
    assert_bounded(
        TraceSink::new(),
        async |sink| {
            let client = Client::builder(sink).http_version(HttpVersion::Http2Only).build().unwrap();
            for _ in 0..10 {
                let mut requests = JoinSet::new();
                for _ in 0..100 {
                    requests.spawn(client.get(format!("http://{}/", server.addr())));
                }
                while let Some(answer) = requests.join_next().await {
                    answer.unwrap().expect_err("the server sent GOAWAY");
                }
            }
            client.close().await;
        },
        |trace| {
            assert_eq!(trace.http_requests.len(), 1_000);
            for request in &trace.http_requests {
                assert!(request.req_error.len() < MAX_ERROR_BYTES + 4, "{} bytes", request.req_error.len());
                assert!(request.failure.as_ref().unwrap().as_str().len() < MAX_ERROR_BYTES + 100);
            }
            assert!(serde_json::to_string(trace).unwrap().len() < 4 << 20);
        },
    );
}

#[test]
fn long_reason_phrases_of_proxies_are_truncated() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(format!("HTTP/1.1 403 {}\r\ncontent-length: 0\r\n\r\n", "a".repeat(60_000)).as_bytes())
            .await?;
        conn.close().await
    });
    assert_bounded(
        TraceSink::new(),
        async |sink| {
            let proxy: Proxy = format!("http://{}", server.addr()).parse().unwrap();
            let client = Client::builder(sink).proxy(proxy).build().unwrap();
            for _ in 0..200 {
                client.get("https://web.test/").await.expect_err("the proxy refuses");
            }
            client.close().await;
        },
        |trace| {
            assert_all_counted(trace, 400); // half of them are CONNECT requests to the proxy
            for request in &trace.http_requests {
                assert!(request.req_error.len() < 2 * MAX_ERROR_BYTES, "{} bytes", request.req_error.len());
            }
        },
    );
}

/// More requests are in flight than may be kept: they are kept until they end, and evicted then.
#[test]
fn requests_in_flight_are_kept_until_they_end() {
    let sink = TraceSink::new();
    assert_bounded(
        sink,
        async |sink| {
            let mut bodies = Vec::new();
            for i in 0..8_000 {
                let request =
                    Request::get(format!("/{}", long_text(9_000, i))).body(Empty::<Bytes>::new()).unwrap();
                let mut service = TraceServerLayer::new(sink).layer(service_fn(
                    async |_: Request<TraceBody<Empty<Bytes>>>| {
                        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
                    },
                ));
                let response: Response<_> = service.call(request).await.unwrap();
                bodies.push(response.into_body());
            }
            assert_eq!(sink.snapshot("in flight").http_requests.len(), 8_000);
            for body in bodies {
                body.collect().await.unwrap();
            }
            mock::fetch(sink, None).await;
        },
        |trace| {
            assert!(trace.dropped.as_ref().unwrap().http_requests > 1_000);
        },
    );
}
