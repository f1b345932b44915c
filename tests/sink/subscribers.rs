//! `Subscriber`: gets each record when the record ends.

use std::{
    sync::{Arc, Mutex, OnceLock},
    thread::{self, ThreadId},
};

use nettrace::{
    FinishedRecord, RecordKind, RequestHandle, Subscriber, TraceId, TraceSink, record::EndReason,
};

use crate::mock;
use test_support::{
    check,
    history::{records, settled},
};

type Published = Arc<Mutex<Vec<(ThreadId, FinishedRecord)>>>;

fn sink_with_subscriber() -> (Published, TraceSink) {
    let published = Published::default();
    let subscriber = published.clone();
    let sink = TraceSink::builder().subscriber(move |record: &FinishedRecord| {
        subscriber.lock().unwrap().push((thread::current().id(), record.clone()));
    });
    (published, sink.build())
}

#[tokio::test]
async fn a_subscriber_gets_every_record_once_as_it_is_in_the_trace() {
    let (published, sink) = sink_with_subscriber();
    for _ in 0..10 {
        let (conn, _there) = mock::connect(&sink).await;
        mock::fetch(&sink, conn.conn_ref()).await;
        mock::begin(&sink, None, None).await;
        mock::fail_to_connect(&sink).await;
    }
    let trace = sink.snapshot("all");
    check::finished(&trace);
    let mut published: Vec<_> =
        published.lock().unwrap().drain(..).map(|(_, record)| settled(record)).collect();
    let mut all: Vec<_> = records(&trace).into_iter().map(|(record, _)| settled(record)).collect();
    assert_eq!(published.len(), 10 * 5);
    let id = |record: &FinishedRecord| record.trace_id().clone();
    published.sort_by_key(|record| id(record).to_string());
    all.sort_by_key(|record| id(record).to_string());
    assert_eq!(published, all);
}

/// Takes records for whose kind and end `is_interested` returns `true`.
struct Selective<F> {
    published: Published,
    is_interested: F,
}

impl<F: Fn(RecordKind, &EndReason) -> bool + Send + Sync + 'static> Subscriber for Selective<F> {
    fn finished(&self, record: &FinishedRecord) {
        self.published.lock().unwrap().push((thread::current().id(), record.clone()));
    }

    fn is_interested(&self, kind: RecordKind, reason: &EndReason) -> bool {
        (self.is_interested)(kind, reason)
    }
}

#[tokio::test]
async fn a_subscriber_gets_only_records_that_it_is_interested_in() {
    let select = |is_interested: fn(RecordKind, &EndReason) -> bool| {
        let published = Published::default();
        let subscriber = Selective { published: published.clone(), is_interested };
        (published, TraceSink::builder().subscriber(subscriber).build())
    };
    let (requests, only_requests) = select(|kind, _| kind == RecordKind::HttpRequest);
    let (failed, only_failed) = select(|_, reason| *reason == EndReason::Failed);
    let (none, panicking) = select(|_, _| panic!("on purpose"));
    for sink in [&only_requests, &only_failed, &panicking] {
        let (conn, _there) = mock::connect(sink).await;
        mock::fetch(sink, conn.conn_ref()).await;
        mock::fail_to_connect(sink).await;
    }
    let requests = requests.lock().unwrap();
    assert!(matches!(requests[..], [(_, FinishedRecord::HttpRequest(_))]), "{requests:?}");
    let failed = failed.lock().unwrap();
    assert!(!failed.is_empty());
    for (_, record) in &*failed {
        let reason = match record {
            FinishedRecord::Dial(dial) => &dial.end_reason,
            FinishedRecord::TcpConn(conn) => &conn.end_reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(*reason, Some(EndReason::Failed));
    }
    assert!(none.lock().unwrap().is_empty());
}

/// The end of a record is exact: it does not include what a subscriber does when it is asked.
#[tokio::test]
async fn a_record_has_ended_before_a_subscriber_is_asked() {
    let sink = Arc::<OnceLock<TraceSink>>::default();
    let ended_counts = Arc::<Mutex<Vec<usize>>>::default();
    let (own, counts) = (sink.clone(), ended_counts.clone());
    let is_interested = move |_, _: &EndReason| {
        let trace = own.get().expect("it is set before anything is recorded").snapshot("asked");
        check::running(&trace);
        let ended = records(&trace).into_iter().filter(|(_, reason)| reason.is_some());
        counts.lock().unwrap().push(ended.count());
        false
    };
    let subscriber = Selective { published: Published::default(), is_interested };
    let built = TraceSink::builder().subscriber(subscriber).build();
    sink.set(built.clone()).unwrap();
    let (conn, _there) = mock::connect(&built).await;
    mock::fetch(&built, conn.conn_ref()).await;
    drop(mock::begin(&built, conn.conn_ref(), None).await);
    drop(conn);
    mock::fail_to_connect(&built).await;
    assert_eq!(*ended_counts.lock().unwrap(), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn subscribers_run_on_the_thread_that_ended_the_record() {
    let (published, sink) = sink_with_subscriber();
    let (conn, _there) = mock::connect(&sink).await;
    let conn_id = conn.conn_id();
    let thread = thread::spawn(move || {
        drop(conn);
        thread::current().id()
    });
    let thread = thread.join().unwrap();
    let published = published.lock().unwrap();
    let thread_of = |id: &TraceId| published.iter().find(|(_, record)| record.trace_id() == id).unwrap().0;
    assert_eq!(thread_of(&conn_id), thread);
    assert_eq!(thread_of(&sink.snapshot("all").dials[0].trace_id), thread::current().id());
}

/// A subscriber may read and change the sink.
#[tokio::test]
async fn subscribers_are_called_without_locks() {
    let sink = Arc::<OnceLock<TraceSink>>::default();
    let handle = RequestHandle::new();
    let (own, own_handle, seen) = (sink.clone(), handle.clone(), Arc::new(Mutex::new(Vec::new())));
    let found = seen.clone();
    let built = TraceSink::builder().subscriber(move |record: &FinishedRecord| {
        let Some(sink) = own.get() else { return };
        let trace = sink.snapshot("inside");
        check::running(&trace);
        let ended = records(&trace).into_iter().find(|(other, _)| other.trace_id() == record.trace_id());
        found.lock().unwrap().push(settled(ended.unwrap().0) == settled(record.clone()));
        own_handle.trace();
        sink.set_enabled(true);
        if let FinishedRecord::HttpRequest(_) = record {
            sink.clear();
        }
    });
    let built = built.build();
    sink.set(built.clone()).unwrap();
    let (conn, _there) = mock::connect(&built).await;
    mock::finish(mock::begin(&built, conn.conn_ref(), Some(&handle)).await).await;
    let dropped = mock::begin(&built, conn.conn_ref(), Some(&handle)).await;
    drop((dropped, conn));
    mock::fail_to_connect(&built).await;
    assert_eq!(*seen.lock().unwrap(), [true; 5], "a published record is already in the trace");
    built.close();
}

#[tokio::test]
async fn a_panic_of_a_subscriber_is_caught() {
    let published = Arc::new(Mutex::new(0));
    let others = published.clone();
    let sink = TraceSink::builder()
        .subscriber(|_: &FinishedRecord| panic!("deliberate panic"))
        .subscriber(move |_: &FinishedRecord| *others.lock().unwrap() += 1)
        .build();
    let (conn, _there) = mock::connect(&sink).await;
    mock::fetch(&sink, conn.conn_ref()).await;
    drop(conn);
    mock::fail_to_connect(&sink).await;
    assert_eq!(*published.lock().unwrap(), 4);
    check::finished(&sink.snapshot("all"));
}
