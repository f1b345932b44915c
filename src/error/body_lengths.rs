//! [`BodyLengths`]: how much of a response's body came.

use std::fmt;

/// The length of a response's body that was cut off, received and declared, in bytes. Displays as what went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyLengths {
    pub(crate) received: u64,
    pub(crate) declared: u64,
}

impl fmt::Display for BodyLengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the response's body ended after {} of {} bytes", self.received, self.declared)
    }
}
