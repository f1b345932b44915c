//! The reasons why an interface has no packets.

use std::fmt;

/// An interface whose packets are not captured, or no longer. Other interfaces are not affected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InterfaceProblem {
    /// The interface, as it was given.
    pub interface: String,
    /// Why its packets are not captured.
    pub kind: ProblemKind,
}

/// Why the packets of an interface are not captured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The program may not capture packets: it has no `CAP_NET_RAW`.
    NotPermitted,
    /// There is no such interface in the network namespace that the capture was started in.
    NoSuchInterface,
    /// The interface is down, or was taken away while packets were captured.
    WentDown,
    /// The interface's link layer (`LINKTYPE_*` of the pcap formats) is not supported.
    LinkType(i32),
    /// The [filter](super::CaptureBuilder::filter) cannot be compiled; holds the message of libpcap.
    Filter(String),
    /// Any other problem; holds the message of libpcap or the system.
    Other(String),
}

impl InterfaceProblem {
    pub(super) fn new(interface: &str, kind: ProblemKind) -> Self {
        InterfaceProblem { interface: interface.into(), kind }
    }
}

impl ProblemKind {
    /// Classifies an error by its message: libpcap gives no codes here.
    pub(super) fn of(error: &pcap::Error) -> Self {
        let text = match error {
            pcap::Error::PcapError(text) => text.clone(),
            other => other.to_string(),
        };
        let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
        if says(&["permission", "Operation not permitted", "Permission denied"]) {
            ProblemKind::NotPermitted
        } else if says(&["No such device", "no such device", "isn't an interface", "not exist"]) {
            ProblemKind::NoSuchInterface
        } else if says(&["went down", "is not up", "disappeared", "Network is down"]) {
            ProblemKind::WentDown
        } else {
            ProblemKind::Other(text)
        }
    }
}

impl fmt::Display for InterfaceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no packets of {}: {}", self.interface, self.kind)
    }
}

/// Says what is wrong, and what can be done about it.
impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProblemKind::NotPermitted => f.write_str(
                "not permitted; run it as root, or give the program the capability: \
                 setcap cap_net_raw+ep PROGRAM",
            ),
            ProblemKind::NoSuchInterface => {
                f.write_str("no such interface; `ip link` lists those that there are, `any` stands for all")
            }
            ProblemKind::WentDown => f.write_str("the interface is down, or went away"),
            ProblemKind::LinkType(number) => {
                write!(f, "its link layer (LINKTYPE {number}) is not understood; try `any`")
            }
            ProblemKind::Filter(why) => write!(f, "unusable filter: {why}"),
            ProblemKind::Other(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for InterfaceProblem {}
