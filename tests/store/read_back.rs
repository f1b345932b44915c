//! What is read equals what was recorded.

use std::sync::mpsc::{self, Sender};

use nettrace::{
    NetTrace, RequestHandle, Slice, SliceFilter, SliceReceiver, TraceSink,
    record::Record,
    store::{self, JsonLines},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tempfile::TempDir;
use test_support::{background, check};

use crate::traffic::{Connection, LIMIT, fetch, read};

/// Hands each slice to the store and to the test.
struct Both {
    store: JsonLines,
    test: Sender<NetTrace>,
}

impl SliceReceiver for Both {
    fn receive(&mut self, slice: Slice) {
        self.test.send(slice.trace().clone()).expect("the test waits for it");
        self.store.receive(slice);
    }

    fn flush(&mut self) {
        self.store.flush();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Connect,
    /// Closes the oldest connection.
    Close,
    /// Makes a request, on one of the connections if there is one, and as the next hop of one of four requests if it is
    /// said to be.
    Fetch {
        conn: usize,
        hop_of: Option<usize>,
    },
    /// Has the receiver write what it has.
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Connect),
        1 => Just(Step::Close),
        1 => Just(Step::Flush),
        6 => (0..4usize, proptest::option::of(0..4usize)).prop_map(|(conn, hop_of)| Step::Fetch { conn, hop_of }),
    ];
    proptest::collection::vec(step, 0..40)
}

#[test]
fn what_is_read_equals_what_was_recorded() {
    let config = Config { failure_persistence: None, cases: 48, ..Config::default() };
    let result = TestRunner::new(config).run(&steps(), |steps| {
        background::runtime().block_on(check_steps(steps));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

async fn check_steps(steps: Vec<Step>) {
    let directory = TempDir::new().unwrap();
    let (test, seen) = mpsc::channel();
    let store = JsonLines::builder(directory.path()).build().unwrap();
    let counts = store.counts();
    let sink = TraceSink::builder().session("s-1").on_slice(SliceFilter::all(), Both { store, test }).build();
    let (mut conns, mut fetched) = (Vec::new(), 0);
    let handles: Vec<_> = std::iter::repeat_with(RequestHandle::new).take(4).collect();
    for step in steps {
        match step {
            Step::Connect => conns.push(Connection::new(&sink).await),
            Step::Close => drop((!conns.is_empty()).then(|| conns.remove(0))),
            Step::Fetch { conn, hop_of } => {
                fetched += 1;
                let conn = conns.iter().cycle().nth(conn);
                fetch(&sink, "http://web.test/", conn, hop_of.map(|hop| &handles[hop])).await;
            }
            Step::Flush => assert!(sink.flush(LIMIT)),
        }
    }
    assert!(sink.flush(LIMIT));

    let recorded: Vec<_> = seen.try_iter().collect();
    assert_eq!((recorded.len(), counts.written(), counts.lost()), (fetched, fetched as u64, 0));
    assert_eq!(read(directory.path()), recorded);

    let merged = store::read(directory.path()).unwrap();
    let snapshot = sink.snapshot("");
    check::running(&merged);
    assert_eq!(merged.http_requests, snapshot.http_requests);
    if fetched > 0 {
        assert_eq!((merged.trace_begin_at, &merged.uuid), (snapshot.trace_begin_at, &snapshot.uuid));
        let latest = recorded.iter().map(|slice| slice.trace_end_at.relative_nanos()).max().unwrap();
        assert_eq!(merged.trace_end_at.relative_nanos(), latest);
    }
    for conn in &merged.tcp_conns {
        let versions = recorded.iter().filter_map(|slice| slice.tcp_conns.get(conn.trace_id()));
        let last = versions.max_by_key(|conn| conn.end_reason.is_some()).unwrap();
        assert_eq!(conn, last);
    }
    assert!(merged.dials.iter().all(|dial| snapshot.dials.get(dial.trace_id()).is_some()));
}

#[test]
fn nothing_is_read_from_a_store_without_slices() {
    let directory = TempDir::new().unwrap();
    let store = JsonLines::builder(directory.path()).build().unwrap();
    assert_eq!(store::read(directory.path()).unwrap(), NetTrace::default());
    drop(store);
    let error = store::read(directory.path()).unwrap_err();
    let path = directory.path().display();
    assert_eq!(error.to_string(), format!("cannot read {path}: it has no file whose name ends in .jsonl"));
}
