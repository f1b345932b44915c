//! Requests that are kept longer than others: failed and slow ones, and what the program chooses. What is evicted is
//! counted by host.

use std::{
    cell::Cell,
    sync::{Arc, OnceLock},
    time::Duration,
};

use nettrace::{
    Client, IdFormat, NetTrace, RequestHandle, Retention, Slice, SliceFilter, Timings, TraceId, TraceSink,
    record::{Histogram, HostTraffic},
};

use crate::{mock, status};
use test_support::{
    check,
    web::{self, Web},
};

/// The number of requests that are evicted at a time.
const CHUNK: usize = 32;
const LIMIT: Duration = Duration::from_secs(30);

fn small() -> Retention {
    Retention::bounded().requests(200).keep_slowest(false)
}

fn sink(retention: Retention) -> TraceSink {
    TraceSink::builder().retention(retention).build()
}

async fn fetch(sink: &TraceSink, times: usize) {
    for _ in 0..times {
        mock::fetch(sink, None).await;
    }
}

/// Makes a request over a connection of its own, which is answered with `status`.
async fn fetch_over_conn(sink: &TraceSink, status: u16) -> RequestHandle {
    let (conn, _there) = mock::connect(sink).await;
    status::fetch_status_over(sink, status, conn.conn_ref()).await
}

fn assert_whole(trace: &NetTrace, handle: &RequestHandle) {
    let request = trace.http_requests.get(handle.id()).expect("a request that is kept");
    let conn = trace.tcp_conns.get(&request.tcp_conn).expect("its connection");
    assert!(trace.dials.get(&conn.from_dial).is_some());
    assert_eq!(trace.slice(handle.id()).http_requests, handle.trace().http_requests);
}

fn evicted(trace: &NetTrace) -> u64 {
    trace.dropped.as_ref().map_or(0, |dropped| dropped.http_requests)
}

#[tokio::test]
async fn failed_requests_outlive_others_whole() {
    let sink = sink(small());
    let mut failed = Vec::new();
    for _ in 0..20 {
        failed.push(fetch_over_conn(&sink, 503).await);
        fetch(&sink, 500).await;
    }
    let trace = sink.snapshot("");
    check::finished(&trace);
    failed.iter().for_each(|handle| assert_whole(&trace, handle));
    assert!(trace.http_requests.len() <= 200 + CHUNK, "{}", trace.http_requests.len());
    assert_eq!(trace.http_requests.len() as u64 + evicted(&trace), 20 * 501);
}

#[tokio::test]
async fn they_take_half_of_the_bound_and_the_newest_stay() {
    let sink = sink(small());
    let mut failed = Vec::new();
    for _ in 0..1_000 {
        failed.push(status::fetch_status(&sink, 500).await);
        fetch(&sink, 1).await;
    }
    let trace = sink.snapshot("");
    check::finished(&trace);
    let kept = failed.iter().filter(|handle| trace.http_requests.get(handle.id()).is_some()).count();
    assert!(
        kept >= 100 && trace.http_requests.len() <= 200 + CHUNK,
        "{kept} of {}",
        trace.http_requests.len()
    );
    assert!(failed[1_000 - kept..].iter().all(|handle| trace.http_requests.get(handle.id()).is_some()));
    assert_eq!(trace.http_requests.len() as u64 + evicted(&trace), 2_000);
}

/// A connection may hold far more bytes than the requests over it. They count once, however many requests are kept.
#[tokio::test]
async fn bytes_and_connections_of_kept_requests_are_bounded() {
    let retention = Retention::bounded().requests(100_000).connections(320).bytes(1 << 20);
    let sink = sink(retention);
    let (shared, _there) = mock::connect(&sink).await;
    let mut failed = Vec::new();
    for _ in 0..200 {
        failed.push(status::fetch_status_over(&sink, 500, shared.conn_ref()).await);
        fetch(&sink, 50).await;
    }
    let trace = sink.snapshot("");
    check::running(&trace);
    failed.iter().for_each(|handle| assert_whole(&trace, handle));
    let mut own = Vec::new();
    for _ in 0..500 {
        own.push(fetch_over_conn(&sink, 500).await);
        fetch(&sink, 5).await;
    }
    let trace = sink.snapshot("");
    check::running(&trace);
    assert!(trace.tcp_conns.len() <= 320 + CHUNK, "{}", trace.tcp_conns.len());
    assert_whole(&trace, own.last().unwrap());
    let recent = trace.http_requests.iter().filter(|request| request.resp_status_code != 500).count();
    assert!(recent > 100, "failed requests leave room for recent ones: {recent}");
}

#[tokio::test]
async fn the_slowest_of_a_host_outlive_others() {
    let sink = sink(Retention::bounded().requests(200));
    fetch(&sink, 500).await;
    let slow = RequestHandle::new();
    let response = mock::begin(&sink, None, Some(&slow)).await;
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_millis(50) {
        fetch(&sink, 10).await;
    }
    mock::finish(response).await;
    fetch(&sink, 500).await;
    let trace = sink.snapshot("");
    check::finished(&trace);
    assert!(trace.http_requests.get(slow.id()).is_some());
    assert!(trace.http_requests.len() <= 200 + CHUNK);
}

#[tokio::test]
async fn a_handle_a_callback_and_findings_choose_what_is_kept() {
    let is_chosen = |slice: &Slice| slice.request().resp_status_code == 404;
    let retention = small().keep(SliceFilter::none().with_findings(true));
    let sink = TraceSink::builder().retention(retention).keep_if(SliceFilter::all(), is_chosen).build();
    let before = RequestHandle::new();
    before.keep();
    mock::finish(mock::begin(&sink, None, Some(&before)).await).await;
    let after = mock::fetch(&sink, None).await;
    after.keep();
    let (by_callback, with_finding) =
        (status::fetch_status(&sink, 404).await, status::fetch_status(&sink, 429).await);
    let (other, failed) = (mock::fetch(&sink, None).await, status::fetch_status(&sink, 501).await);
    assert!(sink.flush(LIMIT));
    fetch(&sink, 500).await;
    let trace = sink.snapshot("");
    let is_kept = |handle: &RequestHandle| trace.http_requests.get(handle.id()).is_some();
    assert!([&before, &after, &by_callback, &with_finding].into_iter().all(is_kept));
    assert!(!is_kept(&other) && !is_kept(&failed));
}

#[tokio::test]
async fn nothing_is_kept_beyond_its_age() {
    let sink = sink(small().max_age(Duration::from_millis(50)));
    for _ in 0..10 {
        fetch_over_conn(&sink, 500).await;
        fetch(&sink, 50).await;
    }
    let before = sink.snapshot("");
    assert!(before.http_requests.len() > 100);
    let is_empty = || sink.snapshot("").http_requests.is_empty();
    test_support::wait::until("all are too old", is_empty).await;
    let trace = sink.snapshot("");
    assert_eq!((evicted(&trace), trace.tcp_conns.len(), trace.dials.len()), (510, 0, 0));
}

/// What is evicted and what is in the trace are all requests, with the same timings that their slices had.
#[tokio::test]
async fn evicted_requests_are_counted_by_host() {
    let (sender, slices) = std::sync::mpsc::channel();
    let sink = TraceSink::builder()
        .retention(Retention::bounded().requests(64).keep(SliceFilter::none()).keep_slowest(false))
        .on_slice(SliceFilter::all(), move |slice| sender.send(slice).expect("the test waits for it"))
        .build();
    for _ in 0..100 {
        fetch_over_conn(&sink, 200).await;
        status::fetch_status(&sink, 503).await;
        mock::begin(&sink, None, None).await; // dropped
    }
    assert!(sink.flush(LIMIT));
    fetch(&sink, 64).await;
    let trace = sink.snapshot("");
    let traffic = &trace.dropped.as_ref().unwrap().by_host;
    let [host] = &traffic[..] else { panic!("one host: {traffic:?}") };
    assert_eq!(host.requests + trace.http_requests.len() as u64, 364);

    let slices: Vec<_> = slices.try_iter().collect();
    assert_counted(host, &slices, &trace);
    sink.clear();
    assert_eq!(sink.snapshot("").dropped, None);
}

/// Asserts that `host` has those of the slices that are not in the trace.
#[track_caller]
fn assert_counted(host: &HostTraffic, slices: &[Slice], trace: &NetTrace) {
    let mut server_errors = 0;
    let mut phases = vec![Histogram::default(); 9];
    let is_evicted = |slice: &&Slice| trace.http_requests.get(&slice.request().trace_id).is_none();
    for slice in slices.iter().filter(is_evicted) {
        let Timings { blocked, dns, connect, proxy, tls, send, wait, receive, total, .. } = slice.timings();
        let times = [blocked, dns, connect, proxy, tls, send, wait, receive, total];
        let counted = phases.iter_mut().zip(times);
        counted.for_each(|(phase, time)| time.into_iter().for_each(|time| phase.add(time)));
        server_errors += u64::from(slice.request().resp_status_code == 503);
    }
    assert_eq!(host.server_errors, server_errors);
    let names = ["blocked", "dns", "connect", "proxy", "tls", "send", "wait", "receive", "total"];
    for (name, expected) in names.into_iter().zip(phases) {
        assert_eq!(host.phases.get(name).cloned().unwrap_or_default(), expected, "{name}");
    }
}

/// The phases of a dial are those of its records, whose identifiers the program chooses: its function is called under no
/// lock.
#[tokio::test]
async fn requests_with_a_dial_of_their_own_are_counted_with_its_phases() {
    thread_local!(static IS_INSIDE: Cell<bool> = const { Cell::new(false) });
    let inner = Arc::<OnceLock<TraceSink>>::default();
    let (of_ids, (sender, slices)) = (inner.clone(), std::sync::mpsc::channel());
    let sink = TraceSink::builder()
        .ids(IdFormat::custom(move |number| {
            if !IS_INSIDE.replace(true) {
                of_ids.get().map(|sink| sink.snapshot("inside"));
                IS_INSIDE.set(false);
            }
            TraceId::from(format!("{number}").as_str())
        }))
        .retention(Retention::bounded().requests(32).keep(SliceFilter::none()).keep_slowest(false))
        .on_slice(SliceFilter::all(), move |slice| sender.send(slice).expect("the test waits for it"))
        .build();
    inner.set(sink.clone()).unwrap();
    let server = Web::start(async |_| web::reply("hello"));
    let client = Client::builder(&sink).keep_alive(false).build().unwrap();
    // A request stays until its slice was received, so the first ones are evicted for the last ones at the latest.
    for count in [100, 64] {
        for _ in 0..count {
            client.get(server.url("/")).await.unwrap().into_body().bytes().await.unwrap();
        }
        assert!(sink.flush(LIMIT));
    }
    let trace = sink.snapshot("");
    let traffic = &trace.dropped.as_ref().unwrap().by_host;
    let [host] = &traffic[..] else { panic!("one host: {traffic:?}") };
    assert_eq!(host.requests + trace.http_requests.len() as u64, 164);
    assert_eq!((host.new_conns, host.reused_conns), (host.requests, 0));
    assert_eq!(host.phases.get("connect").map(Histogram::count), Some(host.requests));
    assert_counted(host, &slices.try_iter().collect::<Vec<_>>(), &trace);
}
