//! The modes in turn, each run in a process of its own.

use super::{
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

/// Medians over all rounds. The ratios are to `untraced` of the same round.
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
    snapshot_ms: Option<f64>,
}

/// Prints a line for each run, and one of medians at the end.
pub fn compare(args: &Args, rounds: usize) -> Result<(), Box<dyn Error>> {
    let modes = &args.modes;
    let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); modes.len()];
    for round in 0..rounds {
        for turn in 0..modes.len() {
            // Nobody is always the first.
            let index = (turn + round) % modes.len();
            let outcome = run_alone(args, modes[index])?;
            println!("{}", serde_json::to_string(&outcome)?);
            outcomes[index].push(outcome);
        }
    }
    let baseline = modes.iter().position(|mode| *mode == Mode::Untraced).map(|index| outcomes[index].clone());
    let medians = |outcomes: &Vec<Outcome>| {
        let all = |figure: fn(&Outcome) -> f64| median(outcomes.iter().map(figure).collect());
        let ratio = |figure: fn(&Outcome) -> f64| {
            let baseline = baseline.as_ref()?;
            Some(median(
                outcomes.iter().zip(baseline).map(|(one, base)| figure(one) / figure(base)).collect(),
            ))
        };
        let snapshots: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.snapshot_ms).collect();
        Medians {
            cpu_us: all(|outcome| outcome.cpu_us),
            wall_us: all(|outcome| outcome.wall_us),
            cpu_ratio: ratio(|outcome| outcome.cpu_us),
            wall_ratio: ratio(|outcome| outcome.wall_us),
            allocs: all(|outcome| outcome.allocs),
            alloc_bytes: all(|outcome| outcome.alloc_bytes),
            kept_bytes: all(|outcome| outcome.kept_bytes),
            worst_ms: all(|outcome| outcome.worst_ms),
            snapshot_ms: (!snapshots.is_empty()).then(|| median(snapshots)),
        }
    };
    let summary = Summary {
        rounds,
        requests: args.requests,
        concurrency: args.concurrency,
        modes: modes.iter().zip(&outcomes).map(|(mode, runs)| (mode.name(), medians(runs))).collect(),
    };
    println!("{}", serde_json::to_string(&summary)?);
    Ok(())
}

fn run_alone(args: &Args, mode: Mode) -> Result<Outcome, Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--mode", mode.name(), "--url", &args.url]);
    command.args(["--requests", &args.requests.to_string()]);
    command.args(["--concurrency", &args.concurrency.to_string()]);
    command.args(["--snapshots", &args.snapshots.to_string()]);
    command.args(["--headers", &args.headers.to_string()]);
    command.args(args.fresh_connections.then_some("--fresh-connections"));
    command.args(args.http2.then_some("--http2"));
    command.args(args.unbounded.then_some("--unbounded"));
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

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        even if even.is_multiple_of(2) => (figures[middle - 1] + figures[middle]) / 2.0,
        _ => figures[middle],
    }
}
