//! Snapshots of all records, and their JSON.

use super::{Scene, Whole, Work, conn::exchange, http::requests};
use nettrace::{Retention, Timestamp, TraceSink, bench_support};
use std::{thread, time::Duration};

pub(super) fn scenes() -> Vec<Scene> {
    let of_requests = |size, count| {
        [
            Scene::new(format!("snapshot/{size} requests"), move || snapshot(after_requests(count))),
            Scene::new(format!("json/{size} requests"), move || json(after_requests(count))),
        ]
    };
    let of_most_requests = of_requests("100k", 100_000).map(Scene::unguarded);
    let of_requests =
        [of_requests("1k", 1_000), of_requests("10k", 10_000), of_most_requests].into_iter().flatten();
    let of_conns = [
        Scene::new("snapshot/1k connections", || snapshot(after_dials(1_000))),
        Scene::new("json/1k connections", || json(after_late_dials(1_000))),
        Scene::new("snapshot/10k connections", || snapshot(after_dials(10_000))),
        Scene::new("snapshot/1k refused dials", || snapshot(after_refused_dials(1_000))),
        Scene::new("snapshot/1k lookups", || snapshot(after_lookups(1_000))),
    ];
    of_requests.chain(of_conns).collect()
}

/// Creates a sink with this many requests, all over one connection.
fn after_requests(count: usize) -> TraceSink {
    let sink = TraceSink::builder().retention(Retention::unbounded()).build();
    let mut request = requests(&sink, Some(bench_support::dial(&sink)), 5);
    (0..count).for_each(|_| request());
    sink
}

/// Creates a sink with this many connections of four operations each.
fn after_dials(count: usize) -> TraceSink {
    let sink = TraceSink::builder().retention(Retention::unbounded()).build();
    dials(&sink, count);
    sink
}

/// The same, a second after the sink was created: the times have four digits in every run, however long it takes.
fn after_late_dials(count: usize) -> TraceSink {
    let sink = TraceSink::builder().retention(Retention::unbounded()).build();
    thread::sleep(Duration::from_secs(1));
    dials(&sink, count);
    sink
}

fn dials(sink: &TraceSink, count: usize) {
    for _ in 0..count {
        let mut conn = bench_support::dial(sink);
        (0..2).for_each(|_| conn.exchange(1024));
    }
}

fn after_refused_dials(count: usize) -> TraceSink {
    let sink = TraceSink::builder().retention(Retention::unbounded()).build();
    (0..count).for_each(|_| bench_support::refused_dial(&sink));
    sink
}

/// Creates a sink with this many DNS queries, each answered with two addresses.
fn after_lookups(count: usize) -> TraceSink {
    let sink = TraceSink::builder().retention(Retention::unbounded()).build();
    let exchange = exchange();
    (0..count).for_each(|_| exchange.record(&sink));
    sink
}

fn snapshot(sink: TraceSink) -> impl Work {
    Whole::new(move || sink.snapshot("all"))
}

fn json(sink: TraceSink) -> impl Work {
    let mut trace = sink.snapshot("all");
    // The times have the same number of digits in every run.
    for (millis, request) in trace.http_requests.iter_mut().enumerate() {
        let at = Timestamp::relative(millis as u64 * 1_000_000);
        (request.req_sent_at, request.resp_recv_at) = (at, at);
        (request.resp_body_end_at, request.end_at) = (at, at);
    }
    Whole::new(move || serde_json::to_writer(std::io::sink(), &trace).unwrap())
}
