//! The files of a directory: their names, sizes, ages and number.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use nettrace::{
    SliceReceiver,
    store::{self, JsonLines},
};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::traffic::{files, read, slices, urls, write};

fn bytes(directory: &Path) -> u64 {
    files(directory).iter().map(|name| fs::metadata(directory.join(name)).unwrap().len()).sum()
}

#[test]
fn only_the_owner_can_read_files() {
    let directory = TempDir::new().unwrap();
    let new = directory.path().join("does/not/exist");
    let mut store = JsonLines::builder(&new).build().unwrap();
    write(&mut store, &slices(1));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let names = files(&new);
    let [name] = &names[..] else { panic!("{names:?}") };
    assert_eq!((mode(&new), mode(&new.join(name))), (0o700, 0o600));
    let own = format!("-{}-", std::process::id());
    assert!(name.starts_with("nettrace-20") && name.contains(&own) && name.ends_with(".jsonl"), "{name}");
}

#[test]
fn a_full_file_is_followed_by_another_one() {
    let directory = TempDir::new().unwrap();
    let slices = slices(10);
    let mut store = JsonLines::builder(directory.path()).build().unwrap();
    write(&mut store, &slices[..1]);
    drop(store);
    let line = bytes(directory.path());
    let directory = TempDir::new().unwrap();
    let mut store = JsonLines::builder(directory.path()).max_file_bytes(3 * line + line / 2).build().unwrap();
    // In one batch as in many.
    slices[..5].iter().for_each(|slice| store.receive(slice.clone()));
    store.flush();
    write(&mut store, &slices[5..]);
    drop(store);
    let names = files(directory.path());
    assert_eq!(names.len(), 4, "{names:?}");
    for name in &names {
        assert!(fs::metadata(directory.path().join(name)).unwrap().len() <= 3 * line + line / 2, "{name}");
    }
    let expected: Vec<_> = slices.iter().map(|slice| slice.request().req_url.to_string()).collect();
    assert_eq!(urls(&read(directory.path())), expected, "in the order of the names");
}

#[test]
fn a_line_that_is_longer_than_a_file_has_one_of_its_own() {
    let directory = TempDir::new().unwrap();
    let mut store = JsonLines::builder(directory.path()).max_file_bytes(1).build().unwrap();
    let slices = slices(3);
    slices.iter().for_each(|slice| store.receive(slice.clone()));
    store.flush();
    assert_eq!((files(directory.path()).len(), store.counts().written()), (3, 3));
    assert_eq!(urls(&read(directory.path())), ["/0", "/1", "/2"]);
}

#[test]
fn an_old_file_is_followed_by_another_one() {
    let directory = TempDir::new().unwrap();
    let slices = slices(4);
    let mut store = JsonLines::builder(directory.path()).max_file_age(Duration::ZERO).build().unwrap();
    store.flush();
    assert_eq!(files(directory.path()).len(), 1, "not without a slice");
    write(&mut store, &slices);
    assert_eq!(files(directory.path()).len(), 4);
    let mut store = JsonLines::builder(directory.path()).build().unwrap();
    write(&mut store, &slices);
    assert_eq!(files(directory.path()).len(), 5, "an hour has not passed");
}

#[test]
fn the_oldest_files_are_removed() {
    let directory = TempDir::new().unwrap();
    let other = directory.path().join("of-another-program.jsonl");
    fs::write(&other, vec![b'\n'; 1 << 20]).unwrap();
    let slices = slices(30);
    let builder = JsonLines::builder(directory.path()).max_file_age(Duration::ZERO);
    let mut store = builder.clone().max_files(5).build().unwrap();
    write(&mut store, &slices);
    assert_eq!(files(directory.path()).len(), 6);
    assert_eq!(urls(&read(directory.path())), ["/25", "/26", "/27", "/28", "/29"]);
    drop(store);

    fs::remove_file(&other).unwrap();
    let line = bytes(directory.path()) / 5;
    let limit = 12 * line;
    let mut store = builder.max_file_bytes(2 * line).max_total_bytes(limit).build().unwrap();
    for slice in &slices {
        write(&mut store, std::slice::from_ref(slice));
        assert!(bytes(directory.path()) <= limit, "{} of {limit}", bytes(directory.path()));
    }
    assert!(bytes(directory.path()) > limit / 2);
    assert_eq!(urls(&read(directory.path())).last(), Some(&"/29"));
    drop(store);
    // With files of a quarter of that.
    let mut store = JsonLines::builder(directory.path()).max_total_bytes(limit).build().unwrap();
    write(&mut store, &slices[..10]);
    let files = files(directory.path()).len();
    assert!(bytes(directory.path()) <= limit && files >= 4, "{files} files");
    assert_eq!(urls(&read(directory.path())).last(), Some(&"/9"));
}

#[test]
fn a_file_that_is_written_to_is_not_removed() {
    let directory = TempDir::new().unwrap();
    let slices = slices(20);
    let mut first = JsonLines::builder(directory.path()).build().unwrap();
    write(&mut first, &slices[..1]);
    // As if a process had been killed: nobody writes to it.
    let left = directory.path().join("nettrace-20200101T000000Z-7-aaaaaa-0000.jsonl");
    fs::write(&left, "").unwrap();
    let builder = JsonLines::builder(directory.path()).max_file_age(Duration::ZERO).max_files(1);
    let mut second = builder.build().unwrap();
    assert!(!left.exists());
    write(&mut second, &slices[1..]);
    assert_eq!(files(directory.path()).len(), 2);
    write(&mut first, &slices[..1]);
    assert_eq!(urls(&read(directory.path())), ["/0", "/0", "/19"]);
    assert_eq!((first.counts().written(), first.counts().lost()), (2, 0));
}

#[test]
fn nothing_but_regular_files_is_removed_or_read() {
    let directory = TempDir::new().unwrap();
    let path =
        |process: &str| directory.path().join(format!("nettrace-20200101T000000Z-7-{process}-0000.jsonl"));
    let target = directory.path().join("target");
    fs::write(&target, "{}\n").unwrap();
    fs::create_dir(path("aaaaaa")).unwrap();
    std::os::unix::fs::symlink(&target, path("bbbbbb")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, path("cccccc"), rustix::fs::Mode::RUSR).unwrap();
    let mut store =
        JsonLines::builder(directory.path()).max_file_age(Duration::ZERO).max_files(1).build().unwrap();
    write(&mut store, &slices(3));
    let names = files(directory.path());
    assert_eq!(names.len(), 5, "{names:?}");
    assert_eq!(read(directory.path()).len(), 2, "what the link leads to is a file");
}

/// As logrotate does it with `copytruncate`, or without.
#[test]
fn a_file_that_somebody_took_away_is_followed_by_another_one() {
    let directory = TempDir::new().unwrap();
    let slices = slices(3);
    let mut store = JsonLines::builder(directory.path()).build().unwrap();
    write(&mut store, &slices[..1]);
    let first = directory.path().join(&files(directory.path())[0]);
    fs::remove_file(&first).unwrap();
    write(&mut store, &slices[1..2]);
    assert_eq!(urls(&read(directory.path())), ["/1"]);
    let second = directory.path().join(&files(directory.path())[0]);
    fs::File::options().write(true).open(&second).unwrap().set_len(0).unwrap();
    write(&mut store, &slices[2..]);
    assert_eq!((files(directory.path()).len(), urls(&read(directory.path()))), (2, vec!["/2"]));
}

#[test]
fn a_directory_that_somebody_removed_is_created_again() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("store");
    let slices = slices(2);
    let mut store = JsonLines::builder(&directory).build().unwrap();
    write(&mut store, &slices[..1]);
    fs::remove_dir_all(&directory).unwrap();
    write(&mut store, &slices[1..]);
    assert_eq!((urls(&read(&directory)), store.counts().lost()), (vec!["/1"], 0));
}

#[test]
fn a_file_is_locked_until_it_is_closed() {
    let directory = TempDir::new().unwrap();
    let mut store = JsonLines::builder(directory.path()).build().unwrap();
    write(&mut store, &slices(1));
    let file = fs::File::open(directory.path().join(&files(directory.path())[0])).unwrap();
    assert!(flock(&file, FlockOperation::NonBlockingLockExclusive).is_err(), "it is locked");
    drop(store);
    assert!(flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(), "until it is closed");
}

#[test]
fn a_store_without_slices_leaves_no_file() {
    let directory = TempDir::new().unwrap();
    drop(JsonLines::builder(directory.path()).build().unwrap());
    assert_eq!(files(directory.path()), [""; 0]);
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = JsonLines::builder(file.join("sub")).build().unwrap_err();
    assert_eq!(error.to_string(), format!("cannot create the directory {}", file.join("sub").display()));
    assert!(std::error::Error::source(&error).is_some());
    assert!(JsonLines::builder(&file).build().is_err());
    let path = directory.path().display();
    let error =
        JsonLines::builder(directory.path()).max_total_bytes(10).max_file_bytes(11).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "a file in {path} may have 11 bytes, but all together only 10: set max_file_bytes to less, or \
             max_total_bytes to more"
        )
    );
    assert_eq!(error.path(), directory.path());
    let missing = directory.path().join("missing.jsonl");
    let error = store::read(&missing).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read {}", missing.display()));
}
