//! What is kept of a dial and of all that came of it, and what writes it down.

pub(super) mod attempt;
#[cfg(feature = "reqwest")]
pub(super) mod foreign_dial;
pub(super) mod group;
pub(super) mod recorder;
