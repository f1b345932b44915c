//! A process that is killed while it writes.

use std::{collections::BTreeSet, env, path::Path, process::Command, time::Duration};

use nettrace::{
    SliceFilter, TraceSink,
    store::{JsonLines, Reader},
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use test_support::{background, check, process::Daemon};

use crate::traffic::{Connection, LIMIT, fetch, slices, write};

const TURNS: usize = 10;
const DIRECTORY: &str = "NETTRACE_TEST_STORE";

/// What was written before is there, whenever the process is killed.
#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    let directory = TempDir::new().unwrap();
    let mut lost = Vec::new();
    for turn in 0..TURNS {
        let directory = directory.path().join(turn.to_string());
        // At different times after a batch was written.
        let Progress { finished, written } = kill_after(&directory, 20 + 13 * turn);
        let stored = stored(&directory);
        assert!(stored >= written, "{stored} of {written}");
        lost.push(finished.saturating_sub(stored));
        check_next_process(&directory);
    }
    println!("{TURNS} processes were killed and lost {lost:?} slices");
}

/// How many requests a process has finished, and how many of them its store had written then.
#[derive(Clone, Copy, Debug)]
struct Progress {
    finished: usize,
    written: usize,
}

impl Progress {
    /// Parses a line of the process. The last one may be cut off.
    fn parse(line: &str) -> Option<Self> {
        let (finished, written) =
            line.split_once("finished ")?.1.strip_suffix(" written.")?.split_once(", ")?;
        Some(Progress { finished: finished.parse().ok()?, written: written.parse().ok()? })
    }
}

/// Kills a process that writes to this directory after it has finished this many requests, and written one.
fn kill_after(directory: &Path, requests: usize) -> Progress {
    let mut test = Command::new(env::current_exe().expect("this program"));
    test.args(["--exact", "killed::helper_writes_until_it_is_killed", "--ignored", "--nocapture"]);
    test.env(DIRECTORY, directory);
    let writer = Daemon::spawn(test).unwrap();
    let last = |lines: &[String]| lines.iter().rev().find_map(|line| Progress::parse(line));
    let is_due = |progress: &Progress| progress.finished >= requests && progress.written > 0;
    writer.wait(LIMIT, |lines| last(lines).filter(is_due)).unwrap();
    let pid = Pid::from_raw(writer.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    assert!(writer.wait(LIMIT, |_| None::<()>).unwrap_err().contains(" ended"));
    last(&writer.log()).unwrap()
}

#[test]
#[ignore = "a_killed_process_loses_nothing_that_was_written runs it in a process of its own"]
fn helper_writes_until_it_is_killed() {
    let directory = env::var_os(DIRECTORY).expect("set by the test");
    let store = JsonLines::builder(directory).max_file_bytes(64 << 10).build().unwrap();
    let counts = store.counts();
    let sink = TraceSink::builder().on_slice(SliceFilter::all(), store).build();
    background::runtime().block_on(async {
        let mut pause = tokio::time::interval(Duration::from_millis(2));
        for number in 1.. {
            pause.tick().await;
            let conn = Connection::new(&sink).await;
            fetch(&sink, &format!("/{number}"), Some(&conn), None).await;
            println!("finished {number}, {} written.", counts.written());
        }
    });
}

/// Returns how many slices of the killed process are in the directory: the first ones, without a gap.
fn stored(directory: &Path) -> usize {
    let mut reader = Reader::open(directory).unwrap();
    let slices = reader.by_ref().collect::<Result<Vec<_>, _>>().unwrap();
    assert!(reader.torn_lines().len() <= 1, "{:?}", reader.torn_lines());
    let number = |url: &str| url.trim_start_matches('/').parse::<usize>().unwrap();
    let numbers: BTreeSet<_> = slices.iter().map(|slice| number(&slice.http_requests[0].req_url)).collect();
    assert_eq!(numbers, (1..=slices.len()).collect());
    check::running(&Reader::open(directory).unwrap().merge().unwrap());
    slices.len()
}

/// Another process goes on in the same directory, and does not harm what is there.
fn check_next_process(directory: &Path) {
    let before = Reader::open(directory).unwrap().count();
    let mut store = JsonLines::builder(directory).build().unwrap();
    write(&mut store, &slices(3));
    assert_eq!(Reader::open(directory).unwrap().map(Result::unwrap).count(), before + 3);
}
