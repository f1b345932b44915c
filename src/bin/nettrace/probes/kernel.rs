//! Probes for what the kernel knows about connections.

use crate::output::{Problem, warn};
use nettrace::{
    TraceSinkBuilder,
    linux::{ConntrackProbe, ConntrackProbeBuilder, ConntrackProblem, TcpInfoProbe, TimestampingProbe},
};

pub(crate) struct KernelProbes {
    tcp_info: TcpInfoProbe,
    conntrack: Option<ConntrackProbe>,
}

impl KernelProbes {
    /// Builds the probes. Never fails; the signature is that of `unsupported/kernel.rs`, which rejects `--conntrack`.
    pub(crate) fn start(conntrack: bool, zone: Option<u16>) -> Result<Self, Problem> {
        let conntrack = conntrack.then(|| conntrack_probe(zone));
        Ok(KernelProbes { tcp_info: TcpInfoProbe::new(), conntrack })
    }

    /// Builds all probes. What this process may not use does nothing, and is listed in [`not_seen`](Self::not_seen).
    pub(crate) fn all(zone: Option<u16>) -> Self {
        let tcp_info = TcpInfoProbe::new().first_byte(true);
        KernelProbes { tcp_info, conntrack: Some(conntrack_probe(zone)) }
    }

    pub(crate) fn probes(&self, builder: TraceSinkBuilder) -> TraceSinkBuilder {
        let builder = builder.probe(self.tcp_info.clone()).probe(TimestampingProbe::new().every(1));
        match &self.conntrack {
            Some(conntrack) => builder.probe(conntrack.clone()),
            None => builder,
        }
    }

    pub(crate) fn warn_of_problems(&self) {
        for problem in self.problems() {
            let hint = match problem {
                ConntrackProblem::NotTracked => "; --conntrack-zone names another zone",
                _ => "",
            };
            warn(&format!("{problem}{hint}"));
        }
    }

    /// Returns what the probes could not see, each with the reason, on one line.
    pub(crate) fn not_seen(&self) -> Vec<String> {
        let not_seen = |problem: &ConntrackProblem| match problem {
            ConntrackProblem::NotPermitted => {
                "NAT: reading its entries needs the capability CAP_NET_ADMIN".into()
            }
            ConntrackProblem::NotSupported => "NAT: the kernel has no connection tracking".into(),
            ConntrackProblem::NotTracked => {
                "NAT: no rule has the kernel track connections, or only in another zone (--conntrack-zone)"
                    .into()
            }
            ConntrackProblem::NoCounters => {
                "packets of each connection: connection tracking does not count them".into()
            }
            other => format!("NAT: {other}"),
        };
        self.problems().iter().map(not_seen).collect()
    }

    fn problems(&self) -> Vec<ConntrackProblem> {
        let problems = self.conntrack.iter().flat_map(ConntrackProbe::problems);
        // The kernel records no timestamps by default. That is no reason for a warning.
        problems.filter(|problem| *problem != ConntrackProblem::NoTimestamps).collect()
    }
}

fn conntrack_probe(zone: Option<u16>) -> ConntrackProbe {
    let builder = ConntrackProbe::builder();
    zone.into_iter().fold(builder, ConntrackProbeBuilder::zone).build()
}
