//! Several clients in one process, a few requests of each in turn: a machine that gets slower or faster meanwhile does
//! so for all of them, and what differs by a hundredth can be told.

use super::{
    args::{Args, Mode},
    compare::{self, median, sorted},
    meter::{self, Allocations},
    modes::{Any, Get},
    pin::{self, Place},
    run::{requests, snapshot_ms},
};
use serde::Serialize;
use std::{
    error::Error,
    mem,
    time::{Duration, Instant},
};

type BoxError = Box<dyn Error + Send + Sync>;

/// One of the clients, with a sink of its own if it has one.
struct Contestant {
    client: Any,
    /// How many requests it made so far.
    made: u64,
}

/// What is to be told of the clients of one kind.
struct Line {
    args: Args,
    /// How many requests are made before those that are measured.
    behind: u64,
    allocs: f64,
    kept_bytes: f64,
    snapshot_ms: Option<f64>,
    /// Requests while turns were taken, those included that are not measured.
    in_turns: u64,
    /// Microseconds of CPU time that this thread took a request, one figure for each turn; then of wall time.
    cpu_us: Vec<f64>,
    wall_us: Vec<f64>,
    /// And of the threads of its probes.
    probes_us: f64,
}

/// What is said of one. Times are per request; ratios are to the turn of `untraced` in the same round, or of the
/// first where that is not among them.
#[derive(Debug, Serialize)]
struct Said {
    mode: &'static str,
    behind: u64,
    rounds: usize,
    slice: u64,
    cpu_us: f64,
    /// What of that the threads of probes took.
    probes_us: f64,
    wall_us: f64,
    /// The median over all rounds.
    cpu_ratio: f64,
    /// Where the median of the medians of each pass lies with 95 % confidence; of less than six passes nobody knows.
    cpu_ratio_within: Option<[f64; 2]>,
    /// Of the times of all rounds together: what happens seldom counts here.
    cpu_total_ratio: f64,
    wall_ratio: f64,
    allocs: f64,
    /// Of each of the requests behind.
    kept_bytes: f64,
    snapshot_ms: Option<f64>,
}

/// Makes the requests, and prints a line for each client.
pub fn turns(args: &Args, rounds: usize) -> Result<(), Box<dyn Error>> {
    if args.modes.contains(&Mode::Captured) {
        return Err(
            "`captured` sees the packets of all clients of its process: compare it with --compare".into()
        );
    }
    if !args.unpinned {
        pin::keep_to(Place::First)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let said = runtime.block_on(take_turns(args, rounds)).map_err(|error| error as Box<dyn Error>)?;
    for one in &said {
        println!("{}", serde_json::to_string(one)?);
    }
    if let Some(title) = &args.row {
        println!("{}", row(title, &said));
    }
    Ok(())
}

/// The times of the untraced client, what the others need of them and how sure that is, and the allocations of it and
/// of the last.
fn row(title: &str, said: &[Said]) -> String {
    let base = base(said.iter().map(|one| one.mode));
    let ratio = |one: &Said| {
        let within = one.cpu_ratio_within.map(|[low, high]| format!(" ±{:.3}", (high - low) / 2.0));
        format!("{:.3}{} ({:.3})", one.cpu_ratio, within.unwrap_or_default(), one.wall_ratio)
    };
    let others = said.iter().enumerate().filter(|(index, _)| *index != base).map(|(_, one)| ratio(one));
    let columns = others.collect::<Vec<_>>().join(" | ");
    let Said { cpu_us, wall_us, allocs, rounds, slice, .. } = said[base];
    let after = said.last().map_or(f64::NAN, |last| last.allocs);
    compare::row(title, [cpu_us, wall_us], &columns, [allocs, after], [rounds as u64, slice])
}

/// To whose times the ratios are.
fn base(mut modes: impl Iterator<Item = &'static str>) -> usize {
    modes.position(|mode| mode == Mode::Untraced.name()).unwrap_or(0)
}

async fn take_turns(args: &Args, rounds: usize) -> Result<Vec<Said>, BoxError> {
    let of_mode = |mode: &Mode| {
        let args = Args { mode: *mode, ..args.clone() };
        args.behind.clone().into_iter().map(move |behind| Line::new(args.clone(), behind))
    };
    let mut lines: Vec<Line> = args.modes.iter().flat_map(of_mode).collect();
    let passes = args.anew as usize;
    let mut others = Duration::ZERO;
    for number in 0..passes {
        others += pass(&mut lines, number, rounds.div_ceil(passes)).await?;
    }
    // They work when the turn may be over, but for nobody else.
    let probed: u64 = lines.iter().filter(|line| line.has_probes()).map(|line| line.in_turns).sum();
    for line in lines.iter_mut().filter(|line| line.has_probes()) {
        line.probes_us = others.as_secs_f64() * 1e6 / probed as f64;
    }
    let base = &lines[base(lines.iter().map(|line| line.args.mode.name()))];
    Ok(lines.iter().map(|line| line.said(base, passes)).collect())
}

/// All clients are made anew, in another order, as it makes a hundredth where in memory a client lies. Gives back what
/// other threads worked while turns were taken.
async fn pass(lines: &mut [Line], number: usize, rounds: usize) -> Result<Duration, BoxError> {
    let mut all = Vec::new();
    for place in 0..lines.len() {
        let index = (place + number) % lines.len();
        all.push((index, lines[index].contestant().await?));
    }
    refresh(&all).await;
    let before = meter::other_threads();
    for round in 0..rounds {
        // Nobody is always the first, or always behind the same: what a turn leaves to do falls into the next.
        if round % 2 == 0 {
            all.rotate_left(1);
        }
        all.reverse();
        for (index, contestant) in &mut all {
            lines[*index].turn(contestant).await?;
        }
    }
    refresh(&all).await;
    let others = meter::other_threads().saturating_sub(before);
    for (_, contestant) in all {
        contestant.client.close().await;
    }
    Ok(others)
}

/// Waits until probes have nothing left to do.
async fn refresh(all: &[(usize, Contestant)]) {
    for sink in all.iter().filter_map(|(_, contestant)| contestant.client.sink()) {
        sink.refresh().await;
    }
}

impl Contestant {
    async fn make(&mut self, args: &Args, count: u64) -> Result<(), BoxError> {
        self.made += count;
        requests(&self.client, count, args.concurrency.min(count)).await.map(drop)
    }
}

impl Line {
    fn new(args: Args, behind: u64) -> Self {
        let (snapshot_ms, cpu_us, wall_us) = Default::default();
        let (allocs, kept_bytes, probes_us, in_turns) = Default::default();
        Line { args, behind, allocs, kept_bytes, snapshot_ms, in_turns, cpu_us, wall_us, probes_us }
    }

    async fn contestant(&mut self) -> Result<Contestant, BoxError> {
        let mut contestant = self.filled().await?;
        let sink = contestant.client.sink().filter(|_| self.args.snapshots > 0 && self.snapshot_ms.is_none());
        self.snapshot_ms = sink.map(|sink| snapshot_ms(sink, self.args.snapshots)).or(self.snapshot_ms);
        // Of as many as there are in all groups of records that are allocated together.
        let counted = self.args.slice.next_multiple_of(32);
        let counter = Allocations::start();
        contestant.make(&self.args, counted).await?;
        self.allocs = counter.stop().0 as f64 / counted as f64;
        Ok(contestant)
    }

    async fn filled(&mut self) -> Result<Contestant, BoxError> {
        let mut contestant = Contestant { client: Any::new(&self.args)?, made: 0 };
        let heap = meter::heap();
        contestant.make(&self.args, self.behind).await?;
        self.kept_bytes = (meter::heap() as f64 - heap as f64) / self.behind.max(1) as f64;
        Ok(contestant)
    }

    async fn turn(&mut self, contestant: &mut Contestant) -> Result<(), BoxError> {
        let Args { slice, unbounded, .. } = self.args;
        // What the others did to the caches.
        contestant.make(&self.args, slice / 10).await?;
        let (cpu, wall) = (meter::this_thread(), Instant::now());
        contestant.make(&self.args, slice).await?;
        let (cpu, wall) = (meter::this_thread() - cpu, wall.elapsed());
        let each = |time: Duration| time.as_secs_f64() * 1e6 / slice as f64;
        self.cpu_us.push(each(cpu));
        self.wall_us.push(each(wall));
        self.in_turns += slice + slice / 10;
        // Else it would no longer be what its line says.
        if unbounded && contestant.made > self.behind + self.behind / 10 {
            let used = mem::replace(contestant, self.filled().await?);
            self.in_turns += self.behind;
            used.client.close().await;
        }
        Ok(())
    }

    fn has_probes(&self) -> bool {
        self.args.mode == Mode::Full
    }

    /// CPU time of all that works for it.
    fn all_cpu_us(&self) -> Vec<f64> {
        self.cpu_us.iter().map(|one| one + self.probes_us).collect()
    }

    fn said(&self, base: &Line, passes: usize) -> Said {
        let ratios = |mine: &[f64], base: &[f64]| -> Vec<f64> {
            mine.iter().zip(base).map(|(mine, base)| mine / base).collect()
        };
        let (cpu_us, base_us) = (self.all_cpu_us(), base.all_cpu_us());
        let cpu_ratios = ratios(&cpu_us, &base_us);
        let of_passes = cpu_ratios.chunks(cpu_ratios.len().div_ceil(passes).max(1));
        let total = |figures: &[f64]| figures.iter().sum::<f64>();
        Said {
            mode: self.args.mode.name(),
            behind: self.behind,
            rounds: self.cpu_us.len(),
            slice: self.args.slice,
            cpu_us: median(&sorted(cpu_us.clone())),
            probes_us: self.probes_us,
            wall_us: median(&sorted(self.wall_us.clone())),
            cpu_ratio: median(&sorted(cpu_ratios.clone())),
            cpu_ratio_within: median_within(&sorted(
                of_passes.map(|ratios| median(&sorted(ratios.to_vec()))).collect(),
            )),
            cpu_total_ratio: total(&cpu_us) / total(&base_us),
            wall_ratio: median(&sorted(ratios(&self.wall_us, &base.wall_us))),
            allocs: self.allocs,
            kept_bytes: self.kept_bytes,
            snapshot_ms: self.snapshot_ms,
        }
    }
}

/// The order statistics between which the median lies with 95 % confidence, whatever the distribution. There are none
/// of less than six figures.
fn median_within(sorted: &[f64]) -> Option<[f64; 2]> {
    let count = sorted.len() as f64;
    let below = ((count - 1.96 * count.sqrt()) / 2.0).floor().max(0.0) as usize;
    (sorted.len() >= 6).then(|| [sorted[below], sorted[sorted.len() - 1 - below]])
}
