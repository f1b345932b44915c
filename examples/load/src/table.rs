//! Rows and columns of the tables in benches/README.md.

use crate::{args::Args, mode::Mode};

/// The figures of a mode that are printed.
pub struct Line {
    pub mode: Mode,
    pub baseline: Mode,
    pub cpu_us: f64,
    pub wall_us: f64,
    pub cpu_ratio: f64,
    /// The interval in which the ratio lies, if it is known.
    pub cpu_ratio_within: Option<[f64; 2]>,
    pub wall_ratio: f64,
    pub allocs: f64,
}

/// Prints what the command line asks for.
pub fn print(args: &Args, lines: &[Line], rounds: usize, requests: u64) {
    let rows = args.row.as_ref().map(|title| rows(title, lines, rounds, requests));
    let column = args.column.as_ref().map(|title| column(title, lines));
    for line in rows.into_iter().chain(column).flatten() {
        println!("{line}");
    }
}

/// Formats a row for each baseline: its times, the ratios of the modes that are compared with it in their order, its
/// allocations and theirs, and the size of the measurement.
fn rows(title: &str, lines: &[Line], rounds: usize, requests: u64) -> Vec<String> {
    let baselines = lines.iter().filter(|line| line.mode == line.baseline);
    let row = |base: &Line| {
        let others = || lines.iter().filter(|line| line.baseline == base.mode && line.mode != base.mode);
        let ratios = others().map(ratio).collect::<Vec<_>>().join(" | ");
        let allocs = others().map(|line| format!("{:.1}", line.allocs)).collect::<Vec<_>>().join(", ");
        let Line { cpu_us, wall_us, .. } = base;
        format!(
            "| {title} | `{}` {cpu_us:.1} ({wall_us:.1}) | {ratios} | {:.1} → {allocs} | {rounds} × {requests} |",
            base.mode.name(),
            base.allocs,
        )
    };
    baselines.map(row).collect()
}

/// Formats a column with a cell for each mode: of a baseline its time and allocations, of the others their ratio and how
/// many allocations they add. Columns next to each other form a table that lacks its first column.
fn column(title: &str, lines: &[Line]) -> Vec<String> {
    let baseline = |line: &Line| lines.iter().find(|base| base.mode == line.baseline);
    let cell = |line: &Line| match baseline(line) {
        Some(base) if base.mode != line.mode => {
            format!(" | {}, {:+.1}", cpu_ratio(line), line.allocs - base.allocs)
        }
        _ => format!(" | {:.1} µs, {:.1}", line.cpu_us, line.allocs),
    };
    let head = [format!(" | {title}"), "|---".to_owned()];
    head.into_iter().chain(lines.iter().map(cell)).collect()
}

fn ratio(line: &Line) -> String {
    format!("{} ({:.3})", cpu_ratio(line), line.wall_ratio)
}

fn cpu_ratio(line: &Line) -> String {
    let within = line.cpu_ratio_within.map(|[low, high]| format!(" ±{:.3}", (high - low) / 2.0));
    format!("{:.3}{}", line.cpu_ratio, within.unwrap_or_default())
}
