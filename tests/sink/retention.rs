//! Retention: the oldest finished records are dropped first, records that kept ones refer to are kept, and dropped ones
//! are counted.

use nettrace::{
    NetTrace, RequestHandle, Retention, SliceFilter, TraceSink,
    record::{Dropped, HttpReqTrace},
};

use crate::mock;
use test_support::{check, history::records};

/// The number of records that may be dropped at a time.
const CHUNK: usize = 32;

/// Returns a sink that keeps no request longer than others: see `kept.rs`.
fn bounded(retention: Retention) -> TraceSink {
    TraceSink::builder().retention(retention.keep(SliceFilter::none()).keep_slowest(false)).build()
}

fn dropped(trace: &NetTrace) -> Dropped {
    trace.dropped.clone().unwrap_or_default()
}

fn number(request: &HttpReqTrace) -> u64 {
    request.trace_id.as_str().strip_prefix("tid-").unwrap().parse().unwrap()
}

/// Makes a request over a connection of its own.
async fn request_with_conn(sink: &TraceSink) -> RequestHandle {
    let (conn, _there) = mock::connect(sink).await;
    mock::fetch(sink, conn.conn_ref()).await
}

#[tokio::test]
async fn the_newest_requests_are_kept_with_their_connections() {
    let sink = bounded(Retention::bounded().requests(100));
    for made in 1..=1_000 {
        request_with_conn(&sink).await;
        if made % 250 == 0 {
            let trace = sink.snapshot("meanwhile");
            check::finished(&trace);
            let kept = trace.http_requests.len();
            assert!(kept >= made.min(100 - CHUNK) && kept <= 100 + CHUNK, "{kept} of {made}");
            assert_eq!(kept as u64 + dropped(&trace).http_requests, made as u64);
            assert_eq!(trace.tcp_conns.len() as u64 + dropped(&trace).tcp_conns, made as u64);
            assert_eq!(trace.dials.len() as u64 + dropped(&trace).dials, made as u64);
            assert!(trace.http_requests.iter().all(|request| !request.tcp_conn.is_undefined()));
        }
    }
    let trace = sink.snapshot("all");
    let numbers: Vec<_> = trace.http_requests.iter().map(number).collect();
    assert!(numbers.is_sorted() && numbers[0] > 900, "expected the newest requests: {numbers:?}");
}

#[tokio::test]
async fn requests_in_flight_are_kept() {
    let sink = bounded(Retention::bounded().requests(100));
    let mut in_flight = Vec::new();
    for _ in 0..50 {
        let (conn, there) = mock::connect(&sink).await;
        let handle = RequestHandle::new();
        in_flight.push((
            handle.clone(),
            mock::begin(&sink, conn.conn_ref(), Some(&handle)).await,
            conn,
            there,
        ));
        for _ in 0..20 {
            mock::fetch(&sink, None).await;
        }
    }
    let trace = sink.snapshot("in flight");
    check::running(&trace);
    for (handle, ..) in &in_flight {
        let request = trace.http_requests.get(handle.id()).unwrap();
        assert!(trace.tcp_conns.get(&request.tcp_conn).is_some());
    }
    assert!(trace.http_requests.len() <= 50 + 100 + CHUNK);
    let handles: Vec<_> = in_flight.into_iter().map(|(handle, ..)| handle).collect();
    for _ in 0..1_000 {
        mock::fetch(&sink, None).await;
    }
    let trace = sink.snapshot("finished");
    check::finished(&trace);
    assert!(
        handles.iter().all(|handle| trace.http_requests.get(handle.id()).is_none()),
        "finished requests are dropped"
    );
    assert!(trace.http_requests.len() <= 100 + CHUNK);
    assert_eq!(trace.http_requests.len() as u64 + dropped(&trace).http_requests, 2_050);
    assert_eq!(
        (trace.tcp_conns.len(), dropped(&trace).tcp_conns),
        (50, 0),
        "connections have a limit of their own"
    );
}

#[tokio::test]
async fn handles_of_dropped_requests_can_still_be_read() {
    let sink = bounded(Retention::bounded().requests(64).connections(64));
    let handle = RequestHandle::new();
    let (conn, _there) = mock::connect(&sink).await;
    for _ in 0..3 {
        mock::finish(mock::begin(&sink, conn.conn_ref(), Some(&handle)).await).await;
    }
    drop(conn);
    let known = sink.snapshot("known");
    for _ in 0..500 {
        request_with_conn(&sink).await;
    }
    assert!(sink.snapshot("later").http_requests.get(handle.id()).is_none());
    let trace = handle.trace();
    check::finished(&trace);
    assert_eq!(trace.http_requests, known.http_requests, "all hops and their links");
    assert_eq!((trace.tcp_conns, trace.dials), (known.tcp_conns, known.dials));
    assert!(handle.timings().unwrap().total.is_some());
}

#[tokio::test]
async fn connections_without_requests_are_limited() {
    let sink = bounded(Retention::bounded().connections(64));
    for made in 1..=1_000_u64 {
        mock::connect(&sink).await;
        if made % 100 == 0 {
            let trace = sink.snapshot("meanwhile");
            check::finished(&trace);
            assert!(
                trace.tcp_conns.len() >= 64.min(made as usize - CHUNK) && trace.tcp_conns.len() <= 64 + CHUNK
            );
            assert_eq!(trace.tcp_conns.len() as u64 + dropped(&trace).tcp_conns, made);
            assert_eq!(trace.dials.len() as u64 + dropped(&trace).dials, made);
        }
    }
}

#[tokio::test]
async fn the_oldest_requests_are_dropped_to_limit_their_connections() {
    let sink = bounded(Retention::bounded().connections(320));
    for made in 1..=2_000_u64 {
        request_with_conn(&sink).await;
        if made % 250 == 0 {
            let trace = sink.snapshot("meanwhile");
            check::finished(&trace);
            let kept = trace.tcp_conns.len();
            assert!(kept <= 320 + CHUNK, "{kept} of {made}");
            assert!(kept as u64 >= made.min(320 - 8 * CHUNK as u64), "{kept} of {made}");
            assert_eq!(kept, trace.http_requests.len());
            assert_eq!(kept as u64 + dropped(&trace).tcp_conns, made);
            assert_eq!(kept as u64 + dropped(&trace).http_requests, made);
        }
    }
}

/// Open connections are not limited, and evict no other record.
#[tokio::test]
async fn open_connections_are_kept_and_do_not_count() {
    let sink = bounded(Retention::bounded().requests(500).connections(64));
    let mut open = Vec::new();
    for _ in 0..300 {
        open.push(mock::connect(&sink).await);
    }
    for i in 0..600 {
        mock::fetch(&sink, open[i % 300].0.conn_ref()).await;
    }
    let trace = sink.snapshot("open");
    check::running(&trace);
    assert_eq!((trace.tcp_conns.len(), dropped(&trace).tcp_conns), (300, 0));
    assert!(trace.http_requests.len() >= 500);
    drop(open);
    for _ in 0..1_500 {
        mock::fail_to_connect(&sink).await;
        mock::fetch(&sink, None).await;
    }
    let trace = sink.snapshot("closed");
    check::finished(&trace);
    assert_eq!((trace.tcp_conns.len() as u64, dropped(&trace).tcp_conns), (0, 300));
}

#[tokio::test]
async fn failed_dials_are_limited() {
    let sink = bounded(Retention::bounded().connections(64));
    for _ in 0..1_000 {
        mock::fail_to_connect(&sink).await;
    }
    let trace = sink.snapshot("all");
    check::finished(&trace);
    assert!(trace.dials.len() <= 64 + CHUNK);
    assert_eq!(trace.dials.len() as u64 + dropped(&trace).dials, 1_000);
}

#[tokio::test]
async fn the_first_and_the_newest_socket_operations_are_kept() {
    use tokio::io::AsyncWriteExt;
    let sink = bounded(Retention::bounded().socket_ops(10, 20));
    for _ in 0..2 {
        let (conn, _there) = mock::connect(&sink).await;
        let mut conn = hyper_util::rt::TokioIo::new(conn);
        for len in 1..=5_000 {
            conn.write_all(&vec![0; len % 100 + 1]).await.unwrap();
        }
    }
    let trace = sink.snapshot("all");
    check::finished(&trace);
    for conn in &trace.tcp_conns {
        let ops = conn.socket_trace.as_ref().unwrap();
        assert_eq!((ops.socket_ops.len(), ops.dropped_ops, ops.dropped_after), (30, 4_970, 10));
        assert_eq!(conn.total_sent_bytes, (1..=5_000).map(|len| len % 100 + 1).sum::<u64>());
    }
    assert_eq!(dropped(&trace).socket_ops, 2 * 4_970);
}

#[tokio::test]
async fn a_redirect_hop_is_kept_as_long_as_the_next_hop() {
    let sink = bounded(Retention::bounded().requests(64));
    let handle = RequestHandle::new();
    let mut last = None;
    for _ in 0..10 {
        if let Some(last) = last {
            mock::finish(last).await;
        }
        last = Some(mock::begin(&sink, None, Some(&handle)).await);
        for _ in 0..50 {
            mock::fetch(&sink, None).await;
        }
    }
    let trace = sink.snapshot("in flight");
    check::running(&trace);
    let mut hop = trace.http_requests.get(handle.id()).unwrap();
    for _ in 0..9 {
        hop = trace.http_requests.get(&hop.prev_hop).expect("a hop that a kept request refers to");
    }
    mock::finish(last.unwrap()).await;
    for _ in 0..200 {
        mock::fetch(&sink, None).await;
    }
    let trace = sink.snapshot("finished");
    check::finished(&trace);
    assert!(trace.http_requests.get(handle.id()).is_none());
    assert_eq!(trace.http_requests.len() as u64 + dropped(&trace).http_requests, 710);
}

#[tokio::test]
async fn the_hops_of_one_handle_are_limited() {
    let sink = bounded(Retention::bounded().requests(100));
    let handle = RequestHandle::new();
    for made in 1..=1_000 {
        mock::finish(mock::begin(&sink, None, Some(&handle)).await).await;
        if made % 100 == 0 {
            let trace = sink.snapshot("meanwhile");
            check::finished(&trace);
            let kept = trace.http_requests.len();
            assert!(kept <= 100 + 64 + 2 * CHUNK, "{kept} of {made}");
            assert_eq!(kept as u64 + dropped(&trace).http_requests, made);
        }
    }
    let trace = handle.trace();
    check::finished(&trace);
    let hops = trace.http_requests.len();
    assert!((64..=128).contains(&hops), "{hops}");
}

#[tokio::test]
async fn the_dials_of_one_request_are_limited() {
    use tower::{Layer, Service};
    let sink = bounded(Retention::bounded().connections(64));
    let service = tower::service_fn(|_: http::Request<nettrace::request::TraceBody<mock::Body>>| async {
        for _ in 0..1_000 {
            mock::connect(&sink).await;
        }
        Ok::<_, std::convert::Infallible>(http::Response::new(mock::Body::default()))
    });
    let mut service = nettrace::request::TraceRequestLayer::new(&sink).layer(service);
    let response = service.call(http::Request::new(mock::Body::default())).await.unwrap();
    let trace = sink.snapshot("all");
    check::running(&trace);
    assert!(trace.dials.len() <= 64 + 64 + CHUNK, "{}", trace.dials.len());
    assert_eq!(trace.dials.len() as u64 + dropped(&trace).dials, 1_000);
    mock::finish(response).await;
}

#[tokio::test]
async fn unbounded_retention_keeps_every_record() {
    let sink = bounded(Retention::unbounded());
    for _ in 0..300 {
        request_with_conn(&sink).await;
    }
    let trace = sink.snapshot("all");
    assert_eq!((records(&trace).len(), trace.dropped), (900, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn limits_hold_across_threads() {
    let sink = bounded(Retention::bounded().requests(256).connections(256));
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let sink = sink.clone();
            tokio::spawn(async move {
                for _ in 0..1_000 {
                    request_with_conn(&sink).await;
                    mock::fail_to_connect(&sink).await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    while !tasks.iter().all(|task| task.is_finished()) {
        check::running(&sink.snapshot("meanwhile"));
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    let trace = sink.snapshot("all");
    check::finished(&trace);
    assert!(trace.http_requests.len() <= 256 + CHUNK && trace.tcp_conns.len() <= 256 + CHUNK);
    assert_eq!(trace.http_requests.len() as u64 + dropped(&trace).http_requests, 4_000);
    assert_eq!(trace.tcp_conns.len() as u64 + dropped(&trace).tcp_conns, 4_000);
    assert_eq!(trace.dials.len() as u64 + dropped(&trace).dials, 8_000);
}
