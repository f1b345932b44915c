//! How long recording waits for other threads that read the trace or write to it at the same time:
//! `cargo bench -p nettrace-benches --bench waits`
//!
//! Each line has percentiles of the time that recording takes while another thread does what the line says. The lines
//! of a table are measured in turn, and are to be compared with the first. With fewer than two processors the times are
//! those of the scheduler.

use nettrace::{
    Retention, TraceSink,
    bench_support::{self, Conn},
};
use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Instant,
};

const ROUNDS: usize = 10;
/// Measured steps per round.
const TIMES: usize = 20_000;
/// Connections that are kept, so that a snapshot takes long.
const KEPT: usize = 10_000;

fn main() {
    table("one operation", |sink| {
        let mut conn = bench_support::dial(sink);
        Box::new(move || conn.exchange(100))
    });
    table("a dial and its connection", |sink| {
        let sink = sink.clone();
        Box::new(move || drop(bench_support::dial(&sink)))
    });
}

type Step = Box<dyn FnMut()>;

/// The work of the other thread, which it does until the flag is set.
type Contender = fn(&TraceSink, &AtomicBool);

fn table(what: &str, prepare: impl Fn(&TraceSink) -> Step) {
    let contenders: [(&str, Contender); 5] = [
        ("alone", |_, _| ()),
        ("another thread computes", |_, stop| repeat_until(stop, || drop(black_box(vec![1_u64; 64])))),
        ("another writes to a sink of its own", |_, stop| write(&TraceSink::new(), stop)),
        ("another writes to the same sink", write),
        ("another takes snapshots without a pause", |sink, stop| {
            repeat_until(stop, || drop(black_box(sink.snapshot("meanwhile"))));
        }),
    ];
    let mut taken: Vec<Vec<u64>> = contenders.iter().map(|_| Vec::with_capacity(ROUNDS * TIMES)).collect();
    for _ in 0..ROUNDS {
        for ((_, contender), taken) in contenders.iter().zip(&mut taken) {
            round(&prepare, *contender, taken);
        }
    }
    println!("\n| {what}, ns, while | median | 99 % | 99.9 % | 99.99 % | worst |");
    println!("|---|---|---|---|---|---|");
    for ((name, _), mut taken) in contenders.iter().zip(taken) {
        taken.sort_unstable();
        let percentile = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize];
        let [p50, p99, p99_9, p99_99, max] = [0.5, 0.99, 0.999, 0.9999, 1.0].map(percentile);
        println!("| {name} | {p50} | {p99} | {p99_9} | {p99_99} | {max} |");
    }
}

fn round(prepare: impl Fn(&TraceSink) -> Step, contender: Contender, taken: &mut Vec<u64>) {
    let sink = TraceSink::builder().retention(Retention::bounded().connections(KEPT)).build();
    (0..KEPT).for_each(|_| bench_support::dial(&sink).exchange(100));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| contender(&sink, &stop));
        let mut step = prepare(&sink);
        for _ in 0..TIMES {
            let begin = Instant::now();
            step();
            taken.push(begin.elapsed().as_nanos() as u64);
        }
        stop.store(true, Relaxed);
    });
}

fn write(sink: &TraceSink, stop: &AtomicBool) {
    repeat_until(stop, || {
        let mut conn: Conn = bench_support::dial(sink);
        (0..4).for_each(|_| conn.exchange(100));
    });
}

fn repeat_until(stop: &AtomicBool, mut step: impl FnMut()) {
    while !stop.load(Relaxed) {
        step();
    }
}
