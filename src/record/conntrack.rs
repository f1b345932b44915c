//! Entries of the kernel's connection tracking.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::open_enum::{NameVisitor, open_enum};
use super::serde_helpers::is_default;
use super::{AddrTuple, Timestamp};

/// A connection's entry in the kernel's connection tracking (netfilter conntrack).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConntrackEntry {
    /// When the entry was read.
    pub captured_at: Timestamp,
    /// The entry's flags.
    pub status: ConntrackStatus,
    /// The state of a TCP connection.
    #[serde(skip_serializing_if = "is_default")]
    pub tcp_state: TcpState,
    /// The mark of the connection (CONNMARK).
    pub mark: u32,
    /// The addresses as the connection's originator sees them, before NAT.
    pub addr_orig: AddrTuple,
    /// The addresses in the direction of replies, after NAT.
    pub addr_reply: AddrTuple,
    /// The number of packets to the remote endpoint.
    pub packets_sent: u64,
    /// The number of packets from the remote endpoint.
    pub packets_recv: u64,
    /// The number of bytes to the remote endpoint, including the headers from the network layer up.
    pub bytes_sent: u64,
    /// The number of bytes from the remote endpoint, including the headers from the network layer up.
    pub bytes_recv: u64,
    /// The zone of the entry (`ct zone`); `None` for the default zone, 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<u16>,
    /// The kernel's identifier of the entry, as `conntrack -L -o id` shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// When the kernel created the entry, if it records that (`nf_conntrack_timestamp`). Absolute.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub start_at: Timestamp,
    /// When the kernel destroyed the entry, if it reports that. Absolute.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub stop_at: Timestamp,
    /// When the entry was first found to be gone, though the connection was open. If the kernel has made another one for
    /// later packets of the connection, the other fields are of that. Undefined if it was not found to be gone.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub lost_at: Timestamp,
}

open_enum! {
    /// The state of a TCP connection in conntrack (`tcp_conntrack_names` in the kernel's `nf_conntrack_proto_tcp.c`).
    pub enum TcpState {
        /// Unknown, or not TCP.
        #[default]
        None = "none" | "",
        /// A SYN was seen.
        SynSent = "syn-sent",
        /// A SYN-ACK was seen.
        SynRecv = "syn-recv" | "sync-recv",
        /// The handshake is complete.
        Established = "established",
        /// A FIN was seen.
        FinWait = "fin-wait",
        /// The FIN was acknowledged.
        CloseWait = "close-wait",
        /// The other side's FIN was seen.
        LastAck = "last-ack",
        /// The last ACK was seen.
        TimeWait = "time-wait",
        /// The connection was reset.
        Close = "close",
        /// Both sides sent a SYN: a simultaneous open.
        SynSent2 = "syn-sent2",
    }
}

impl From<u8> for TcpState {
    /// Converts the kernel's number (`enum tcp_conntrack`).
    fn from(state: u8) -> Self {
        match state {
            1 => TcpState::SynSent,
            2 => TcpState::SynRecv,
            3 => TcpState::Established,
            4 => TcpState::FinWait,
            5 => TcpState::CloseWait,
            6 => TcpState::LastAck,
            7 => TcpState::TimeWait,
            8 => TcpState::Close,
            9 => TcpState::SynSent2,
            _ => TcpState::None,
        }
    }
}

/// The flags of a conntrack entry (`enum ip_conntrack_status` in the kernel's `nf_conntrack_common.h`).
///
/// Written as names in the order of their bits, `seen-reply|assured|confirmed`. A bit without a name is written in
/// hexadecimal. Unknown names are kept and written after the known ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConntrackStatus {
    bits: u32,
    /// The unknown names, joined by `|`.
    other: Option<Box<str>>,
}

const FLAGS: [&str; 16] = [
    "expected",
    "seen-reply",
    "assured",
    "confirmed",
    "src-nat",
    "dst-nat",
    "seq-adjust",
    "src-nat-done",
    "dst-nat-done",
    "dying",
    "fixed-timeout",
    "template",
    "untracked",
    "helper",
    "offload",
    "hw-offload",
];

impl ConntrackStatus {
    /// Packets were seen in both directions.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// The entry is not evicted early when the table is full.
    pub const ASSURED: u32 = 1 << 2;
    /// The first packet has left the host.
    pub const CONFIRMED: u32 = 1 << 3;
    /// The source address is translated.
    pub const SRC_NAT: u32 = 1 << 4;
    /// The destination address is translated.
    pub const DST_NAT: u32 = 1 << 5;

    /// Returns the flags as the kernel's bits.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Returns `true` if all of these bits are set.
    pub fn contains(&self, bits: u32) -> bool {
        self.bits & bits == bits
    }

    /// Returns the names of the flags, in the order in which they are written.
    fn names(&self) -> impl Iterator<Item = FlagName<'_>> {
        let of_bit = |bit: u32| match FLAGS.get(bit as usize) {
            Some(name) => FlagName::Known(name),
            None => FlagName::Bit(1 << bit),
        };
        let set = (0..u32::BITS).filter(|bit| self.bits & (1 << bit) != 0);
        set.map(of_bit).chain(self.other.as_deref().map(FlagName::Known))
    }
}

enum FlagName<'a> {
    Known(&'a str),
    Bit(u32),
}

impl From<u32> for ConntrackStatus {
    fn from(bits: u32) -> Self {
        Self { bits, other: None }
    }
}

impl From<&str> for ConntrackStatus {
    fn from(text: &str) -> Self {
        let mut status = Self::default();
        let mut other: Vec<&str> = Vec::new();
        for name in text.split('|').filter(|name| !name.is_empty()) {
            match flag(name) {
                Some(bit) => status.bits |= bit,
                None => other.push(name),
            }
        }
        if !other.is_empty() {
            status.other = Some(other.join("|").into());
        }
        status
    }
}

fn flag(name: &str) -> Option<u32> {
    match FLAGS.iter().position(|known| *known == name) {
        Some(bit) => Some(1 << bit),
        // Accepts only what [`Display`](fmt::Display) writes: one unnamed bit, in lower case.
        None => u32::from_str_radix(name.strip_prefix("0x")?, 16).ok().filter(|bits| {
            bits.is_power_of_two() && *bits >> FLAGS.len() != 0 && format!("{bits:#x}") == name
        }),
    }
}

impl fmt::Display for ConntrackStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.names().enumerate() {
            if at > 0 {
                f.write_str("|")?;
            }
            match name {
                FlagName::Known(name) => f.write_str(name)?,
                FlagName::Bit(bit) => write!(f, "{bit:#x}")?,
            }
        }
        Ok(())
    }
}

impl Serialize for ConntrackStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConntrackStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor::new("conntrack status"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn flags_are_written_in_the_order_of_their_bits() {
        let status = ConntrackStatus::from("assured|src-nat|confirmed|src-nat-done|dst-nat-done|seen-reply");
        assert_eq!(status.to_string(), "seen-reply|assured|confirmed|src-nat|src-nat-done|dst-nat-done");
        assert_eq!(status.bits(), 0x19e);
        assert!(status.contains(ConntrackStatus::SRC_NAT | ConntrackStatus::ASSURED));
        assert!(!status.contains(ConntrackStatus::SRC_NAT | ConntrackStatus::DST_NAT));
    }

    #[test]
    fn unknown_flags_survive_a_round_trip() {
        for (text, written) in [
            ("", ""),
            ("|", ""),
            ("nat-clash|expected|later", "expected|nat-clash|later"),
            ("0x10000|hw-offload", "hw-offload|0x10000"),
            ("0x1", "0x1"),
            ("0x30000|0X10000|0x010000|0x", "0x30000|0X10000|0x010000|0x"),
        ] {
            let status = ConntrackStatus::from(text);
            assert_eq!(status.to_string(), written);
            assert_eq!(ConntrackStatus::from(written), status);
        }
    }

    proptest! {
        #[test]
        fn all_bits_survive_a_round_trip(bits: u32) {
            let status = ConntrackStatus::from(bits);
            prop_assert_eq!(ConntrackStatus::from(status.to_string().as_str()), status);
        }

        #[test]
        fn parsing_any_text_is_idempotent(text in "\\PC*|([a-z|0-9x-]|dst-nat|dying){0,20}") {
            let once = ConntrackStatus::from(text.as_str());
            let twice = ConntrackStatus::from(once.to_string().as_str());
            prop_assert_eq!(once, twice);
        }
    }

    #[test]
    fn states_have_the_numbers_of_the_kernel() {
        let names: Vec<_> = (0..12).map(|n| TcpState::from(n).to_string()).collect();
        assert_eq!(
            names.join(" "),
            "none syn-sent syn-recv established fin-wait close-wait last-ack time-wait close syn-sent2 none none"
        );
    }
}
