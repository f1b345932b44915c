//! Replaces the kernel probes, which exist on Linux only.

use crate::output::Problem;
use nettrace::TraceSinkBuilder;

pub(crate) struct KernelProbes;

impl KernelProbes {
    pub(crate) fn start(conntrack: bool, _: Option<u16>) -> Result<Self, Problem> {
        if conntrack { Err(Problem::usage("--conntrack works on Linux only")) } else { Ok(KernelProbes) }
    }

    pub(crate) fn probes(&self, builder: TraceSinkBuilder) -> TraceSinkBuilder {
        builder
    }

    pub(crate) fn warn_of_problems(&self) {}
}
