//! Retention: the oldest finished records are dropped first, kept ones keep what they refer to, and drops are counted.

use nettrace::{
    NetTrace, RequestHandle, Retention, TraceSink,
    record::{Dropped, HttpReqTrace},
};

use crate::mock;
use test_support::{check, history::records};

/// Records go in groups of so many.
const GROUP: usize = 32;

fn bounded(retention: Retention) -> TraceSink {
    TraceSink::builder().retention(retention).build()
}

fn dropped(trace: &NetTrace) -> Dropped {
    trace.dropped.unwrap_or_default()
}

fn number(request: &HttpReqTrace) -> u64 {
    request.trace_id.as_str().strip_prefix("tid-").unwrap().parse().unwrap()
}

/// A request over a connection of its own.
async fn whole(sink: &TraceSink) -> RequestHandle {
    let (conn, _there) = mock::connect(sink).await;
    mock::fetch(sink, conn.conn_ref()).await
}

#[tokio::test]
async fn the_newest_requests_are_kept_with_all_that_is_theirs() {
    let sink = bounded(Retention::bounded().requests(100));
    for made in 1..=1_000 {
        whole(&sink).await;
        if made % 250 == 0 {
            let trace = sink.snapshot("meanwhile");
            check::finished(&trace);
            let kept = trace.http_requests.len();
            assert!(kept >= made.min(100 - GROUP) && kept <= 100 + GROUP, "{kept} of {made}");
            assert_eq!(kept as u64 + dropped(&trace).http_requests, made as u64);
            assert_eq!(trace.tcp_conns.len() as u64 + dropped(&trace).tcp_conns, made as u64);
            assert_eq!(trace.dials.len() as u64 + dropped(&trace).dials, made as u64);
            assert!(trace.http_requests.iter().all(|request| !request.tcp_conn.is_undefined()));
        }
    }
    let trace = sink.snapshot("all");
    let numbers: Vec<_> = trace.http_requests.iter().map(number).collect();
    assert!(numbers.is_sorted() && numbers[0] > 900, "the newest: {numbers:?}");
}

#[tokio::test]
async fn requests_in_flight_stay() {
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
    assert!(trace.http_requests.len() <= 50 + 100 + GROUP);
    let handles: Vec<_> = in_flight.into_iter().map(|(handle, ..)| handle).collect();
    for _ in 0..1_000 {
        mock::fetch(&sink, None).await;
    }
    let trace = sink.snapshot("finished");
    check::finished(&trace);
    assert!(
        handles.iter().all(|handle| trace.http_requests.get(handle.id()).is_none()),
        "their time has come"
    );
    assert!(trace.http_requests.len() <= 100 + GROUP);
    assert_eq!(trace.http_requests.len() as u64 + dropped(&trace).http_requests, 2_050);
    assert_eq!((trace.tcp_conns.len(), dropped(&trace).tcp_conns), (50, 0), "they have a bound of their own");
}

#[tokio::test]
async fn handles_of_requests_that_went_still_answer() {
    let sink = bounded(Retention::bounded().requests(64).connections(64));
    let handle = RequestHandle::new();
    let (conn, _there) = mock::connect(&sink).await;
    for _ in 0..3 {
        mock::finish(mock::begin(&sink, conn.conn_ref(), Some(&handle)).await).await;
    }
    drop(conn);
    let known = sink.snapshot("known");
    for _ in 0..500 {
        whole(&sink).await;
    }
    assert!(sink.snapshot("later").http_requests.get(handle.id()).is_none());
    let trace = handle.trace();
    check::finished(&trace);
    assert_eq!(trace.http_requests, known.http_requests, "with its hops, and their links");
    assert_eq!((trace.tcp_conns, trace.dials), (known.tcp_conns, known.dials));
    assert!(handle.timings().unwrap().total.is_some());
}

#[tokio::test]
async fn connections_that_no_request_needs() {
    let sink = bounded(Retention::bounded().connections(64));
    for made in 1..=1_000_u64 {
        mock::connect(&sink).await;
        if made % 100 == 0 {
            let trace = sink.snapshot("meanwhile");
            check::finished(&trace);
            assert!(
                trace.tcp_conns.len() >= 64.min(made as usize - GROUP) && trace.tcp_conns.len() <= 64 + GROUP
            );
            assert_eq!(trace.tcp_conns.len() as u64 + dropped(&trace).tcp_conns, made);
            assert_eq!(trace.dials.len() as u64 + dropped(&trace).dials, made);
        }
    }
}

#[tokio::test]
async fn where_requests_need_too_many_connections_the_oldest_go_with_theirs() {
    let sink = bounded(Retention::bounded().connections(320));
    for made in 1..=2_000_u64 {
        whole(&sink).await;
        if made % 250 == 0 {
            let trace = sink.snapshot("meanwhile");
            check::finished(&trace);
            let kept = trace.tcp_conns.len();
            assert!(kept <= 320 + GROUP, "{kept} of {made}");
            assert!(kept as u64 >= made.min(320 - 8 * GROUP as u64), "{kept} of {made}");
            assert_eq!(kept, trace.http_requests.len());
            assert_eq!(kept as u64 + dropped(&trace).tcp_conns, made);
            assert_eq!(kept as u64 + dropped(&trace).http_requests, made);
        }
    }
}

/// Open connections are not bounded, and evict no other record.
#[tokio::test]
async fn open_connections_stay_and_do_not_count() {
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
async fn failed_dials_are_bounded_too() {
    let sink = bounded(Retention::bounded().connections(64));
    for _ in 0..1_000 {
        mock::fail_to_connect(&sink).await;
    }
    let trace = sink.snapshot("all");
    check::finished(&trace);
    assert!(trace.dials.len() <= 64 + GROUP);
    assert_eq!(trace.dials.len() as u64 + dropped(&trace).dials, 1_000);
}

#[tokio::test]
async fn of_operations_the_first_and_the_newest() {
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
async fn a_hop_is_kept_as_long_as_the_one_that_follows_it() {
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
async fn one_handle_for_requests_without_end() {
    let sink = bounded(Retention::bounded().requests(100));
    let handle = RequestHandle::new();
    for made in 1..=1_000 {
        mock::finish(mock::begin(&sink, None, Some(&handle)).await).await;
        if made % 100 == 0 {
            let trace = sink.snapshot("meanwhile");
            check::finished(&trace);
            let kept = trace.http_requests.len();
            assert!(kept <= 100 + 64 + 2 * GROUP, "{kept} of {made}");
            assert_eq!(kept as u64 + dropped(&trace).http_requests, made);
        }
    }
    let trace = handle.trace();
    check::finished(&trace);
    let hops = trace.http_requests.len();
    assert!((64..=128).contains(&hops), "{hops}");
}

#[tokio::test]
async fn a_request_that_dials_without_end() {
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
    assert!(trace.dials.len() <= 64 + 64 + GROUP, "{}", trace.dials.len());
    assert_eq!(trace.dials.len() as u64 + dropped(&trace).dials, 1_000);
    mock::finish(response).await;
}

#[tokio::test]
async fn unbounded_keeps_all() {
    let sink = bounded(Retention::unbounded());
    for _ in 0..300 {
        whole(&sink).await;
    }
    let trace = sink.snapshot("all");
    assert_eq!((records(&trace).len(), trace.dropped), (900, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_keep_the_bounds_together() {
    let sink = bounded(Retention::bounded().requests(256).connections(256));
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let sink = sink.clone();
            tokio::spawn(async move {
                for _ in 0..1_000 {
                    whole(&sink).await;
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
    assert!(trace.http_requests.len() <= 256 + GROUP && trace.tcp_conns.len() <= 256 + GROUP);
    assert_eq!(trace.http_requests.len() as u64 + dropped(&trace).http_requests, 4_000);
    assert_eq!(trace.tcp_conns.len() as u64 + dropped(&trace).tcp_conns, 4_000);
    assert_eq!(trace.dials.len() as u64 + dropped(&trace).dials, 8_000);
}
