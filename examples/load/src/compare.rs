//! `--compare`: runs the modes in turn, each run in a process of its own.

use crate::{
    args::Args,
    mode::Mode,
    run::Outcome,
    statistics::median,
    table::{self, Line},
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    env,
    error::Error,
    process::{Command, Stdio},
};

/// The printed medians over all rounds.
#[derive(Debug, Serialize)]
struct Summary {
    rounds: usize,
    requests: u64,
    concurrency: u64,
    modes: BTreeMap<&'static str, Medians>,
}

#[derive(Debug, Serialize)]
struct Medians {
    baseline: Mode,
    cpu_us: f64,
    wall_us: f64,
    /// Divides by the baseline of the same round.
    cpu_ratio: f64,
    wall_ratio: f64,
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
    let mut medians = Vec::new();
    for (mode, outcomes_of_mode) in modes.iter().zip(&outcomes) {
        let base = args.baseline_index(*mode)?;
        medians.push((*mode, Medians::new(outcomes_of_mode, modes[base], &outcomes[base])));
    }
    let lines: Vec<Line> = medians.iter().map(|(mode, medians)| medians.line(*mode)).collect();
    let summary = Summary {
        rounds,
        requests: args.requests,
        concurrency: args.concurrency,
        modes: medians.into_iter().map(|(mode, medians)| (mode.name(), medians)).collect(),
    };
    println!("{}", serde_json::to_string(&summary)?);
    table::print(args, &lines, rounds, args.requests);
    Ok(())
}

impl Medians {
    fn new(outcomes: &[Outcome], baseline: Mode, base_outcomes: &[Outcome]) -> Self {
        let all = |figure: fn(&Outcome) -> f64| median(outcomes.iter().map(figure));
        let ratio = |figure: fn(&Outcome) -> f64| {
            median(outcomes.iter().zip(base_outcomes).map(|(one, base)| figure(one) / figure(base)))
        };
        let some = |figure: fn(&Outcome) -> Option<f64>| {
            Some(median(outcomes.iter().filter_map(figure))).filter(|median| !median.is_nan())
        };
        Medians {
            baseline,
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
    }

    fn line(&self, mode: Mode) -> Line {
        let Medians { baseline, cpu_us, wall_us, cpu_ratio, wall_ratio, allocs, .. } = *self;
        Line { mode, baseline, cpu_us, wall_us, cpu_ratio, cpu_ratio_within: None, wall_ratio, allocs }
    }
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
