//! Replaces the kernel probes, which exist on Linux only.

use crate::output::Problem;
use nettrace::TraceSinkBuilder;

pub(crate) struct KernelProbes;

impl KernelProbes {
    pub(crate) fn start(conntrack: bool, _: Option<u16>) -> Result<Self, Problem> {
        if conntrack { Err(Problem::usage("--conntrack works on Linux only")) } else { Ok(KernelProbes) }
    }

    pub(crate) fn all(_: Option<u16>) -> Self {
        KernelProbes
    }

    pub(crate) fn probes(&self, builder: TraceSinkBuilder) -> TraceSinkBuilder {
        builder
    }

    pub(crate) fn warn_of_problems(&self) {}

    pub(crate) fn not_seen(&self) -> Vec<String> {
        vec!["round trips, losses and NAT: the kernel is asked about connections on Linux only".into()]
    }
}
