//! Counts of instructions: how one is taken, and those that are stored for comparison.

pub mod baseline;
pub mod valgrind;
