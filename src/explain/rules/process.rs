//! Causes in this process and on this host.

use crate::{
    explain::{
        case::Case,
        found::{Found, Stage},
    },
    record::{Text, Timestamp},
};

/// What the operating system calls `EMFILE`. For `ENFILE` it adds ` in system`.
const TOO_MANY: &str = "Too many open files";
const IN_SYSTEM: &str = "Too many open files in system";

pub(super) fn descriptors_exhausted(case: &Case<'_>) -> Option<Found> {
    let is_it = |error: &Text| error.contains(TOO_MANY);
    let of_dials = || case.dials.iter().filter(|dial| is_it(&dial.dial_err) && case.has_failed());
    let of_resolver = || {
        // The resolver may have gone on to another nameserver, and the lookup has failed for a reason that came later.
        let dials = case.dials.iter().filter(|_| case.has_failed() && case.attempts.is_empty());
        dials.flat_map(|dial| dial.resolver_dials.iter().map(move |attempt| (dial, attempt)))
    };
    let (dial, field, error, at): (_, _, &Text, Timestamp) =
        of_dials()
            .map(|dial| (dial, "dialErr", &*dial.dial_err, dial.dial_end_at))
            .chain(of_resolver().filter(|(_, attempt)| is_it(&attempt.dial_err)).map(|(dial, attempt)| {
                (dial, "resolverDials.dialErr", &*attempt.dial_err, attempt.dial_end_at)
            }))
            .next()?;
    let (what, limit) = match error.contains(IN_SYSTEM) {
        true => ("The system had no file descriptor left", "of the system (sysctl fs.file-max)"),
        false => ("The process had no file descriptor left", "of the process (ulimit -n)"),
    };
    let found = Found::failure(
        Stage::Process,
        "file descriptors",
        format!("{what} to connect to {}.", dial.dst_address),
    )
    .check(format!(
        "Look for connections and files that are not closed (ls /proc/<pid>/fd), or raise the limit {limit}."
    ));
    Some(found.shows_at(*dial, field, error, at))
}
