//! A disk that is full, and then is not.

use std::{collections::BTreeSet, fs, io::Write, path::Path, sync::Mutex};

use nettrace::{
    Slice, SliceReceiver,
    store::{self, JsonLines},
};
use tempfile::{NamedTempFile, TempDir};
use test_support::{lab, require::require_lab};

use crate::traffic::{files, read, slices, urls};

/// Fills the disk to its last byte.
fn fill(file: &Path) {
    let mut file = fs::File::options().append(true).create(true).open(file).unwrap();
    for block in [64 << 10, 4 << 10, 1] {
        while file.write(&vec![0; block]).is_ok_and(|written| written > 0) {}
    }
}

#[test]
fn a_full_disk_is_survived_and_reported_once() {
    require_lab!();
    let directory = TempDir::new().unwrap();
    let slices = slices(400);
    lab::on_small_disk(directory.path(), 16, || check(directory.path(), &slices));
    assert_eq!(files(directory.path()), [""; 0], "the disk is gone");
}

fn check(directory: &Path, slices: &[Slice]) {
    let log = NamedTempFile::new().unwrap();
    let subscriber = tracing_subscriber::fmt().without_time().with_level(false).with_ansi(false);
    let subscriber = subscriber.with_writer(Mutex::new(log.reopen().unwrap())).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let events = || -> Vec<_> {
        let log = fs::read_to_string(log.path()).unwrap();
        log.lines().map(|line| line.strip_prefix("nettrace: ").expect("the target").to_owned()).collect()
    };
    let filler = directory.join("filler");
    let mut store = JsonLines::builder(directory.join("store")).build().unwrap();
    let counts = store.counts();
    let directory = directory.join("store");
    let is_whole = || {
        let text = fs::read(directory.join(&files(&directory)[0])).unwrap();
        text.is_empty() || text.ends_with(b"\n")
    };
    let mut receive = |slices: &[Slice]| {
        for slice in slices {
            store.receive(slice.clone());
            store.flush();
        }
    };
    receive(&slices[..10]);
    assert_eq!((counts.written(), counts.lost(), events().len()), (10, 0, 0));

    fill(&filler);
    // The last page of the file takes some lines more, and a part of one.
    receive(&slices[10..20]);
    let written = counts.written();
    assert!((10..20).contains(&written), "{written}");
    assert_eq!(counts.lost(), 0, "they wait");
    assert!(is_whole());
    let name = directory.display();
    let expected = format!("cannot write slices to {name}: No space left on device (os error 28)");
    assert_eq!(events(), std::slice::from_ref(&expected));

    fs::remove_file(&filler).unwrap();
    receive(&slices[20..21]);
    assert_eq!((counts.written(), counts.lost()), (21, 0), "what has waited is there");
    assert_eq!(events().len(), 2);
    assert_eq!(events()[1], format!("slices are written to {name} again; 0 were lost"));

    // More than waits.
    fill(&filler);
    receive(slices);
    let lost = counts.lost();
    assert!(lost > 0 && counts.written() + lost < 21 + slices.len() as u64, "{lost}");
    assert!(is_whole());
    assert_eq!(events()[2..], [expected]);
    fs::remove_file(&filler).unwrap();
    receive(&slices[..1]);
    assert_eq!((counts.lost(), counts.written() + counts.lost()), (lost, 22 + slices.len() as u64));
    assert_eq!(events()[3..], [format!("slices are written to {name} again; {lost} were lost")]);

    let read = read(&directory);
    let expected: Vec<_> = slices[..21].iter().map(|slice| slice.request().req_url.to_string()).collect();
    assert_eq!(urls(&read)[..21], expected);
    assert_eq!((read.len() as u64, files(&directory).len()), (counts.written(), 1));
    let distinct: BTreeSet<_> = urls(&read).into_iter().collect();
    assert_eq!(store::read(&directory).unwrap().http_requests.len(), distinct.len());

    // What cannot be written in the end is lost, too.
    fill(&filler);
    receive(&slices[..20]);
    drop(store);
    assert_eq!(counts.written() + counts.lost(), 42 + slices.len() as u64);
    let last = events().pop().unwrap();
    assert!(last.ends_with(&format!("slices could not be written to {name} and are lost")), "{last}");
    assert!(is_whole());
}
