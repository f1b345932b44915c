//! IDs of records and sessions, and the caller's function that creates IDs.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use nettrace::{FinishedRecord, IdFormat, NetTrace, RequestHandle, TraceId, TraceSink};

use crate::mock;
use test_support::{check, history::records};

async fn make_traffic(sink: &TraceSink) {
    for _ in 0..50 {
        let (conn, _there) = mock::connect(sink).await;
        mock::fetch(sink, conn.conn_ref()).await;
        mock::fail_to_connect(sink).await;
    }
}

fn ids(trace: &NetTrace) -> HashSet<String> {
    let all = records(trace);
    let ids: HashSet<_> = all.iter().map(|(record, _)| record.trace_id().to_string()).collect();
    assert_eq!(ids.len(), all.len(), "each record has its own ID");
    ids
}

#[tokio::test]
async fn ids_are_unique_and_stable() {
    let custom = IdFormat::custom(|number| TraceId::from(format!("record/{number}").as_str()));
    for (format, looks_right) in [
        (IdFormat::counter(), (|id| id.starts_with("tid-")) as fn(&str) -> bool),
        (IdFormat::short_uuid(), |id| id.len() == 22 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())),
        (custom, |id| id.starts_with("record/")),
    ] {
        let sink = TraceSink::builder().ids(format).build();
        make_traffic(&sink).await;
        let first = sink.snapshot("first");
        check::finished(&first);
        let known = ids(&first);
        assert_eq!(known.len(), 50 * 4);
        assert!(known.iter().all(|id| looks_right(id)), "{known:?}");
        make_traffic(&sink).await;
        assert!(ids(&sink.snapshot("second")).is_superset(&known));
        sink.clear();
        make_traffic(&sink).await;
        assert!(ids(&sink.snapshot("cleared")).is_disjoint(&known));
    }
}

/// Traces of several sinks of one process can be merged, whatever the format of the IDs.
#[tokio::test]
async fn ids_are_unique_across_sinks() {
    let custom = IdFormat::custom(|number| TraceId::from(format!("record/{number}").as_str()));
    for format in [IdFormat::counter(), IdFormat::short_uuid(), custom] {
        let sinks = [0; 3].map(|_| TraceSink::builder().ids(format.clone()).build());
        // The sinks record in turns, as in a program.
        for _ in 0..3 {
            for sink in &sinks {
                make_traffic(sink).await;
            }
        }
        sinks[0].clear();
        make_traffic(&sinks[0]).await;
        let mut merged = sinks[0].snapshot("merged");
        for sink in &sinks[1..] {
            let other = sink.snapshot("other");
            merged.dials.extend(other.dials.iter().cloned());
            merged.tcp_conns.extend(other.tcp_conns.iter().cloned());
            merged.http_requests.extend(other.http_requests.iter().cloned());
        }
        assert_eq!(ids(&merged).len(), (1 + 3 + 3) * 50 * 4);
    }
}

#[tokio::test]
async fn a_record_has_the_same_id_everywhere() {
    let sink = TraceSink::builder().ids(IdFormat::short_uuid()).build();
    let (conn, _there) = mock::connect(&sink).await;
    let handle = mock::fetch(&sink, conn.conn_ref()).await;
    let conn_id = conn.conn_id();
    assert_eq!(Some(&conn_id), conn.conn_ref().map(|conn| conn.id()).as_ref());
    drop(conn);
    let trace = sink.snapshot("all");
    assert_eq!(trace.tcp_conns[0].trace_id, conn_id);
    assert_eq!(trace.http_requests[0].trace_id, handle.id());
    assert_eq!(trace.http_requests[0].tcp_conn, conn_id);
    let own = handle.trace();
    assert_eq!((&own.http_requests[0], &own.tcp_conns[0]), (&trace.http_requests[0], &trace.tcp_conns[0]));
    assert_eq!(sink.trace_of(&handle).http_requests, own.http_requests);
}

/// The ID function may call the sink.
#[tokio::test]
async fn the_id_function_is_called_without_locks() {
    thread_local!(static DEPTH: Cell<u32> = const { Cell::new(0) });
    let cell = Arc::<OnceLock<(TraceSink, RequestHandle)>>::default();
    let inner_cell = cell.clone();
    let sink = TraceSink::builder()
        .ids(IdFormat::custom(move |number| {
            if DEPTH.replace(1) == 0 {
                if let Some((sink, handle)) = inner_cell.get() {
                    sink.snapshot("inside");
                    handle.trace();
                    let _ = handle.timings();
                }
                DEPTH.set(0);
            }
            TraceId::from(format!("{number}").as_str())
        }))
        .subscriber(|_: &FinishedRecord| {})
        .build();
    let handle = RequestHandle::new();
    cell.set((sink.clone(), handle.clone())).unwrap();
    let (conn, _there) = mock::connect(&sink).await;
    mock::finish(mock::begin(&sink, conn.conn_ref(), Some(&handle)).await).await;
    let hop = mock::begin(&sink, conn.conn_ref(), Some(&handle)).await;
    make_traffic(&sink).await;
    check::running(&sink.snapshot("outside"));
    check::running(&handle.trace());
    assert!(!format!("{sink:?} {handle:?} {conn:?} {hop:?}").is_empty());
    sink.close();
    check::running(&sink.snapshot("closed"));
}

#[tokio::test]
async fn a_panic_of_the_id_function_is_caught() {
    let format = IdFormat::custom(|number| {
        assert!(number % 3 != 0, "deliberate panic");
        TraceId::from(format!("mine-{number}").as_str())
    });
    let sink = TraceSink::builder().ids(format).subscriber(|_: &FinishedRecord| {}).build();
    make_traffic(&sink).await;
    let trace = sink.snapshot("all");
    check::finished(&trace);
    let kinds = ids(&trace).into_iter().fold(HashMap::new(), |mut kinds, id| {
        *kinds.entry(id.split('-').next().map(str::to_owned)).or_insert(0) += 1;
        kinds
    });
    assert!(kinds.len() == 2 && kinds.contains_key(&Some("tid".into())), "{kinds:?}");
}

#[test]
fn the_session_is_in_every_trace() {
    let sink = TraceSink::builder().session("b1946ac9").build();
    for trace in [sink.snapshot("one"), sink.snapshot("two")] {
        assert_eq!(trace.uuid.as_deref(), Some("b1946ac9"));
    }
    assert_eq!(TraceSink::new().snapshot("none").uuid, None);
}
