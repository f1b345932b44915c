//! `Subscriber`: records are handed out as they end.

use std::{
    sync::{Arc, Mutex, OnceLock},
    thread::{self, ThreadId},
};

use nettrace::{FinishedRecord, RequestHandle, TraceId, TraceSink};

use crate::mock;
use test_support::{
    check,
    history::{records, settled},
};

type Heard = Arc<Mutex<Vec<(ThreadId, FinishedRecord)>>>;

fn listening() -> (Heard, TraceSink) {
    let heard = Heard::default();
    let subscriber = heard.clone();
    let sink = TraceSink::builder().subscriber(move |record: &FinishedRecord| {
        subscriber.lock().unwrap().push((thread::current().id(), record.clone()));
    });
    (heard, sink.build())
}

#[tokio::test]
async fn each_hears_of_every_record_once_as_it_is_in_the_trace() {
    let (heard, sink) = listening();
    for _ in 0..10 {
        let (conn, _there) = mock::connect(&sink).await;
        mock::fetch(&sink, conn.conn_ref()).await;
        mock::begin(&sink, None, None).await;
        mock::fail_to_connect(&sink).await;
    }
    let trace = sink.snapshot("all");
    check::finished(&trace);
    let mut heard: Vec<_> = heard.lock().unwrap().drain(..).map(|(_, record)| settled(record)).collect();
    let mut all: Vec<_> = records(&trace).into_iter().map(|(record, _)| settled(record)).collect();
    assert_eq!(heard.len(), 10 * 5);
    let id = |record: &FinishedRecord| record.trace_id().clone();
    heard.sort_by_key(|record| id(record).to_string());
    all.sort_by_key(|record| id(record).to_string());
    assert_eq!(heard, all);
}

#[tokio::test]
async fn they_run_on_the_thread_that_ended_the_record() {
    let (heard, sink) = listening();
    let (conn, _there) = mock::connect(&sink).await;
    let conn_id = conn.conn_id();
    let thread = thread::spawn(move || {
        drop(conn);
        thread::current().id()
    });
    let thread = thread.join().unwrap();
    let heard = heard.lock().unwrap();
    let on = |id: &TraceId| heard.iter().find(|(_, record)| record.trace_id() == id).unwrap().0;
    assert_eq!(on(&conn_id), thread);
    assert_eq!(on(&sink.snapshot("all").dials[0].trace_id), thread::current().id());
}

/// A subscriber may call the sink, also to change it.
#[tokio::test]
async fn they_are_called_under_no_lock() {
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
    assert_eq!(*seen.lock().unwrap(), [true; 5], "what they are given is in the trace already");
    built.close();
}

#[tokio::test]
async fn one_that_panics_is_contained() {
    let heard = Arc::new(Mutex::new(0));
    let others = heard.clone();
    let sink = TraceSink::builder()
        .subscriber(|_: &FinishedRecord| panic!("no"))
        .subscriber(move |_: &FinishedRecord| *others.lock().unwrap() += 1)
        .build();
    let (conn, _there) = mock::connect(&sink).await;
    mock::fetch(&sink, conn.conn_ref()).await;
    drop(conn);
    mock::fail_to_connect(&sink).await;
    assert_eq!(*heard.lock().unwrap(), 4);
    check::finished(&sink.snapshot("all"));
}
