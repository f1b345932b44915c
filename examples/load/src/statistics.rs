//! Medians.

/// Returns the median, or NaN of no figures.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let figures = sorted(figures);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        even if even.is_multiple_of(2) => (figures[middle - 1] + figures[middle]) / 2.0,
        _ => figures[middle],
    }
}

/// Returns the order statistics that enclose the median with 95 % confidence, whatever the distribution. Returns `None`
/// for fewer than six figures.
pub fn median_within(figures: impl IntoIterator<Item = f64>) -> Option<[f64; 2]> {
    let figures = sorted(figures);
    let count = figures.len() as f64;
    let below = ((count - 1.96 * count.sqrt()) / 2.0).floor().max(0.0) as usize;
    (figures.len() >= 6).then(|| [figures[below], figures[figures.len() - 1 - below]])
}

fn sorted(figures: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures
}
