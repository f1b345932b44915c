//! `TraceSinkBuilder::on_slice`: gets finished requests with all their records, on a thread of its own.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use nettrace::{RequestHandle, Retention, Slice, SliceFilter, SliceReceiver, TraceId, TraceSink};

use crate::{mock, status};
use test_support::check;

const LIMIT: Duration = Duration::from_secs(30);

/// Returns a sink, and the slices that `filter` chooses.
fn sink(filter: SliceFilter) -> (TraceSink, Receiver<Slice>) {
    let (sender, slices) = mpsc::channel();
    let receive = move |slice| sender.send(slice).expect("the test waits for it");
    (TraceSink::builder().on_slice(filter, receive).build(), slices)
}

fn ids(slices: &Receiver<Slice>) -> Vec<TraceId> {
    slices.try_iter().map(|slice| slice.request().trace_id.clone()).collect()
}

#[tokio::test]
async fn a_slice_is_the_trace_of_its_request() {
    let (sink, slices) = sink(SliceFilter::all());
    let (conn, _there) = mock::connect(&sink).await;
    let handle = RequestHandle::new();
    for _ in 0..3 {
        mock::finish(mock::begin(&sink, conn.conn_ref(), Some(&handle)).await).await;
    }
    drop(conn);
    assert!(sink.flush(LIMIT));
    let slices: Vec<_> = slices.try_iter().collect();
    assert_eq!(slices.len(), 3, "each hop is a request");
    let last = slices.last().unwrap();
    assert_eq!(last.request().trace_id, handle.id());
    assert_eq!(last.timings(), handle.timings().unwrap());
    check::running(last.trace());
    let (slice, trace) = (last.clone().into_trace(), handle.trace());
    assert_eq!((slice.http_requests, slice.dials), (trace.http_requests, trace.dials));
    assert!(slice.tcp_conns.get(&last.request().tcp_conn).is_some());
}

#[tokio::test]
async fn only_chosen_requests_are_handed_over_in_the_order_of_their_ends() {
    let (sink, slices) = sink(SliceFilter::none().failed(true));
    let mut failed = Vec::new();
    for _ in 0..100 {
        mock::fetch(&sink, None).await;
        failed.push(status::fetch_status(&sink, 503).await.id());
        mock::begin(&sink, None, None).await; // dropped, which is no failure
    }
    assert!(sink.flush(LIMIT));
    assert_eq!(ids(&slices), failed);
}

#[tokio::test]
async fn findings_choose_requests() {
    let (sink, slices) = sink(SliceFilter::none().with_findings(true));
    mock::fetch(&sink, None).await;
    let throttled = status::fetch_status(&sink, 429).await;
    assert!(sink.flush(LIMIT));
    let slices: Vec<_> = slices.try_iter().collect();
    let [slice] = &slices[..] else { panic!("{} slices", slices.len()) };
    assert_eq!(slice.request().trace_id, throttled.id());
    assert_eq!(slice.explain(), throttled.explain().as_ref());
    assert_eq!(slice.explain().unwrap().findings[0].code, "http_throttled");
}

#[tokio::test]
async fn each_receiver_has_its_own_filter_and_thread() {
    let threads = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let threads = threads.clone();
        move |slice: Slice| {
            threads.lock().unwrap().push((name, slice.request().trace_id.clone(), thread::current().id()))
        }
    };
    let sink = TraceSink::builder()
        .on_slice(SliceFilter::all(), note("all"))
        .on_slice(SliceFilter::none().failed(true), note("failed"))
        .build();
    let (fine, failed) = (mock::fetch(&sink, None).await, status::fetch_status(&sink, 500).await);
    assert!(sink.flush(LIMIT));
    let mut seen = threads.lock().unwrap().clone();
    seen.sort_by_key(|(name, id, _)| (*name, id.to_string()));
    let names: Vec<_> = seen.iter().map(|(name, id, _)| (*name, id.clone())).collect();
    assert_eq!(names, [("all", fine.id()), ("all", failed.id()), ("failed", failed.id())]);
    assert_ne!(seen[0].2, seen[2].2);
    assert!(seen.iter().all(|(.., thread)| *thread != thread::current().id()));
}

/// Receives slices slowly: one whenever it is told to.
struct Slow {
    may_go_on: Receiver<()>,
    events: Sender<Event>,
}

#[derive(Debug, PartialEq)]
enum Event {
    Slice,
    Lost(u64),
    Flush,
}

impl SliceReceiver for Slow {
    fn receive(&mut self, _: Slice) {
        let _ = self.events.send(Event::Slice);
        let _ = self.may_go_on.recv();
    }

    fn flush(&mut self) {
        let _ = self.events.send(Event::Flush);
    }

    fn lost(&mut self, slices: u64) {
        let _ = self.events.send(Event::Lost(slices));
    }
}

/// What a slow receiver has not had yet is bounded, and what it did not get is counted. The traffic does not wait for it.
#[tokio::test]
async fn a_receiver_that_is_too_slow_loses_slices() {
    let (go_on, may_go_on) = mpsc::channel();
    let (sender, events) = mpsc::channel();
    let receiver = Slow { may_go_on, events: sender };
    let retention = Retention::bounded().requests(100);
    let sink = TraceSink::builder().retention(retention).on_slice(SliceFilter::all(), receiver).build();
    mock::fetch(&sink, None).await;
    assert_eq!(events.recv_timeout(LIMIT), Ok(Event::Slice));
    for _ in 0..5_000 {
        mock::fetch(&sink, None).await;
    }
    assert!(!sink.flush(Duration::from_millis(1)), "it is still at the first one");
    assert!(sink.snapshot("").http_requests.len() >= 4_096, "they are kept until they were handed over");
    drop(go_on);
    assert!(sink.flush(LIMIT));
    let events: Vec<_> = events.try_iter().collect();
    let slices = events.iter().filter(|event| **event == Event::Slice).count();
    let lost: u64 = events.iter().map(|event| if let Event::Lost(lost) = event { *lost } else { 0 }).sum();
    assert_eq!((slices, lost), (4_096, 5_000 - 4_096));
    assert_eq!(events.last(), Some(&Event::Flush));
    for _ in 0..20 {
        for _ in 0..100 {
            mock::fetch(&sink, None).await;
        }
        assert!(sink.flush(LIMIT));
    }
    assert!(sink.snapshot("").http_requests.len() < 200, "and no longer");
}

#[tokio::test]
async fn a_panic_of_a_receiver_is_contained() {
    let (sender, slices) = mpsc::channel();
    let receive = move |slice: Slice| {
        sender.send(()).unwrap();
        assert_eq!(slice.request().resp_status_code, 0, "on purpose");
    };
    let sink = TraceSink::builder().on_slice(SliceFilter::all(), receive).build();
    for _ in 0..3 {
        mock::fetch(&sink, None).await;
    }
    assert!(sink.flush(LIMIT));
    assert_eq!(slices.try_iter().count(), 3);
}

/// The thread of a receiver ends with its sink, after it has handed over what had ended before.
#[tokio::test]
async fn a_receiver_is_dropped_after_its_sink() {
    let (sink, slices) = sink(SliceFilter::all());
    mock::fetch(&sink, None).await;
    drop(sink);
    assert!(slices.recv_timeout(LIMIT).is_ok());
    assert_eq!(slices.recv_timeout(LIMIT).unwrap_err(), mpsc::RecvTimeoutError::Disconnected);
}

#[tokio::test]
async fn nothing_is_handed_over_that_ends_after_closing() {
    let (sink, slices) = sink(SliceFilter::all());
    let before = mock::fetch(&sink, None).await;
    let open = mock::begin(&sink, None, None).await;
    sink.close();
    mock::finish(open).await;
    assert!(sink.flush(LIMIT));
    assert_eq!(ids(&slices), [before.id()]);
}

#[test]
fn flushing_takes_no_time_if_nothing_waits() {
    assert!(TraceSink::new().flush(Duration::ZERO));
    assert!(TraceSink::disabled().flush(Duration::ZERO));
    assert!(TraceSink::builder().on_slice(SliceFilter::all(), |_: Slice| {}).build().flush(Duration::MAX));
}
