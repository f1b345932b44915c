//! `--turns`: several clients in one process take turns of a few requests. A machine that becomes slower or faster does
//! so for all of them, so that a difference of 1 % is visible.

use crate::{
    BoxError,
    args::Args,
    clients::Client,
    meter::{self, Allocations, Thread},
    mode::Mode,
    pin::{self, Processor},
    run::{requests, snapshot_ms},
    statistics::{median, median_within},
    table::{self, Line},
};
use serde::Serialize;
use std::{
    error::Error,
    io, mem,
    time::{Duration, Instant},
};

/// One of the clients that are compared.
struct MeasuredClient {
    client: Client,
    /// The number of requests that it has made.
    made: u64,
    /// The threads of its probes and exporters.
    threads: Vec<Thread>,
    /// The CPU time of its threads before the first turn.
    threads_cpu_before: Duration,
}

/// The measurements of the clients of one mode, over all passes.
struct ModeRun {
    args: Args,
    /// The number of requests that are made before the measurement.
    behind: u64,
    allocs: f64,
    kept_bytes: f64,
    snapshot_ms: Option<f64>,
    /// Requests during the turns, including those that are not measured.
    in_turns: u64,
    /// CPU time of this thread, in microseconds per request, one figure for each turn.
    cpu_us: Vec<f64>,
    /// The same in wall time.
    wall_us: Vec<f64>,
    /// CPU time of the threads of its clients during the turns.
    threads_cpu: Duration,
}

/// The printed figures of a mode. Times are per request. A ratio divides by the turn of the baseline in the same round.
#[derive(Debug, Serialize)]
struct Report {
    mode: Mode,
    baseline: Mode,
    behind: u64,
    rounds: usize,
    slice: u64,
    cpu_us: f64,
    /// The part of `cpu_us` that the threads of probes and exporters took.
    threads_us: f64,
    wall_us: f64,
    /// The median over all rounds.
    cpu_ratio: f64,
    /// The 95 % confidence interval of the median of the medians of each pass; `None` for fewer than six passes.
    cpu_ratio_within: Option<[f64; 2]>,
    /// The ratio of the sums of all rounds, in which rare events count.
    cpu_total_ratio: f64,
    wall_ratio: f64,
    allocs: f64,
    /// Bytes that each of the requests before the measurement left on the heap.
    kept_bytes: f64,
    snapshot_ms: Option<f64>,
}

/// Measures the clients, and prints a line for each mode.
pub fn turns(args: &Args, rounds: usize) -> Result<(), Box<dyn Error>> {
    if !args.unpinned {
        pin::keep_to(Processor::First)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reports = runtime.block_on(take_turns(args, rounds)).map_err(|error| error as Box<dyn Error>)?;
    for report in &reports {
        println!("{}", serde_json::to_string(report)?);
    }
    let lines: Vec<Line> = reports.iter().map(Report::line).collect();
    table::print(args, &lines, reports.first().map_or(0, |report| report.rounds), args.slice);
    Ok(())
}

async fn take_turns(args: &Args, rounds: usize) -> Result<Vec<Report>, BoxError> {
    let of_mode = |mode: &Mode| {
        let args = Args { mode: *mode, ..args.clone() };
        args.behind.clone().into_iter().map(move |behind| ModeRun::new(args.clone(), behind))
    };
    let mut lines: Vec<ModeRun> = args.modes.iter().flat_map(of_mode).collect();
    let passes = args.anew as usize;
    for number in 0..passes {
        pass(&mut lines, number, rounds.div_ceil(passes)).await?;
    }
    let report = |line: &ModeRun| {
        let base = args.baseline_index(line.args.mode)? * args.behind.len();
        Ok(line.report(&lines[base], passes))
    };
    lines.iter().map(report).collect()
}

/// Runs a pass with new clients. They are created in another order than in the pass before, because the place of a
/// client in memory makes a difference of 1 %.
async fn pass(lines: &mut [ModeRun], number: usize, rounds: usize) -> Result<(), BoxError> {
    let mut all = Vec::new();
    for place in 0..lines.len() {
        let index = (place + number) % lines.len();
        all.push((index, lines[index].new_client().await?));
    }
    for round in 0..rounds {
        // The order changes, because a turn may leave work behind for the next one.
        if round % 2 == 0 {
            all.rotate_left(1);
        }
        all.reverse();
        for (index, measured) in &mut all {
            lines[*index].turn(measured).await?;
        }
    }
    for (index, measured) in all {
        lines[index].retire(measured).await?;
    }
    Ok(())
}

impl MeasuredClient {
    async fn make(&mut self, args: &Args, count: u64) -> Result<(), BoxError> {
        self.made += count;
        requests(&self.client, count, args.concurrency.min(count)).await.map(drop)
    }

    /// Returns the CPU time of its threads, when they have done what the requests so far have left to them.
    async fn threads_cpu(&self) -> Result<Duration, BoxError> {
        self.client.settle().await?;
        Ok(self.threads.iter().map(Thread::cpu).sum::<io::Result<Duration>>()?)
    }
}

impl ModeRun {
    fn new(args: Args, behind: u64) -> Self {
        let (snapshot_ms, cpu_us, wall_us) = Default::default();
        let (allocs, kept_bytes, threads_cpu, in_turns) = Default::default();
        ModeRun { args, behind, allocs, kept_bytes, snapshot_ms, in_turns, cpu_us, wall_us, threads_cpu }
    }

    async fn new_client(&mut self) -> Result<MeasuredClient, BoxError> {
        let mut measured = self.warmed_up().await?;
        let sink = measured.client.sink().filter(|_| self.args.snapshots > 0 && self.snapshot_ms.is_none());
        self.snapshot_ms = sink.map(|sink| snapshot_ms(sink, self.args.snapshots)).or(self.snapshot_ms);
        // A multiple of the number of records that are allocated together.
        let counted = self.args.slice.next_multiple_of(32);
        let counter = Allocations::start();
        measured.make(&self.args, counted).await?;
        self.allocs = counter.stop().0 as f64 / counted as f64;
        measured.threads_cpu_before = measured.threads_cpu().await?;
        Ok(measured)
    }

    async fn warmed_up(&mut self) -> Result<MeasuredClient, BoxError> {
        let others = Thread::all()?;
        let client = Client::new(&self.args)?;
        let mut measured =
            MeasuredClient { client, made: 0, threads: Vec::new(), threads_cpu_before: Duration::ZERO };
        let heap = meter::heap();
        measured.make(&self.args, self.behind).await?;
        self.kept_bytes = (meter::heap() as f64 - heap as f64) / self.behind.max(1) as f64;
        measured.threads = Thread::all()?.into_iter().filter(|thread| !others.contains(thread)).collect();
        measured.threads_cpu_before = measured.threads_cpu().await?;
        Ok(measured)
    }

    async fn turn(&mut self, measured: &mut MeasuredClient) -> Result<(), BoxError> {
        let Args { slice, unbounded, .. } = self.args;
        // Not measured: refills the caches after the other clients.
        measured.make(&self.args, slice / 10).await?;
        let (cpu, wall) = (meter::this_thread(), Instant::now());
        measured.make(&self.args, slice).await?;
        let (cpu, wall) = (meter::this_thread() - cpu, wall.elapsed());
        let each = |time: Duration| time.as_secs_f64() * 1e6 / slice as f64;
        self.cpu_us.push(each(cpu));
        self.wall_us.push(each(wall));
        self.in_turns += slice + slice / 10;
        // A client that keeps everything is replaced before it holds much more than `behind` requests.
        if unbounded && measured.made > self.behind + self.behind / 10 {
            let used = mem::replace(measured, self.warmed_up().await?);
            self.retire(used).await?;
        }
        Ok(())
    }

    async fn retire(&mut self, measured: MeasuredClient) -> Result<(), BoxError> {
        self.threads_cpu += measured.threads_cpu().await?.saturating_sub(measured.threads_cpu_before);
        measured.client.check_recorded(measured.made)?;
        measured.client.close().await
    }

    /// Returns the CPU time of its threads, in microseconds per request. They may work when the turn is over, so it is
    /// the same for all turns.
    fn threads_us(&self) -> f64 {
        self.threads_cpu.as_secs_f64() * 1e6 / self.in_turns.max(1) as f64
    }

    /// Returns the CPU time of each turn, with the share of its threads.
    fn all_cpu_us(&self) -> Vec<f64> {
        self.cpu_us.iter().map(|one| one + self.threads_us()).collect()
    }

    fn report(&self, base: &ModeRun, passes: usize) -> Report {
        let ratios = |mine: &[f64], base: &[f64]| -> Vec<f64> {
            mine.iter().zip(base).map(|(mine, base)| mine / base).collect()
        };
        let (cpu_us, base_us) = (self.all_cpu_us(), base.all_cpu_us());
        let cpu_ratios = ratios(&cpu_us, &base_us);
        let of_passes = cpu_ratios.chunks(cpu_ratios.len().div_ceil(passes).max(1));
        let within = median_within(of_passes.map(|ratios| median(ratios.iter().copied())));
        let total = |figures: &[f64]| figures.iter().sum::<f64>();
        Report {
            mode: self.args.mode,
            baseline: base.args.mode,
            behind: self.behind,
            rounds: self.cpu_us.len(),
            slice: self.args.slice,
            cpu_us: median(cpu_us.iter().copied()),
            threads_us: self.threads_us(),
            wall_us: median(self.wall_us.iter().copied()),
            cpu_ratio_within: within,
            cpu_ratio: median(cpu_ratios),
            cpu_total_ratio: total(&cpu_us) / total(&base_us),
            wall_ratio: median(ratios(&self.wall_us, &base.wall_us)),
            allocs: self.allocs,
            kept_bytes: self.kept_bytes,
            snapshot_ms: self.snapshot_ms,
        }
    }
}

impl Report {
    fn line(&self) -> Line {
        let Report {
            mode, baseline, cpu_us, wall_us, cpu_ratio, cpu_ratio_within, wall_ratio, allocs, ..
        } = *self;
        Line { mode, baseline, cpu_us, wall_us, cpu_ratio, cpu_ratio_within, wall_ratio, allocs }
    }
}
