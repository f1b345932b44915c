//! Causes in this process and on this host.

use crate::explain::{
    case::Case,
    found::{Found, Stage},
};

/// What the operating system calls it: `EMFILE` and `ENFILE`.
const TEXTS: [&str; 2] = ["Too many open files", "Too many open files in system"];

pub(super) fn descriptors_exhausted(case: &Case<'_>) -> Option<Found> {
    let dial = case.dials.iter().find(|dial| TEXTS.iter().any(|text| dial.dial_err.contains(text)))?;
    let sentence = format!("There was no file descriptor left to connect to {}.", dial.dst_address);
    let found = Found::failure(Stage::Process, "file descriptors", sentence).check(
        "Raise the limit of open files (ulimit -n), and look for connections and files that are not closed.",
    );
    Some(found.shows_at(*dial, "dialErr", &**dial.dial_err, dial.dial_end_at))
}
