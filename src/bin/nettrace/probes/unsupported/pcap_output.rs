//! In place of packet capture, which takes libpcap.

use crate::output::Problem;
use nettrace::{NetTrace, TraceSinkBuilder, tls::KeyLog};
use std::{convert::Infallible, path::Path};

/// This command was built without them.
pub(crate) struct PcapOutput(Infallible);

impl PcapOutput {
    pub(crate) fn start(_: &Path, _: &[String]) -> Result<Self, Problem> {
        Err(Problem::usage(
            "this command was built without packet capture: build it with `--features cli,capture`, which \
             needs libpcap",
        ))
    }

    pub(crate) fn probe(&self, _: TraceSinkBuilder) -> TraceSinkBuilder {
        match self.0 {}
    }

    pub(crate) fn write(&self, _: &NetTrace, _: Option<&KeyLog>) -> Result<(), Problem> {
        match self.0 {}
    }
}
