//! Replaces packet capture, which needs libpcap.

use crate::output::Problem;
use nettrace::{NetTrace, TraceSinkBuilder, tls::KeyLog};
use std::{convert::Infallible, path::Path};

/// Cannot be created: this command was built without packet capture.
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
