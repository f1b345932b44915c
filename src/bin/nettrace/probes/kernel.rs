//! Probes for what the kernel knows about connections.

use crate::output::{Problem, warn};
use nettrace::{
    TraceSinkBuilder,
    linux::{ConntrackProbe, ConntrackProbeBuilder, ConntrackProblem, TcpInfoProbe},
};

pub(crate) struct KernelProbes {
    conntrack: Option<ConntrackProbe>,
}

impl KernelProbes {
    /// Builds the probes. Never fails; the signature is that of `unsupported/kernel.rs`, which rejects `--conntrack`.
    pub(crate) fn start(conntrack: bool, zone: Option<u16>) -> Result<Self, Problem> {
        let builder = ConntrackProbe::builder();
        let builder = zone.into_iter().fold(builder, ConntrackProbeBuilder::zone);
        Ok(KernelProbes { conntrack: conntrack.then(|| builder.build()) })
    }

    pub(crate) fn probes(&self, builder: TraceSinkBuilder) -> TraceSinkBuilder {
        let builder = builder.probe(TcpInfoProbe::new());
        match &self.conntrack {
            Some(conntrack) => builder.probe(conntrack.clone()),
            None => builder,
        }
    }

    pub(crate) fn warn_of_problems(&self) {
        let problems = self.conntrack.iter().flat_map(ConntrackProbe::problems);
        // The kernel records no timestamps by default. That is no reason for a warning.
        for problem in problems.filter(|problem| *problem != ConntrackProblem::NoTimestamps) {
            let hint = match problem {
                ConntrackProblem::NotTracked => "; --conntrack-zone names another zone",
                _ => "",
            };
            warn(&format!("{problem}{hint}"));
        }
    }
}
