//! `Dump`: writes traces to a directory.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use nettrace::{Dump, NetTrace, SliceFilter, TraceSink};
use tempfile::TempDir;

use crate::{mock, status};
use test_support::check;

const LIMIT: Duration = Duration::from_secs(30);

/// Returns the files of a directory, sorted by name.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn read(file: &Path) -> NetTrace {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[tokio::test]
async fn a_failed_request_is_a_reason_to_dump() {
    let dir = TempDir::new().unwrap();
    let sub_dir = dir.path().join("does/not/exist");
    let sink = TraceSink::builder().dump(Dump::to(&sub_dir)).build();
    mock::fetch(&sink, None).await;
    assert!(sink.flush(LIMIT) && !sub_dir.exists());
    let failed = status::fetch_status(&sink, 503).await;
    assert!(sink.flush(LIMIT));
    status::fetch_status(&sink, 503).await; // too soon for another one
    assert!(sink.flush(LIMIT));
    let files = files(&sub_dir);
    let [file] = &files[..] else { panic!("{files:?}") };
    let trace = read(file);
    check::finished(&trace);
    assert_eq!((trace.http_requests.len(), trace.description.as_str()), (2, "GET /: status 503"));
    assert!(trace.http_requests.get(failed.id()).is_some());
    assert_eq!(trace.http_requests[0].end_at, sink.snapshot("").http_requests[0].end_at, "times are precise");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_rate_is_a_reason_to_dump() {
    let dir = TempDir::new().unwrap();
    let dump = Dump::to(dir.path()).when(SliceFilter::all()).after(5, Duration::from_secs(600));
    let sink = TraceSink::builder().dump(dump).build();
    for made in 1..=5 {
        assert_eq!(files(dir.path()).len(), 0, "{made}");
        mock::fetch(&sink, None).await;
        assert!(sink.flush(LIMIT));
    }
    assert_eq!(files(dir.path()).len(), 1);
}

#[tokio::test]
async fn dumps_are_bounded_in_number_and_bytes() {
    let dir = TempDir::new().unwrap();
    let other = dir.path().join("of-another-program.json");
    fs::write(&other, "{}").unwrap();
    let dump = Dump::to(dir.path()).interval(Duration::ZERO).max_files(3);
    let sink = TraceSink::builder().dump(dump.clone()).build();
    let mut all = Vec::new();
    for _ in 0..6 {
        status::fetch_status(&sink, 500).await;
        assert!(sink.flush(LIMIT));
        let new = |file: &PathBuf| *file != other && !all.contains(file);
        all.extend(files(dir.path()).into_iter().filter(new).collect::<Vec<_>>());
    }
    assert_eq!(all.len(), 6);
    assert_eq!(files(dir.path())[..3], all[3..]);
    let written = dump.max_bytes(1).write(&sink, "small").unwrap();
    assert_eq!(files(dir.path()), [written, other], "the newest stays, and what is no dump");
}

#[tokio::test]
async fn a_dump_that_cannot_be_written_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let no_dir = dir.path().join("file");
    fs::write(&no_dir, "").unwrap();
    let dump = Dump::to(&no_dir);
    let sink = TraceSink::builder().dump(dump.clone()).build();
    assert_eq!(dump.write(&sink, "").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    status::fetch_status(&sink, 500).await;
    assert!(sink.flush(LIMIT), "it is reported, and the traffic goes on");
    assert_eq!(files(dir.path()), [no_dir]);
}
