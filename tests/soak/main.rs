//! Much traffic for minutes or hours, of which some fails, while traces are taken and written: memory and descriptors stay
//! within bounds, links are right, and nothing is lost from the counts. Run by `tests/soak.sh`.
#![cfg(all(feature = "client", feature = "json"))]

mod server;
mod usage;
mod workers;

use nettrace::{Dump, NetTrace, Slice, SliceFilter, TraceSink, record::HttpReqTrace};
use server::{Log, Server};
use std::{
    env, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use test_support::check;
use usage::Usage;
use workers::Workers;

/// How long it takes in seconds: `NETTRACE_SOAK_SECONDS`, otherwise five minutes.
fn duration() -> Duration {
    let seconds = env::var("NETTRACE_SOAK_SECONDS").map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(300))
}

#[test]
#[ignore = "takes minutes: tests/soak.sh"]
fn a_sink_that_is_left_on() {
    let dumps = tempfile::tempdir().expect("a directory");
    let failed_slices = Arc::<AtomicU64>::default();
    let receiver = failed_slices.clone();
    let sink = TraceSink::builder()
        .on_slice(SliceFilter::none().failed(true), move |_: Slice| {
            receiver.fetch_add(1, Relaxed);
        })
        .dump(Dump::to(dumps.path()).interval(Duration::from_secs(10)).max_files(3))
        .build();
    let server = Server::start();
    let workers = Workers::start(&sink, &server.url());

    let (begin, duration) = (Instant::now(), duration());
    let (mut usages, mut links) = (Vec::new(), 0);
    while begin.elapsed() < duration {
        std::thread::sleep(Duration::from_secs(1).min(duration / 50));
        let trace = sink.snapshot("while it runs");
        check::running(&trace);
        links += check_links(&trace, server.log());
        drop(trace);
        sink.write_json("while it runs", io::sink()).expect("a sink takes everything");
        usages.push(Usage::now());
    }
    let made = workers.stop();
    assert!(sink.flush(Duration::from_secs(60)), "the receivers are done");
    let trace = sink.snapshot("at the end");
    check::finished(&trace);
    check_counts(&trace, made.total());
    assert_eq!(failed_slices.load(Relaxed), made.failed);
    let kept = trace.http_requests.iter().filter(|request| request.failure.is_some()).count();
    println!(
        "{} requests in {:.0?}, {} of them failed, {kept} of those kept; {links} links checked; {}",
        made.total(),
        begin.elapsed(),
        made.failed,
        Usage::summary(&usages)
    );
    assert!(links > 0 && made.failed > 0 && dumps.path().read_dir().unwrap().count() <= 3);
    Usage::assert_flat(&usages);
}

/// Asserts that requests are linked to the connections that carried them, according to the server, and returns for how many
/// that was checked.
fn check_links(trace: &NetTrace, log: &Log) -> usize {
    let checked = trace.http_requests.iter().filter(|request| check_link(trace, request, log));
    checked.count()
}

fn check_link(trace: &NetTrace, request: &HttpReqTrace, log: &Log) -> bool {
    let number = request.req_url.rsplit('/').next().and_then(|number| number.parse().ok());
    let Some(port) = number.and_then(|number| log.port(number)) else { return false };
    let conn = trace.tcp_conns.get(&request.tcp_conn);
    // The server has seen the request, which a client that gave it up may not know.
    if conn.is_none() && request.resp_status_code == 0 {
        return false;
    }
    let conn = conn.unwrap_or_else(|| panic!("{request:?} has no connection"));
    assert_eq!(conn.addr_tuple.src_port, port, "{request:?} was sent over another connection");
    true
}

/// Asserts that all requests are in the trace or counted.
fn check_counts(trace: &NetTrace, made: u64) {
    let dropped = trace.dropped.clone().unwrap_or_default();
    assert_eq!(trace.http_requests.len() as u64 + dropped.http_requests, made);
    let counted: u64 = dropped.by_host.iter().map(|host| host.requests).sum();
    assert_eq!(counted, dropped.http_requests);
}
