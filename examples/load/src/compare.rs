//! `--compare`: runs the modes in turn, each run in a process of its own.

use crate::{
    args::{Args, Mode},
    run::Outcome,
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    env,
    error::Error,
    process::{Command, Stdio},
};

/// Medians over all rounds. A ratio divides by `untraced` of the same round.
#[derive(Debug, Serialize)]
struct Summary {
    rounds: usize,
    requests: u64,
    concurrency: u64,
    modes: BTreeMap<&'static str, Medians>,
}

#[derive(Debug, Serialize)]
struct Medians {
    cpu_us: f64,
    wall_us: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wall_ratio: Option<f64>,
    allocs: f64,
    alloc_bytes: f64,
    kept_bytes: f64,
    worst_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_bytes_per_op: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets_missing: Option<f64>,
}

/// Prints a line for each run, and a line of medians at the end.
pub fn compare(args: &Args, rounds: usize) -> Result<(), Box<dyn Error>> {
    let modes = &args.modes;
    let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); modes.len()];
    for round in 0..rounds {
        for turn in 0..modes.len() {
            // The order rotates, so that no mode is always first.
            let index = (turn + round) % modes.len();
            let outcome = run_alone(args, modes[index])?;
            println!("{}", serde_json::to_string(&outcome)?);
            outcomes[index].push(outcome);
        }
    }
    let baseline = modes.iter().position(|mode| *mode == Mode::Untraced).map(|index| outcomes[index].clone());
    let medians = |outcomes: &Vec<Outcome>| {
        let all = |figure: fn(&Outcome) -> f64| median(&sorted(outcomes.iter().map(figure).collect()));
        let ratio = |figure: fn(&Outcome) -> f64| {
            let baseline = baseline.as_ref()?;
            let ratios = outcomes.iter().zip(baseline).map(|(one, base)| figure(one) / figure(base));
            Some(median(&sorted(ratios.collect())))
        };
        let some = |figure: fn(&Outcome) -> Option<f64>| {
            let all: Vec<f64> = outcomes.iter().filter_map(figure).collect();
            (!all.is_empty()).then(|| median(&sorted(all)))
        };
        Medians {
            cpu_us: all(|outcome| outcome.cpu_us),
            wall_us: all(|outcome| outcome.wall_us),
            cpu_ratio: ratio(|outcome| outcome.cpu_us),
            wall_ratio: ratio(|outcome| outcome.wall_us),
            allocs: all(|outcome| outcome.allocs),
            alloc_bytes: all(|outcome| outcome.alloc_bytes),
            kept_bytes: all(|outcome| outcome.kept_bytes),
            worst_ms: all(|outcome| outcome.worst_ms),
            kept_bytes_per_op: some(|outcome| outcome.kept_bytes_per_op),
            snapshot_ms: some(|outcome| outcome.snapshot_ms),
            packets_missing: some(|outcome| outcome.packets_missing.map(|missing| missing as f64)),
        }
    };
    let summary = Summary {
        rounds,
        requests: args.requests,
        concurrency: args.concurrency,
        modes: modes.iter().zip(&outcomes).map(|(mode, runs)| (mode.name(), medians(runs))).collect(),
    };
    println!("{}", serde_json::to_string(&summary)?);
    if let Some(title) = &args.row {
        println!("{}", summary.row(title, modes));
    }
    Ok(())
}

impl Summary {
    /// Formats a row: the times of the untraced client, the ratios of the others, and the allocations of the last.
    fn row(&self, title: &str, modes: &[Mode]) -> String {
        let base = self.modes.get(Mode::Untraced.name());
        let [cpu, wall] = base.map_or([f64::NAN; 2], |base| [base.cpu_us, base.wall_us]);
        let ratios = |mode: &Mode| {
            let of = |mode: &Medians| Some(format!("{:.3} ({:.3})", mode.cpu_ratio?, mode.wall_ratio?));
            self.modes.get(mode.name()).and_then(of).unwrap_or_else(|| "–".to_owned())
        };
        let others: Vec<_> = modes.iter().filter(|mode| **mode != Mode::Untraced).collect();
        let columns = others.iter().map(|mode| ratios(mode)).collect::<Vec<_>>().join(" | ");
        let allocations = |mode: Mode| self.modes.get(mode.name()).map_or(f64::NAN, |mode| mode.allocs);
        let before = allocations(Mode::Untraced);
        let after = others.last().map_or(f64::NAN, |mode| allocations(**mode));
        row(title, [cpu, wall], &columns, [before, after], [self.rounds as u64, self.requests])
    }
}

/// Formats a row of a table in benches/README.md.
pub fn row(
    title: &str,
    [cpu, wall]: [f64; 2],
    columns: &str,
    [before, after]: [f64; 2],
    [rounds, requests]: [u64; 2],
) -> String {
    format!(
        "| {title} | {cpu:.1} ({wall:.1}) | {columns} | {before:.1} → {after:.1} | {rounds} × {requests} |"
    )
}

fn run_alone(args: &Args, mode: Mode) -> Result<Outcome, Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--mode", mode.name(), "--url", &args.url]);
    command.args(["--requests", &args.requests.to_string()]);
    command.args(["--concurrency", &args.concurrency.to_string()]);
    command.args(["--snapshots", &args.snapshots.to_string()]);
    command.args(["--headers", &args.headers.to_string(), "--interface", &args.interface]);
    command.args(args.fresh_connections.then_some("--fresh-connections"));
    command.args(args.http2.then_some("--http2"));
    command.args(args.unpinned.then_some("--unpinned"));
    command.args(args.unbounded.then_some("--unbounded"));
    if let Some(warm_up) = args.warm_up {
        command.args(["--warm-up", &warm_up.to_string()]);
    }
    if let Some(keep) = args.keep {
        command.args(["--keep", &keep.to_string()]);
    }
    if let Some(every) = args.snapshot_every {
        command.args(["--snapshot-every", &every.to_string()]);
    }
    if let Some(cacert) = &args.cacert {
        command.arg("--cacert").arg(cacert);
    }
    if let Some(nameserver) = args.nameserver {
        command.args(["--nameserver", &nameserver.to_string()]);
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the run of {} failed: {}", mode.name(), output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

pub fn sorted(mut figures: Vec<f64>) -> Vec<f64> {
    figures.sort_by(f64::total_cmp);
    figures
}

pub fn median(figures: &[f64]) -> f64 {
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        even if even.is_multiple_of(2) => (figures[middle - 1] + figures[middle]) / 2.0,
        _ => figures[middle],
    }
}
