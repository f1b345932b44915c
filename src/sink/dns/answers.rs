//! [`Answers`]: the answers of a DNS reply, encoded in one block of memory.
//!
//! They are read once, when the reply comes, and stored almost as a trace shows them. A name of 255 bytes on the wire
//! may become a kilobyte of text, and a compression pointer of two bytes may stand for it: so the limit is on the text,
//! not on the size of the message.

use super::{
    encoding::{take, take_text},
    svcb,
};
use crate::record::{DnsAnswer, DnsResType, Text};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// The answers of a reply in one block of memory, which is rarely more than a few hundred bytes.
///
/// Each answer is one byte of [`KIND`], [`SAME_NAME`] and [`SVCB`], its type, class and TTL, its name unless it is that
/// of the answer before, and its value. Numbers are big-endian; texts follow their length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    /// `None` if there are none.
    pub(super) encoded: Option<Arc<[u8]>>,
    pub(super) count: u16,
    /// The number of answers of the reply, those included that are not kept.
    pub(super) original_count: u16,
    #[cfg(feature = "resolve")]
    pub(super) text_bytes: u16,
}

impl Answers {
    /// Returns how many answers the reply had, if not all of them are kept.
    pub(super) fn original_count(&self) -> Option<u16> {
        (self.original_count > self.count).then_some(self.original_count)
    }

    /// Returns the heap memory that the answers take.
    pub(super) fn heap_bytes(&self) -> usize {
        self.encoded.as_ref().map_or(0, |encoded| 2 * size_of::<usize>() + encoded.len())
    }

    pub(super) fn export(&self) -> Vec<DnsAnswer> {
        let mut answers = Vec::with_capacity(self.count.into());
        let mut rest = self.encoded.as_deref().unwrap_or_default();
        let mut last_name = Text::EMPTY;
        // The builder has written it: nothing is missing.
        while let Some(answer) = decode(&mut rest, &mut last_name) {
            answers.push(answer);
        }
        answers
    }
}

/// The kinds of values.
pub(super) const V4: u8 = 1;
pub(super) const V6: u8 = 2;
pub(super) const NAME: u8 = 3;
const KIND: u8 = 3;
/// A flag: the name is that of the answer before.
pub(super) const SAME_NAME: u8 = 1 << 2;
/// A flag: the value is the data of an SVCB or HTTPS record. Its [`KIND`] is 0.
pub(super) const SVCB: u8 = 1 << 3;

/// Returns the type of a record, and its number if the type has no name; 0 if it has one.
pub(super) fn type_and_code(number: u16) -> (DnsResType, u16) {
    let r#type = DnsResType::from(number);
    let code = if r#type == DnsResType::Unrecognized { number } else { 0 };
    (r#type, code)
}

fn decode(rest: &mut &[u8], last_name: &mut Text) -> Option<DnsAnswer> {
    let [kind] = take(rest)?;
    let (record_type, class) = (u16::from_be_bytes(take(rest)?), u16::from_be_bytes(take(rest)?));
    let ttl = u32::from_be_bytes(take(rest)?);
    if kind & SAME_NAME == 0 {
        *last_name = take_text(rest)?;
    }
    let resolved_val = match kind & KIND {
        V4 => IpAddr::from(Ipv4Addr::from(take::<4>(rest)?)).into(),
        V6 => IpAddr::from(Ipv6Addr::from(take::<16>(rest)?)).into(),
        NAME => take_text(rest)?,
        _ => Text::EMPTY,
    };
    let svcb = if kind & SVCB == 0 { None } else { Some(Box::new(svcb::read(rest)?)) };
    let (r#type, type_code) = type_and_code(record_type);
    Some(DnsAnswer { name: last_name.clone(), r#type, type_code, class, ttl, resolved_val, svcb })
}
