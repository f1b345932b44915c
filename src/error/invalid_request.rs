use std::{error::Error, fmt};

/// A request that cannot be made as it is: why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRequest(pub(crate) &'static str);

impl fmt::Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request cannot be made: {}", self.0)
    }
}

impl Error for InvalidRequest {}
