//! Files that are not whole.

use std::fs;

use nettrace::{
    NetTrace,
    store::{self, JsonLines, Reader},
};
use tempfile::TempDir;

use crate::traffic::{files, slices, write};

#[test]
fn a_file_is_readable_wherever_it_was_cut_off() {
    let directory = TempDir::new().unwrap();
    let mut store = JsonLines::builder(directory.path()).build().unwrap();
    write(&mut store, &slices(2));
    let path = directory.path().join(&files(directory.path())[0]);
    let whole = fs::read(&path).unwrap();
    let ends: Vec<_> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    let cut = directory.path().join("cut.jsonl");
    for len in 0..=whole.len() {
        fs::write(&cut, &whole[..len]).unwrap();
        let mut reader = Reader::open(&cut).unwrap();
        let read = reader.by_ref().collect::<Result<Vec<_>, _>>().unwrap();
        // A line without a line feed may be whole.
        assert_eq!(read.len(), ends.iter().filter(|end| len >= **end).count(), "{len}");
        let is_torn = len > 0 && !ends.iter().any(|end| len == *end || len == end + 1);
        let torn: Vec<_> = reader.torn_lines().iter().map(|torn| (torn.path.clone(), torn.line)).collect();
        let expected = is_torn.then(|| (cut.clone(), read.len() as u64 + 1));
        assert_eq!(torn, Vec::from_iter(expected), "{len}");
    }
    // As the file may be after a loss of power.
    fs::write(&cut, [&whole[..], &[0; 100]].concat()).unwrap();
    assert_eq!(store::read(&cut).unwrap().http_requests.len(), 2);
}

#[test]
fn a_line_that_is_no_trace_is_reported_with_its_place() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.jsonl");
    let name = path.display();
    for (content, expected) in [
        ("{}\n\n{\"dials\": 1}\n", format!("{name}:3:11: invalid type: integer `1`, expected a sequence")),
        ("{}\n[]\n{}\n", format!("{name}:2:1: a list, where a trace is an object")),
        ("{} {}\n{}", format!("{name}:1:4: trailing characters")),
        ("{\"dials\": [\n{}\n", format!("{name}:1:11: EOF while parsing a list")),
    ] {
        fs::write(&path, content).unwrap();
        let error = store::read(&path).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(error.line().is_some());
        let mut reader = Reader::open(directory.path()).unwrap();
        let read: Vec<_> = reader.by_ref().collect();
        assert!(read.last().unwrap().is_err() && reader.next().is_none());
    }
}

#[test]
fn what_is_read_is_bounded() {
    let directory = TempDir::new().unwrap();
    for name in ["a.jsonl", "b.jsonl"] {
        fs::write(directory.path().join(name), vec![b'\n'; 1 << 20]).unwrap();
    }
    let read = |bytes| Reader::open(directory.path()).unwrap().max_bytes(bytes).merge();
    assert_eq!(read(2 << 20).unwrap(), NetTrace::default());
    let path = directory.path().display();
    assert_eq!(
        read((2 << 20) - 1).unwrap_err().to_string(),
        format!("{path} is longer than 1 MiB: read single files of it")
    );
    // One line, which has no end.
    let error = Reader::open("/dev/zero").unwrap().max_bytes(3 << 20).merge().unwrap_err();
    assert_eq!(error.to_string(), "/dev/zero is longer than 3 MiB: read single files of it");
}
