//! Peers that send as much as they can: with the default bounds a sink stays below 64 MiB, and snapshots are quick.
//!
//! cargo-nextest runs each test in a process of its own. The allocator counts what each thread allocates, so servers
//! whose memory must not be counted run on other threads.

mod budget;
mod certificates;
mod explained;
// Not in the support package: it would have to switch on features of nettrace, in every build of the tests.
#[path = "../sink/mock.rs"]
mod mock;
mod names;
mod operations;
mod recorder;
mod texts;
mod wire;

use std::time::Duration;

use nettrace::{NetTrace, TraceSink};
use rustix::time::{ClockId, clock_gettime};
use test_support::alloc;
use tokio::runtime;

#[global_allocator]
static COUNTING: alloc::Counting = alloc::Counting;

const MAX_SINK_BYTES: i64 = 64 << 20;
/// The maximum CPU time of a snapshot. Unoptimised code takes about ten times as long.
const MAX_SNAPSHOT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1_000 } else { 100 });

/// Runs `drive` with the sink, then passes a trace to `check`. Asserts that the sink holds less than [`MAX_SINK_BYTES`]
/// in the end, and that the snapshot took less than [`MAX_SNAPSHOT`].
#[track_caller]
fn assert_bounded(sink: TraceSink, drive: impl AsyncFnOnce(&TraceSink), check: impl FnOnce(&NetTrace)) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(drive(&sink));
    drop(runtime);
    let before = cpu_time();
    let trace = sink.snapshot("hostile");
    let took = cpu_time() - before;
    let counts =
        [trace.http_requests.len(), trace.dials.len(), trace.tcp_conns.len(), trace.tls_tunnels.len()];
    println!("{counts:?} requests, dials, connections, tunnels; {:?}", trace.dropped);
    check(&trace);
    // The trace shares memory with the sink.
    drop(trace);
    let with_sink = alloc::live();
    drop(sink);
    let held = with_sink - alloc::live();
    println!("{:.1} MiB held; the snapshot took {took:?}", held as f64 / f64::from(1 << 20));
    assert!(held > 0 && held < MAX_SINK_BYTES, "the sink held {held} bytes");
    assert!(took < MAX_SNAPSHOT, "the snapshot took {took:?}");
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// Asserts that a text was cut to `max` bytes, and that the record says it was at least `at_least` bytes long.
#[track_caller]
fn assert_cut(text: &str, max: usize, original: Option<u64>, at_least: u64) {
    let cut = text.strip_suffix('…').unwrap_or_else(|| panic!("no ellipsis after {} bytes", text.len()));
    assert!(cut.len() <= max && cut.len() + 4 > max, "{} bytes", cut.len());
    assert!(original.is_some_and(|original| original >= at_least), "{original:?}");
}
