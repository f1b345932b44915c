//! The memory of a sink is bounded, however much traffic there is, and is freed in the end.
#![cfg(feature = "client")]

// Not in the support package: it would have to switch on features of nettrace, in every build of the tests.
#[path = "sink/mock.rs"]
mod mock;

use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use nettrace::{FinishedRecord, HeaderCapture, RequestHandle, Retention, TraceSink};
use test_support::{alloc, wait::now};
use tokio::io::AsyncWriteExt;

#[global_allocator]
static COUNTING: alloc::Counting = alloc::Counting;

const SLACK: i64 = 128 << 10;

/// Runs `f` the given number of times, and asserts that the second half needs no more memory than the first.
#[track_caller]
fn assert_bounded(times: usize, mut f: impl FnMut(usize)) {
    let mut most = [0, 0];
    for i in 0..times {
        f(i);
        let half = i * 2 / times;
        most[half] = most[half].max(alloc::live());
    }
    let [before, after] = most;
    assert!(after <= before + before / 50 + SLACK, "{before} bytes, and then {after}");
}

#[test]
fn requests_and_failed_dials_take_bounded_memory() {
    let sink =
        TraceSink::builder().retention(Retention::bounded().requests(2_000).connections(3_000)).build();
    let (conn, _there) = now(mock::connect(&sink));
    assert_bounded(100_000, |i| {
        now(mock::fail_to_connect(&sink));
        match i % 4 {
            0 => drop(now(mock::begin(&sink, None, None))),
            1 => {
                let (own, _there) = now(mock::connect(&sink));
                now(mock::fetch(&sink, own.conn_ref()));
            }
            _ => drop(now(mock::fetch(&sink, conn.conn_ref()))),
        }
    });
    let dropped = sink.snapshot("all").dropped.unwrap();
    assert!(dropped.http_requests > 97_000 && dropped.dials > 120_000, "{dropped:?}");
}

#[test]
fn a_connection_with_many_operations_takes_bounded_memory() {
    let sink = TraceSink::new();
    let (conn, _there) = now(mock::connect(&sink));
    drop(_there);
    let mut conn = TokioIo::new(conn);
    assert_bounded(200_000, |_| assert!(now(conn.write(b"x")).is_err(), "the peer is gone"));
}

#[test]
fn operations_cost_few_allocations() {
    let sink = TraceSink::new();
    let (conn, _there) = now(mock::connect(&sink));
    drop(_there);
    let mut conn = TokioIo::new(conn);
    let before = alloc::calls();
    for _ in 0..4_000 {
        assert!(now(conn.write(b"x")).is_err());
    }
    let calls = alloc::calls() - before;
    assert!(calls < 60, "{calls} allocations");
    assert_eq!(sink.snapshot("all").tcp_conns[0].socket_trace.as_ref().unwrap().socket_ops.len(), 4_000);
}

/// hyper reads a head into a buffer of 8 KiB, and the parts of the head are slices of it. Records must not keep them.
#[cfg(feature = "server")]
#[test]
fn records_of_a_server_do_not_keep_its_read_buffers() {
    use hyper::{body::Incoming, server::conn::http1, service::service_fn};
    use nettrace::{request::TraceBody, server::TraceServerLayer};
    use tokio::io::AsyncReadExt;
    use tower::Layer;

    let sink = TraceSink::builder().headers(HeaderCapture::Values).build();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (here, mut there) = tokio::io::duplex(1 << 16);
        let service =
            TraceServerLayer::new(&sink).layer(service_fn(async |_: http::Request<TraceBody<Incoming>>| {
                Ok::<_, std::convert::Infallible>(http::Response::new(mock::Body::from("hello")))
            }));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(here), service));
        let mut before = 0;
        for i in 0..2_000 {
            if i == 1_000 {
                before = alloc::live();
            }
            let request = "GET /a?b HTTP/1.1\r\nhost: web.test\r\nauthorization: Basic c2VjcmV0\r\n\r\n";
            there.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"hello") {
                assert_ne!(there.read_buf(&mut answer).await.unwrap(), 0);
            }
        }
        let kept = (alloc::live() - before) / 1_000;
        assert!(kept < 1_500, "{kept} bytes for each request");
    });
    assert_eq!(sink.snapshot("").http_requests.len(), 2_000);
}

/// Returns the allocations and the bytes of a snapshot per record, over a thousand additional records.
fn snapshot_cost_per_record(sink: &TraceSink, record: impl Fn()) -> (f64, f64) {
    let snapshot = || {
        (0..1_000).for_each(|_| record());
        let before = (alloc::calls(), alloc::live());
        let trace = sink.snapshot("");
        let cost = (alloc::calls() - before.0, alloc::live() - before.1);
        drop(trace);
        cost
    };
    let (one, two) = (snapshot(), snapshot());
    ((two.0 - one.0) as f64 / 1_000.0, (two.1 - one.1) as f64 / 1_000.0)
}

#[test]
fn a_snapshot_takes_few_bytes_per_record() {
    let unbounded = || TraceSink::builder().retention(Retention::unbounded()).build();
    let sink = unbounded();
    let (conn, _there) = now(mock::connect(&sink));
    let (calls, bytes) = snapshot_cost_per_record(&sink, || {
        let url = "http://www.example.com/a/path/of/usual/length?with=query";
        let request = http::Request::builder().uri(url).body(mock::Body::default()).unwrap();
        now(mock::finish(now(mock::exchange(&sink, request, || {
            let mut response = http::Response::new(mock::Body::from("hello"));
            conn.conn_ref().cloned().unwrap().attach(response.extensions_mut());
            response
        }))));
    });
    assert!(calls < 1.02 && bytes < 520.0, "{calls} allocations, {bytes} bytes for a request");

    let sink = unbounded();
    let (calls, bytes) = snapshot_cost_per_record(&sink, || drop(now(mock::connect(&sink))));
    assert!(calls < 0.02 && bytes < 650.0, "{calls} allocations, {bytes} bytes for a connection");
}

#[test]
fn requests_in_flight_keep_no_ended_requests() {
    let sink = TraceSink::builder().retention(Retention::bounded().requests(500)).build();
    let mut in_flight = std::collections::VecDeque::new();
    assert_bounded(40_000, |i| {
        if i % 16 == 0 {
            in_flight.push_back(now(mock::begin(&sink, None, None)));
            if in_flight.len() > 100 {
                in_flight.pop_front();
            }
        }
        now(mock::fetch(&sink, None));
    });
}

#[test]
fn snapshots_leave_nothing_behind() {
    let sink = TraceSink::builder().retention(Retention::bounded().requests(500)).build();
    assert_bounded(4_000, |i| {
        now(mock::fetch(&sink, None));
        if i % 40 == 0 {
            sink.snapshot("look");
        }
        if i % 1_000 == 0 {
            sink.clear();
        }
    });
}

#[test]
fn all_memory_is_freed_in_any_order_of_drops() {
    let mut live = Vec::new();
    // The first rounds make the one-time allocations.
    for order in 0..6 {
        let before = alloc::live();
        fill_and_drop(order % 3);
        live.push(alloc::live() - before);
    }
    assert_eq!(live[3..], [0, 0, 0], "{live:?}");
}

/// Fills a sink with records of all kinds, and drops them, their handles and the sink in one of three orders.
fn fill_and_drop(order: usize) {
    let sink = TraceSink::builder()
        .retention(Retention::bounded().requests(200).connections(200))
        .headers(HeaderCapture::Values)
        .subscriber(|_: &FinishedRecord| {})
        .build();
    let (mut kept, mut handles) = (Vec::new(), Vec::new());
    let hops = RequestHandle::new();
    for i in 0..1_000 {
        let (conn, there) = now(mock::connect(&sink));
        let handle = now(mock::fetch(&sink, conn.conn_ref()));
        now(mock::fail_to_connect(&sink));
        // Hops that are neighbours in memory, and hops that are not.
        now(now(mock::begin(&sink, conn.conn_ref(), Some(&hops))).into_body().collect()).unwrap();
        if i % 100 == 0 {
            kept.push((now(mock::begin(&sink, conn.conn_ref(), Some(&hops))), conn, there));
            handles.push(handle);
        }
    }
    match order {
        0 => {
            drop((kept, handles, hops));
            drop(sink);
        }
        1 => {
            drop(sink);
            assert!(handles.iter().all(|handle| handle.trace().http_requests.len() == 1));
            drop(handles);
            drop((hops, kept));
        }
        _ => {
            sink.clear();
            drop((hops, handles));
            sink.close();
            drop((sink, kept));
        }
    }
}
