//! The reasons why entries are missing or incomplete, and what can be done about them.

use crate::sync::IgnorePoison;
use std::{fmt, io, sync::Mutex};

/// Why conntrack entries are missing or incomplete. The text of each says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConntrackProblem {
    /// The process lacks the capability `CAP_NET_ADMIN` in its network namespace. The probe is off.
    NotPermitted,
    /// The kernel has no connection tracking, or its module is not loaded. The probe is off.
    NotSupported,
    /// The kernel could not be queried, for the reason that this says.
    Unavailable(String),
    /// A connection has no entry in the zone that the probe queries. The kernel tracks no connection until a rule asks
    /// for it; a rule may exclude some of them, or put them into another zone
    /// ([`ConntrackProbeBuilder::zone`](super::ConntrackProbeBuilder::zone)).
    NotTracked,
    /// The kernel does not count packets and bytes. The counters of entries are zero.
    NoCounters,
    /// The kernel does not keep the time at which entries were made.
    NoTimestamps,
}

impl ConntrackProblem {
    pub(super) fn unavailable(what: &str, error: &io::Error) -> Self {
        ConntrackProblem::Unavailable(format!("{what}: {error}"))
    }
}

impl fmt::Display for ConntrackProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConntrackProblem::NotPermitted => {
                "conntrack is off: it takes the capability CAP_NET_ADMIN; run as root, or \
                 `setcap cap_net_admin+ep PROGRAM`, or in a network of its own with `unshare -Urn`"
            }
            ConntrackProblem::NotSupported => {
                "conntrack is off: the kernel has none, or not its module; try `modprobe nf_conntrack_netlink`"
            }
            ConntrackProblem::Unavailable(why) => return write!(f, "conntrack cannot be read: {why}"),
            ConntrackProblem::NotTracked => {
                "conntrack has no entry for some connections in the zone that was looked in: a rule may set \
                 another zone for them, or none has the kernel track them, as would for example \
                 `nft 'add table inet nettrace; add chain inet nettrace track { type filter hook output \
                 priority 0; }; add rule inet nettrace track ct state new'`"
            }
            ConntrackProblem::NoCounters => {
                "conntrack does not count packets and bytes: `sysctl -w net.netfilter.nf_conntrack_acct=1` \
                 has it count those of new connections"
            }
            ConntrackProblem::NoTimestamps => {
                "conntrack keeps no time stamps: `sysctl -w net.netfilter.nf_conntrack_timestamp=1` \
                 has it keep those of new connections"
            }
        })
    }
}

/// The problems met so far. Each is reported once.
#[derive(Debug, Default)]
pub(super) struct ReportedProblems(Mutex<Vec<ConntrackProblem>>);

impl ReportedProblems {
    /// Logs a problem, unless it was reported before.
    pub(super) fn report(&self, problem: ConntrackProblem) {
        {
            let mut reported = self.0.lock().ignore_poison();
            if reported.contains(&problem) {
                return;
            }
            reported.push(problem.clone());
        }
        tracing::warn!(target: "nettrace", "{problem}");
    }

    /// Returns the problems in the order in which they were met.
    pub(super) fn reported(&self) -> Vec<ConntrackProblem> {
        self.0.lock().ignore_poison().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_is_reported_once() {
        let problems = ReportedProblems::default();
        for problem in
            [ConntrackProblem::NoCounters, ConntrackProblem::NotTracked, ConntrackProblem::NoCounters]
        {
            problems.report(problem);
        }
        assert_eq!(problems.reported(), [ConntrackProblem::NoCounters, ConntrackProblem::NotTracked]);
    }
}
