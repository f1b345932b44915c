use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::SocketOp;
use super::list::null_as_default;

/// Socket operations.
#[derive(Clone, Default)]
pub struct SocketOps(Vec<SocketOp>);

impl SocketOps {
    /// The operations in order, each made when it is asked for.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SocketOp> + '_ {
        self.0.iter().cloned()
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Vec<SocketOp>> for SocketOps {
    fn from(ops: Vec<SocketOp>) -> Self {
        Self(ops)
    }
}

impl PartialEq for SocketOps {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl fmt::Debug for SocketOps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for SocketOps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for SocketOps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        null_as_default(deserializer).map(Self)
    }
}
