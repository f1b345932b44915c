//! A run: one client, measured for a number of requests.

use crate::{
    BoxError,
    args::Args,
    clients::{Client, operations, packets},
    meter::{self, Allocations},
    pin::{self, Processor},
    statistics::median,
};
use serde::{Deserialize, Serialize};
use std::{
    error::Error,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// The figures of a run. Times and counts are per request unless the name says otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub mode: String,
    pub requests: u64,
    pub concurrency: u64,
    pub wall_us: f64,
    pub cpu_us: f64,
    pub allocs: f64,
    pub alloc_bytes: f64,
    /// Growth of the heap, including the allocator's overhead.
    pub kept_bytes: f64,
    /// The same per socket operation.
    pub kept_bytes_per_op: Option<f64>,
    /// Socket operations of all requests, including those that were not kept.
    pub ops: Option<u64>,
    /// The slowest request, from the call to the end of its response.
    pub worst_ms: f64,
    /// The median time of a snapshot of everything that was kept.
    pub snapshot_ms: Option<f64>,
    /// Packets of all requests that are kept, and that are known to be missing.
    pub packets_kept: Option<u64>,
    pub packets_missing: Option<u64>,
    /// Tasks and descriptors that are left when the client is closed.
    pub tasks_left: i64,
    pub fds_left: i64,
}

/// Measures the client that `args` describe.
pub fn run(args: &Args) -> Result<Outcome, Box<dyn Error>> {
    if !args.unpinned {
        pin::keep_to(Processor::First)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(args)).map_err(|error| error as Box<dyn Error>)
}

async fn measure(args: &Args) -> Result<Outcome, BoxError> {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks() as i64;
    let (tasks_before, fds_before) = (tasks(), meter::descriptors()? as i64);
    let client = Client::new(args)?;

    // The warm-up opens connections and grows buffers.
    let warm_up = args.warm_up.unwrap_or((args.requests / 10).min(2_000)).max(args.concurrency);
    let stop = Arc::new(AtomicBool::new(false));
    requests(&client, warm_up, args.concurrency).await?;
    let snapshot_sink = client.sink().filter(|_| args.snapshots > 0);
    let ops_before = snapshot_sink.map(|sink| operations(&sink.snapshot("")));

    let snapshots = args.snapshot_every.zip(client.sink().cloned()).map(|(every, sink)| {
        let stop = stop.clone();
        std::thread::spawn(move || {
            while !stop.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(every));
                drop(sink.snapshot("while others write"));
            }
        })
    });
    let heap = meter::heap();
    let (cpu, wall) = (meter::cpu(), Instant::now());
    let worst = requests(&client, args.requests, args.concurrency).await?;
    let (cpu, wall) = (meter::cpu() - cpu, wall.elapsed());
    let kept = meter::heap() as f64 - heap as f64;
    stop.store(true, Relaxed);
    if let Some(snapshots) = snapshots {
        snapshots.join().map_err(|_| "a snapshot panicked")?;
    }

    let snapshot_ms = snapshot_sink.map(|sink| snapshot_ms(sink, args.snapshots));
    let ops = snapshot_sink.map(|sink| operations(&sink.snapshot("")));
    let ops = ops.zip(ops_before).map(|(after, before)| after - before);

    let packets = client.sink().and_then(packets);

    // Counting costs time, so it has requests of its own, which are not timed.
    let counted = (args.requests / 10).clamp(args.concurrency.max(10), 2_000).min(args.requests);
    let counter = Allocations::start();
    requests(&client, counted, args.concurrency).await?;
    let (allocs, alloc_bytes) = counter.stop();

    // The same condition as for operations: the instructions of `--snapshots 0` are counted.
    if args.snapshots > 0 {
        client.settle().await?;
        client.check_recorded(warm_up + args.requests + counted)?;
    }
    client.close().await?;
    wait_until(Duration::from_secs(2), || {
        Ok(tasks() <= tasks_before && meter::descriptors()? as i64 <= fds_before)
    })
    .await?;
    let each = |total: f64| total / args.requests as f64;
    Ok(Outcome {
        mode: args.mode.name().to_owned(),
        requests: args.requests,
        concurrency: args.concurrency,
        wall_us: each(wall.as_secs_f64() * 1e6),
        cpu_us: each(cpu.as_secs_f64() * 1e6),
        allocs: allocs as f64 / counted as f64,
        alloc_bytes: alloc_bytes as f64 / counted as f64,
        kept_bytes: each(kept),
        kept_bytes_per_op: ops.filter(|ops| *ops > 0).map(|ops| kept / ops as f64),
        ops,
        worst_ms: worst.as_secs_f64() * 1e3,
        snapshot_ms,
        packets_kept: packets.map(|[kept, _]| kept),
        packets_missing: packets.map(|[_, missing]| missing),
        tasks_left: tasks() - tasks_before,
        fds_left: meter::descriptors()? as i64 - fds_before,
    })
}

/// Makes `count` requests, `concurrency` at a time, and returns the time of the slowest.
pub async fn requests(client: &Client, count: u64, concurrency: u64) -> Result<Duration, BoxError> {
    // All tasks run on this thread.
    let _guard = client.enter();
    let (left, worst) = (Arc::new(AtomicU64::new(count)), Arc::new(Mutex::new(Duration::ZERO)));
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        let (mut client, left, worst) = (client.clone(), left.clone(), worst.clone());
        workers.spawn(async move {
            let mut slowest = Duration::ZERO;
            while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                let begin = Instant::now();
                client.get().await?;
                slowest = slowest.max(begin.elapsed());
            }
            let mut worst = worst.lock().map_err(|_| "another worker panicked")?;
            *worst = worst.max(slowest);
            Ok::<_, BoxError>(())
        });
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    let worst = *worst.lock().map_err(|_| "a worker panicked")?;
    Ok(worst)
}

pub fn snapshot_ms(sink: &nettrace::TraceSink, count: usize) -> f64 {
    median((0..count).map(|_| {
        let begin = Instant::now();
        let trace = sink.snapshot("load");
        let took = begin.elapsed();
        drop(trace);
        took.as_secs_f64() * 1e3
    }))
}

/// Waits for a condition, for at most `limit`.
async fn wait_until(limit: Duration, met: impl Fn() -> io::Result<bool>) -> io::Result<()> {
    let begin = Instant::now();
    while !met()? && begin.elapsed() < limit {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
