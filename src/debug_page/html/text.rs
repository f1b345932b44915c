//! Text from a trace, made harmless.

use crate::readable;
use std::{borrow::Cow, time::Duration};

/// Makes text harmless that comes from the network.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    readable::escape_controls(text)
}

/// Makes text of several lines harmless.
pub(super) fn shown_lines(text: &str) -> String {
    text.lines().map(shown).collect::<Vec<_>>().join("\n")
}

/// Formats a duration.
pub(super) fn duration(time: Duration) -> String {
    readable::duration(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX), false)
}
