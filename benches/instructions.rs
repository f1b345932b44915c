//! Counts the instructions of each scene and compares them with `benches/instructions.json`. Run by
//! `benches/check_instructions.sh`, whose header describes its options.
//!
//! The existing harnesses (gungraun, iai-callgrind) are not used: they need a program that is installed in the same
//! version, and keep their baselines as valgrind's files below `target`. Here the baseline is a text file, and is
//! committed with the change that caused it.

mod counts;
mod scenes;

use counts::{
    baseline::{self, Baseline, Verdict},
    valgrind,
};
use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [valgrind::CHILD, name] => {
            let scene = scenes::all().into_iter().find(|scene| scene.name == name);
            valgrind::run(&scene.expect("the parent takes a name from the same list"));
            ExitCode::SUCCESS
        }
        [] => check(""),
        ["--update"] => update(""),
        ["--update", filter] => update(filter),
        [filter] if !filter.starts_with('-') => check(filter),
        _ => {
            eprintln!("usage: benches/check_instructions.sh [--update] [FILTER]");
            ExitCode::from(2)
        }
    }
}

/// Counts every guarded scene whose name contains `filter`, one at a time on each processor. Calls `each` with each
/// count as soon as it is known.
fn count(filter: &str, mut each: impl FnMut(&str, f64)) -> BTreeMap<String, f64> {
    let guarded = scenes::all().into_iter().filter(|scene| scene.is_guarded && scene.name.contains(filter));
    let names: Vec<String> = guarded.map(|scene| scene.name).collect();
    let next = AtomicUsize::new(0);
    let (sender, counts) = mpsc::channel();
    thread::scope(|scope| {
        for cpu in valgrind::cpus() {
            let (names, next, sender) = (&names, &next, sender.clone());
            scope.spawn(move || {
                while let Some(name) = names.get(next.fetch_add(1, Relaxed)) {
                    // Further digits are noise: they change with every random number.
                    let count = (valgrind::count(name, cpu) * 10.0).round() / 10.0;
                    sender.send((name.clone(), count)).expect("the receiver waits for all of them");
                }
            });
        }
        drop(sender);
        counts.into_iter().inspect(|(name, count)| each(name, *count)).collect()
    })
}

fn check(filter: &str) -> ExitCode {
    let baseline = Baseline::load();
    let (mut failed, mut outdated) = (0, 0);
    println!("{:<28}{:>16}{:>16}{:>9}", "instructions", "stored", "now", "change");
    let mut report = |name: &str, stored: Option<f64>, now: Option<f64>| {
        let verdict = Verdict::of(stored, now);
        let number = |count: Option<f64>| count.map_or("–".to_owned(), |count| format!("{count:.1}"));
        let change = stored
            .zip(now)
            .map_or(String::new(), |(stored, now)| format!("{:+.1} %", 100.0 * (now / stored - 1.0)));
        println!("{name:<28}{:>16}{:>16}{change:>9}{verdict}", number(stored), number(now));
        failed += u32::from(verdict.is_failure());
        outdated += u32::from(verdict == Verdict::Fewer);
    };
    let now = count(filter, |name, now| report(name, baseline.get(name), Some(now)));
    for name in baseline.names().filter(|name| name.contains(filter) && !now.contains_key(*name)) {
        report(name, baseline.get(name), None);
    }
    if failed + outdated > 0 {
        println!(
            "\nTo store these counts: benches/check_instructions.sh --update; commit it with the change that caused it."
        );
        baseline.warn_if_tools_differ();
    }
    if failed > 0 {
        eprintln!("\nFAILED: {failed} of the instruction counts above");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn update(filter: &str) -> ExitCode {
    let now = count(filter, |name, now| println!("{name:<28}{now:>16.1}"));
    Baseline::load().with(filter, now).store();
    println!("\nStored in benches/{}", baseline::FILE);
    ExitCode::SUCCESS
}
