//! What is kept of the messages exchanged with a nameserver, and what writes it down.

pub(super) mod answers;
pub(super) mod record;
pub(super) mod recorder;
