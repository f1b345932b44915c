//! The data of SVCB and HTTPS records (RFC 9460): as it is stored among the answers of a reply, and back.

#[cfg(feature = "resolve")]
use super::encoding::{AnswerText, V4_TEXT_BYTES, V6_TEXT_BYTES};
use super::encoding::{take, take_bytes, take_text};
use crate::record::{DnsSvcb, Text};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The parameters of an SVCB or HTTPS record, still as on the wire, without its target.
#[cfg(feature = "resolve")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SvcbParams<'a> {
    pub(crate) priority: u16,
    /// The protocols, each preceded by its length.
    pub(crate) alpn: &'a [u8],
    pub(crate) port: Option<u16>,
    /// Addresses one after the other.
    pub(crate) ipv4_hints: &'a [u8],
    pub(crate) ipv6_hints: &'a [u8],
    pub(crate) ech: bool,
}

const V4_BYTES: usize = 4;
const V6_BYTES: usize = 16;
/// Flags.
const HAS_PORT: u8 = 1;
const HAS_ECH: u8 = 2;

#[cfg(feature = "resolve")]
impl SvcbParams<'_> {
    /// Appends the parameters. Returns about how many bytes of text they have in a trace.
    pub(super) fn write(&self, out: &mut AnswerText) -> usize {
        let Self { priority, alpn, port, ipv4_hints, ipv6_hints, ech } = self;
        out.extend_from_slice(&priority.to_be_bytes());
        out.push(if port.is_some() { HAS_PORT } else { 0 } | if *ech { HAS_ECH } else { 0 });
        out.extend_from_slice(&port.unwrap_or(0).to_be_bytes());
        for list in [alpn, ipv4_hints, ipv6_hints] {
            // The length fits: each is a part of a record, whose length has two bytes.
            out.extend_from_slice(&(list.len() as u16).to_be_bytes());
            out.extend_from_slice(list);
        }
        let v4 = ipv4_hints.len() / V4_BYTES * V4_TEXT_BYTES;
        let v6 = ipv6_hints.len() / V6_BYTES * V6_TEXT_BYTES;
        // A byte of a protocol may become `\\xff`.
        4 * alpn.len() + v4 + v6
    }
}

/// Reads what [`SvcbParams::write`] has written, and the target behind it.
pub(super) fn read(rest: &mut &[u8]) -> Option<DnsSvcb> {
    let priority = u16::from_be_bytes(take(rest)?);
    let [flags] = take(rest)?;
    let port = u16::from_be_bytes(take(rest)?);
    let (alpn, ipv4_hints, ipv6_hints) = (take_bytes(rest)?, take_bytes(rest)?, take_bytes(rest)?);
    Some(DnsSvcb {
        priority,
        target: take_text(rest)?,
        alpn: protocols(alpn),
        port: (flags & HAS_PORT != 0).then_some(port),
        ipv4_hints: addresses::<V4_BYTES>(ipv4_hints, |octets| Ipv4Addr::from(octets).into()),
        ipv6_hints: addresses::<V6_BYTES>(ipv6_hints, |octets| Ipv6Addr::from(octets).into()),
        ech: flags & HAS_ECH != 0,
    })
}

fn protocols(mut list: &[u8]) -> Vec<Text> {
    let mut protocols = Vec::new();
    while let Some((len, rest)) = list.split_first()
        && let Some((name, after)) = rest.split_at_checked((*len).into())
    {
        protocols.push(name.escape_ascii().to_string().into());
        list = after;
    }
    protocols
}

fn addresses<const N: usize>(list: &[u8], read: impl Fn([u8; N]) -> IpAddr) -> Vec<Text> {
    let octets = list.chunks_exact(N).filter_map(|octets| octets.try_into().ok());
    octets.map(|octets| read(octets).into()).collect()
}
