//! How a request spent its time, drawn to scale.

use super::text::duration;
use crate::record::Timings;
use maud::{Markup, html};
use std::time::Duration;

/// The width of a bar in its own units.
const WIDTH: f64 = 200.0;

/// Draws the phases of a request one after the other, as shares of their sum: the durations in a list differ too much for
/// a common scale.
pub(super) fn phase_bar(timings: &Timings) -> Markup {
    let phases = Timings::PHASES.into_iter().zip(timings.phases()).filter(|(name, _)| *name != "total");
    let phases: Vec<(&str, Duration)> = phases.filter_map(|(name, time)| Some((name, time?))).collect();
    let sum: f64 = phases.iter().map(|(_, time)| time.as_secs_f64()).sum();
    let mut begin = 0.0;
    let parts: Vec<(&str, f64, f64, String)> = phases
        .into_iter()
        .map(|(name, time)| {
            let width = time.as_secs_f64() / sum.max(f64::MIN_POSITIVE) * WIDTH;
            begin += width;
            (name, begin - width, width, format!("{name} {}", duration(time)))
        })
        .collect();
    let text: Vec<&str> = parts.iter().map(|(.., text)| text.as_str()).collect();
    html! {
        @if !parts.is_empty() {
            svg role="img" aria-label=(text.join(", ")) viewBox="0 0 200 12" preserveAspectRatio="none" {
                title { (text.join(", ")) }
                @for (name, begin, width, _) in &parts {
                    rect class=(format!("phase-{name}")) x=(format!("{begin:.2}")) y="0"
                        width=(format!("{width:.2}")) height="12" {}
                }
            }
        }
    }
}

/// Returns the names of the phases in their colors.
pub(super) fn legend() -> Markup {
    let phases = Timings::PHASES.into_iter().filter(|name| *name != "total");
    html! {
        span.legend { @for name in phases { span class=(format!("key phase-{name}")) { (name) } " " } }
    }
}
