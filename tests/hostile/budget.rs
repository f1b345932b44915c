//! The memory that a sink holds, as the allocator counts it, agrees with the budget of [`Retention::bytes`].

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{Empty, Full};
use hyper_util::rt::TokioIo;
use nettrace::{
    ConnRef, HeaderCapture, Retention, TraceSink,
    request::{TraceBody, TraceRequestLayer},
};
use tokio::io::AsyncWriteExt as _;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::mock;
use test_support::alloc;

const BUDGET: usize = 4 << 20;

/// Calls `drive` until the sink has evicted at least 2,000 records, and asserts that the sink then holds about as many
/// bytes as the budget allows. `drive` gets the number of calls before it.
#[track_caller]
fn assert_kept_within(drive: impl AsyncFn(&TraceSink, usize)) {
    let retention = Retention::bounded().requests(1_000_000).connections(1_000_000).bytes(BUDGET);
    let sink = TraceSink::builder().headers(HeaderCapture::Values).retention(retention).build();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut most, mut dropped) = (0, 0);
    let before = alloc::live();
    runtime.block_on(async {
        let mut i = 0;
        while dropped < 2_000 && i < 200_000 {
            for _ in 0..100 {
                drive(&sink, i).await;
                i += 1;
            }
            most = most.max(alloc::live() - before);
            if most > BUDGET as i64 / 2 {
                let trace = sink.snapshot("");
                let kept = trace.http_requests.len() + trace.dials.len();
                assert!(kept > 32, "{kept} of {i} are kept");
                dropped = trace.dropped.map_or(0, |dropped| dropped.http_requests + dropped.dials);
            }
        }
    });
    let held = alloc::live();
    drop(sink);
    let held = held - alloc::live();
    println!("{held} bytes in the end, {most} at most");
    assert!(dropped >= 2_000);
    let budget = BUDGET as i64;
    // The size that is charged for a request is more than the smallest requests take.
    assert!(held > budget / 2 && most < budget + budget / 8, "{held} bytes in the end, {most} at most");
}

/// Sends a request that is answered, over `conn` if it is given.
async fn exchange(sink: &TraceSink, conn: Option<&ConnRef>, url: &str, headers: HeaderMap) {
    let mut request = Request::get(url).body(mock::Body::default()).unwrap();
    *request.headers_mut() = headers;
    let response = mock::exchange(sink, request, || {
        let mut response = Response::new(mock::Body::from("hello"));
        if let Some(conn) = conn {
            conn.clone().attach(response.extensions_mut());
        }
        response
    });
    mock::finish(response.await).await;
}

#[test]
fn plain_requests_stay_within_the_budget() {
    assert_kept_within(async |sink, _| {
        exchange(sink, None, "http://www.example.com/a/path/of/usual/length?with=query", HeaderMap::new())
            .await;
    });
}

#[test]
fn plain_connections_stay_within_the_budget() {
    assert_kept_within(async |sink, _| {
        let (conn, _there) = mock::connect(sink).await;
        mock::fetch(sink, conn.conn_ref()).await;
    });
}

#[test]
fn failed_dials_stay_within_the_budget() {
    assert_kept_within(async |sink, _| mock::fail_to_connect(sink).await);
}

#[test]
fn header_fields_and_urls_stay_within_the_budget() {
    assert_kept_within(async |sink, i| {
        let mut headers = HeaderMap::new();
        headers.insert("x-value", HeaderValue::try_from("a".repeat(i % 7_000)).unwrap());
        headers.insert("x-other", HeaderValue::from_static("b"));
        exchange(sink, None, &format!("http://web.test/{}", "a".repeat(i % 9_000)), headers).await;
    });
}

#[test]
fn errors_stay_within_the_budget() {
    assert_kept_within(async |sink, i| {
        let fail = service_fn(async |_: Request<TraceBody<Empty<Bytes>>>| {
            Err::<Response<Full<Bytes>>, _>(std::io::Error::other("a".repeat(i % 3_000)))
        });
        let request = Request::new(Empty::new());
        TraceRequestLayer::new(sink)
            .layer(fail)
            .oneshot(request)
            .await
            .map(drop)
            .expect_err("the service fails");
    });
}

#[test]
fn operations_stay_within_the_budget() {
    assert_kept_within(async |sink, i| {
        let (conn, there) = mock::connect(sink).await;
        drop(there);
        let mut conn = TokioIo::new(conn);
        for _ in 0..i % 400 {
            conn.write(b"x").await.expect_err("the peer is gone");
        }
    });
}

/// The connection that a request refers to is evicted with the request, not before it.
#[test]
fn a_request_keeps_its_connection_and_dial() {
    let retention = Retention::bounded().bytes(BUDGET);
    let sink = TraceSink::builder().retention(retention).build();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (open, _there) = mock::connect(&sink).await;
        let held = mock::begin(&sink, open.conn_ref(), None).await;
        for i in 0..6_000 {
            let (conn, _there) = mock::connect(&sink).await;
            exchange(&sink, conn.conn_ref(), "http://web.test/", HeaderMap::new()).await;
            if i % 2 == 0 {
                mock::fail_to_connect(&sink).await;
            }
        }
        let trace = sink.snapshot("");
        let dropped = trace.dropped.unwrap();
        assert_eq!(trace.http_requests.len() as u64 + dropped.http_requests, 6_001);
        assert_eq!(trace.tcp_conns.len() as u64 + dropped.tcp_conns, 6_001);
        assert!(dropped.http_requests > 1_000 && trace.http_requests.len() > 1_000, "{dropped:?}");
        for request in &trace.http_requests {
            let conn = trace.tcp_conns.get(&request.tcp_conn).expect("a connection");
            assert!(trace.dials.get(&conn.from_dial).is_some());
        }
        let first = &trace.http_requests[0];
        assert!(first.end_reason.is_none(), "an open request is not evicted");
        mock::finish(held).await;
    });
}

/// An open request, or a request whose handle is held, does not keep the other requests of its chunk in the registry.
#[test]
fn a_request_in_use_does_not_keep_its_neighbours() {
    const REQUESTS: usize = 6_400;
    for holds_handles in [false, true] {
        let sink = TraceSink::builder().retention(Retention::bounded().bytes(BUDGET)).build();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut open, mut handles) = (Vec::new(), Vec::new());
        let before = alloc::live();
        runtime.block_on(async {
            for i in 0..REQUESTS {
                let (conn, _there) = mock::connect(&sink).await;
                if i % 32 != 7 {
                    let url = format!("http://web.test/{}", "a".repeat(10_000));
                    exchange(&sink, conn.conn_ref(), &url, HeaderMap::new()).await;
                } else if holds_handles {
                    handles.push(mock::fetch(&sink, conn.conn_ref()).await);
                } else {
                    open.push(mock::begin(&sink, conn.conn_ref(), None).await);
                }
            }
        });
        if holds_handles {
            let trace = sink.snapshot("");
            assert!(trace.http_requests.get(handles[0].id()).is_none(), "the request is still in the sink");
        }
        for handle in &handles {
            let trace = handle.trace();
            let request = trace.http_requests.get(handle.id()).expect("the request of the handle");
            assert!(trace.tcp_conns.get(&request.tcp_conn).is_some());
        }
        let held = alloc::live() - before;
        println!("{held} bytes");
        let budget = BUDGET as i64;
        assert!(held > budget / 2 && held < budget + budget / 4, "{held} bytes; handles: {holds_handles}");
    }
}
