//! Rows of the tables in benches/README.md.

use crate::mode::Mode;

/// The figures of a mode that its row needs.
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

/// Formats a row for each baseline: its times, the ratios of the modes that are compared with it in their order, its
/// allocations and theirs, and the size of the measurement.
pub fn rows(title: &str, lines: &[Line], rounds: usize, requests: u64) -> Vec<String> {
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

fn ratio(line: &Line) -> String {
    let within = line.cpu_ratio_within.map(|[low, high]| format!(" ±{:.3}", (high - low) / 2.0));
    format!("{:.3}{} ({:.3})", line.cpu_ratio, within.unwrap_or_default(), line.wall_ratio)
}
