//! The state that the probe and its thread share.

use super::{problem::ReportedProblems, queue::EventQueue};
use std::sync::atomic::AtomicU64;

/// The state that the probe and its thread share.
#[derive(Debug, Default)]
pub(super) struct ProbeState {
    pub(super) queue: EventQueue,
    /// How many events did not fit into the queue.
    pub(super) dropped: AtomicU64,
    pub(super) problems: ReportedProblems,
}
