//! What is kept of a tunnel through a proxy, and what writes it down.

pub(super) mod record;
pub(super) mod recorder;
