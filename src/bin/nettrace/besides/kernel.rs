//! What the kernel knows of connections.

use crate::output::{Problem, complain};
use nettrace::{
    TraceSinkBuilder,
    linux::{ConntrackProbe, ConntrackProblem, TcpInfoProbe},
};

pub(crate) struct Kernel {
    conntrack: Option<ConntrackProbe>,
}

impl Kernel {
    pub(crate) fn start(conntrack: bool) -> Result<Self, Problem> {
        Ok(Kernel { conntrack: conntrack.then(ConntrackProbe::new) })
    }

    pub(crate) fn probes(&self, builder: TraceSinkBuilder) -> TraceSinkBuilder {
        let builder = builder.probe(TcpInfoProbe::new());
        match &self.conntrack {
            Some(conntrack) => builder.probe(conntrack.clone()),
            None => builder,
        }
    }

    pub(crate) fn complain(&self) {
        let problems = self.conntrack.iter().flat_map(ConntrackProbe::problems);
        // That there are no timestamps is the kernel's default and spoils nothing.
        for problem in problems.filter(|problem| *problem != ConntrackProblem::NoTimestamps) {
            complain(&problem.to_string());
        }
    }
}
