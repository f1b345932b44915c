//! Causes in this process and on this host.

use super::http::{is_known, sent_request, url};
use crate::{
    explain::{
        case::{Case, peer},
        found::{Found, Stage},
        late_reads::LateRead,
    },
    readable::duration,
    record::{HttpReqTrace, RequestStamps, Text, Timestamp},
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

/// Returns the read with the response to a request, if the bytes had waited in the kernel for at least half of the time
/// that the request waited.
pub(super) fn late_read<'a>(case: &Case<'a>) -> Option<(&'a HttpReqTrace, LateRead<'a>)> {
    let request = sent_request(case)?;
    let conn = case.trace().tcp_conns.get(&request.tcp_conn)?;
    let RequestStamps { read, .. } = request.stamps(case.trace())?;
    let read = LateRead::of(case.graph, conn, read?)?;
    let until = if is_known(request.resp_recv_at) { request.resp_recv_at } else { request.end_at };
    let wait = case.between(request.req_body_end_at, until);
    (read.nanos() >= wait / 2).then_some((request, read))
}

/// The kernel had the response long before the process read it.
pub(super) fn reads_late(case: &Case<'_>) -> Option<Found> {
    let (request, read) = late_read(case)?;
    if case.late_reads.at_the_same_time(&read).is_some() {
        return None; // `runtime_blocked` says more
    }
    let late = duration(read.nanos(), false);
    let sentence = match is_known(read.times.read_at) {
        true => {
            format!("The process read the response of {} {late} after the kernel had it.", peer(read.conn))
        }
        false => format!(
            "The kernel had the response of {} for {late}, and the process closed the connection without reading it.",
            peer(read.conn)
        ),
    };
    let found = Found::degraded(Stage::Process, "late reads", sentence)
        .check(format!(
            "Look for what kept the task of {} {} from running: blocking calls and long computations in async code, \
             or a process that got no CPU.",
            request.req_method,
            url(request)
        ))
        .costs(read.nanos());
    let found = quoting(found, &read);
    Some(match case.late_reads.has_unsampled() {
        true => found.not_seen(
            "whether other connections were read meanwhile: not all were sampled (`TimestampingProbe::every`)",
        ),
        false => found,
    })
}

/// The kernel had bytes for several connections, and the process read none of them.
pub(super) fn runtime_blocked(case: &Case<'_>) -> Option<Found> {
    let (_, read) = late_read(case)?;
    let other = case.late_reads.at_the_same_time(&read)?;
    let sentence = format!(
        "The process read nothing for {}, although the kernel had the responses of {} and {}.",
        duration(read.until.min(other.until).saturating_sub(read.received.max(other.received)), false),
        peer(read.conn),
        peer(other.conn)
    );
    let found = Found::degraded(Stage::Process, "runtime", sentence)
        .check(
            "Look for blocking calls and long computations in async code (std::thread::sleep, synchronous I/O, locks), \
             or a process that got no CPU (throttled, stopped).",
        )
        .costs(read.nanos());
    Some(quoting(quoting(found, &read), &other))
}

/// Adds both times of a read as evidence.
fn quoting(found: Found, read: &LateRead<'_>) -> Found {
    let at = read.times.received_at;
    let found = found.shows_at(read.conn, "kernelTimes.reads.receivedAt", at, at);
    let (field, at) = match is_known(read.times.read_at) {
        true => ("kernelTimes.reads.readAt", read.times.read_at),
        false => ("connCloseAt", read.conn.conn_close_at),
    };
    found.shows_at(read.conn, field, at, at)
}
