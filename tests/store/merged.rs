//! One trace from the slices of several processes, several stores and several begins.

use std::{fs, path::Path};

use nettrace::{
    NetTrace, RequestHandle, SliceFilter, TraceSink,
    record::{Record, TraceList},
    store::{self, JsonLines},
};
use tempfile::TempDir;
use test_support::{background, check};

use crate::traffic::{Connection, LIMIT, fetch, files, slices, urls, write};

/// A request on a connection, as two processes may have recorded it.
fn line(begin: &str, sent_ms: u32, url: &str) -> String {
    let slice = serde_json::json!({
        "traceBeginAt": begin, "traceEndAt": "+2000ms",
        "dials": [{"traceID": "tid-2", "triggeredBy": "tid-1", "dialBeginAt": "+1ms", "dialEndAt": "+3ms",
            "establishedConn": "tid-3", "endReason": "closed", "dstAddress": "192.0.2.1:80"}],
        "tcpConns": [{"traceID": "tid-3", "fromDial": "tid-2", "connected": true,
            "handshakeBeginAt": "+1ms", "handshakeEndAt": "+2.5ms"}],
        "httpRequests": [{"traceID": "tid-1", "tcpConn": "tid-3", "reqURL": url, "reqMethod": "GET",
            "reqSentAt": format!("+{sent_ms}.000001ms"), "endReason": "closed"}],
    });
    format!("{slice}\n")
}

fn ids<T: Record>(list: &TraceList<T>) -> Vec<&str> {
    list.iter().map(|record| record.trace_id().as_str()).collect()
}

fn put(directory: &Path, name: &str, content: impl AsRef<[u8]>) {
    fs::write(directory.join(name), content).unwrap();
}

const MORNING: &str = "2026-12-01T05:00:00Z";
const LATER: &str = "2026-12-01T05:00:01.5Z";

#[test]
fn equal_identifiers_of_several_processes_are_told_apart() {
    let directory = TempDir::new().unwrap();
    put(directory.path(), "nettrace-20261201T050001Z-7-bbbbbb-0000.jsonl", line(LATER, 10, "/later"));
    put(directory.path(), "nettrace-20261201T050000Z-7-aaaaaa-0000.jsonl", line(MORNING, 20, "/early"));
    put(directory.path(), "nettrace-20261201T060000Z-7-aaaaaa-0001.jsonl", line(MORNING, 20, "/early"));
    let trace = store::read(directory.path()).unwrap();
    assert_eq!(ids(&trace.http_requests), ["7-aaaaaa.tid-1", "7-bbbbbb.tid-1"]);
    assert_eq!(ids(&trace.dials), ["7-aaaaaa.tid-2", "7-bbbbbb.tid-2"]);
    assert_eq!(ids(&trace.tcp_conns), ["7-aaaaaa.tid-3", "7-bbbbbb.tid-3"]);
    let later = &trace.http_requests[1];
    assert_eq!((later.req_url.as_str(), later.tcp_conn.as_str()), ("/later", "7-bbbbbb.tid-3"));
    assert_eq!(trace.dials[1].triggered_by, "7-bbbbbb.tid-1");
    assert_eq!(trace.trace_begin_at.to_string(), MORNING);
    assert_eq!(later.req_sent_at.relative_nanos(), Some(1_510_000_001));
    assert_eq!(trace.trace_end_at.relative_nanos(), Some(3_500_000_000));
}

#[test]
fn identifiers_of_one_process_are_kept() {
    let directory = TempDir::new().unwrap();
    put(directory.path(), "nettrace-20261201T050000Z-7-aaaaaa-0000.jsonl", line(MORNING, 20, "/a"));
    let trace = store::read(directory.path()).unwrap();
    assert_eq!(ids(&trace.http_requests), ["tid-1"]);
    // Another sink of the process, or the same one after `clear`.
    let more = line(LATER, 10, "/b").replace("tid-", "tid-1");
    put(directory.path(), "nettrace-20261201T050000Z-7-aaaaaa-0001.jsonl", more);
    let trace = store::read(directory.path()).unwrap();
    assert_eq!(ids(&trace.http_requests), ["tid-1", "tid-11"]);
    assert_eq!(trace.tcp_conns[1].handshake_end_at.relative_nanos(), Some(1_502_500_000));
}

/// As in the output of `cat` or `jq -c` for several files.
#[test]
fn processes_in_a_file_of_another_name_are_told_apart_by_their_begin() {
    let directory = TempDir::new().unwrap();
    let all = [line(MORNING, 20, "/a"), line(LATER, 10, "/b"), line(MORNING, 20, "/a")].concat();
    put(directory.path(), "chosen.jsonl", all);
    let trace = store::read(directory.path().join("chosen.jsonl")).unwrap();
    let expected = [format!("{MORNING}.tid-1"), format!("{LATER}.tid-1")];
    assert_eq!(ids(&trace.http_requests), expected);
    assert_eq!(ids(&trace.tcp_conns).len(), 2);
}

#[test]
fn the_most_complete_version_of_a_record_is_kept_with_the_links_of_the_others() {
    let directory = TempDir::new().unwrap();
    let slice = |end: &str, conn: &str, triggered_by: &str| {
        let json = serde_json::json!({
            "traceBeginAt": MORNING, "traceEndAt": end,
            "tcpConns": [serde_json::from_str::<serde_json::Value>(conn).unwrap()],
            "dials": [{"traceID": "tid-2", "triggeredBy": triggered_by, "endReason": "closed"}],
        });
        format!("{json}\n")
    };
    let open = r#"{"traceID": "tid-3", "totalRecvBytes": 5}"#;
    let more = r#"{"traceID": "tid-3", "totalRecvBytes": 7}"#;
    let closed = r#"{"traceID": "tid-3", "totalRecvBytes": 9, "endReason": "closed"}"#;
    let read = |lines: [String; 3]| {
        put(directory.path(), "a.jsonl", lines.concat());
        store::read(directory.path()).unwrap()
    };
    let received =
        |trace: &NetTrace| trace.tcp_conns.iter().map(|conn| conn.total_recv_bytes).collect::<Vec<_>>();
    // Each order in which files can be read.
    let (first, second) = (slice("+10ms", open, "tid-1"), slice("+20ms", more, ""));
    let last = slice("+30ms", closed, "");
    for lines in [[&first, &second, &last], [&last, &first, &second], [&second, &last, &first]] {
        let trace = read(lines.map(String::clone));
        assert_eq!((received(&trace), trace.dials[0].triggered_by.as_str()), (vec![9], "tid-1"));
        assert_eq!(trace.trace_end_at.to_string(), "+30ms");
    }
    let trace = read([second.clone(), first, second]);
    assert_eq!((received(&trace), trace.dials[0].triggered_by.as_str()), (vec![7], "tid-1"));
}

/// The slice of the second request does not have the first one, which triggered the dial.
#[test]
fn a_connection_of_several_requests_is_once_in_the_trace() {
    let directory = TempDir::new().unwrap();
    let store = JsonLines::builder(directory.path()).build().unwrap();
    let sink = TraceSink::builder().on_slice(SliceFilter::all(), store).build();
    background::runtime().block_on(async {
        let conn = Connection::new(&sink).await;
        for url in ["/first", "/second"] {
            fetch(&sink, url, Some(&conn), None).await;
        }
        sink.clear();
        fetch(&sink, "/after", Some(&conn), Some(&RequestHandle::new())).await;
        assert!(sink.flush(LIMIT));
    });
    let trace = store::read(directory.path()).unwrap();
    check::running(&trace);
    assert_eq!(trace.http_requests.len(), 3);
    assert_eq!((trace.tcp_conns.len(), trace.dials.len()), (1, 1));
    let conn = &trace.tcp_conns[0].trace_id;
    assert!(trace.http_requests.iter().all(|request| request.tcp_conn == *conn));
}

#[test]
fn stores_of_one_directory_do_not_disturb_each_other() {
    let directory = TempDir::new().unwrap();
    let slices = slices(40);
    let builder = JsonLines::builder(directory.path()).max_file_bytes(8 << 10);
    let mut stores = [builder.clone().build().unwrap(), builder.build().unwrap()];
    let [a, b] = &mut stores;
    std::thread::scope(|scope| {
        scope.spawn(|| write(a, &slices[..20]));
        scope.spawn(|| write(b, &slices[20..]));
    });
    drop(stores);
    assert!(files(directory.path()).len() > 2, "{:?}", files(directory.path()));
    let read = crate::traffic::read(directory.path());
    let mut urls: Vec<_> = urls(&read).into_iter().map(str::to_owned).collect();
    urls.sort();
    let mut expected: Vec<_> = slices.iter().map(|slice| slice.request().req_url.to_string()).collect();
    expected.sort();
    assert_eq!(urls, expected);
    assert_eq!(store::read(directory.path()).unwrap().http_requests.len(), 40);
}
