//! DNS messages (RFC 1035 section 4): the query that is sent, and the reply as far as a stub needs it.
//!
//! Queries are encoded by hickory-proto. Replies are decoded here and not by `hickory_proto::op::Message`, for three
//! reasons: an unusual record in a section that the stub does not need must not make a reply unusable; what was wrong
//! with an ignored reply is recorded; and decoding takes little time whatever a reply contains (see
//! [`wire`](super::wire)).

use std::{collections::HashSet, net::IpAddr};

use hickory_proto::{
    ProtoError,
    op::{Edns, Message, Query as MessageQuery},
    rr::{Name, RecordType},
};

#[cfg(feature = "encrypted-dns")]
use hickory_proto::rr::rdata::opt::EdnsOption;

use super::{
    rr::{A, AAAA, Answer, CLASS_IN, CNAME, HTTPS, NS, OPT, Value, read_answer, read_record},
    wire::{Reader, WireError, WireName},
};
use crate::error::rcode;

/// Length of the header that begins every message, in bytes.
const HEADER_BYTES: usize = 12;
/// The EDNS option for padding (RFC 7830 section 3).
#[cfg(feature = "encrypted-dns")]
const PADDING: u16 = 12;
/// Queries are padded to a multiple of this many bytes (RFC 8467 section 4.1).
#[cfg(feature = "encrypted-dns")]
const PADDED_BLOCK_BYTES: usize = 128;
/// The TC (truncated) bit in the third byte of a message.
pub(super) const TC_BIT: u8 = 0x02;

/// The type of the records that a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueryType {
    A,
    Aaaa,
    /// The binding of a name to HTTP services (RFC 9460), which is only recorded.
    Https,
}

impl QueryType {
    /// Returns the number of the type.
    pub(super) fn record_type(self) -> u16 {
        match self {
            Self::A => A,
            Self::Aaaa => AAAA,
            Self::Https => HTTPS,
        }
    }
}

/// A question of class IN.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) query_type: QueryType,
}

/// An encoded query.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) id: u16,
    /// The UDP payload size offered in an OPT record, in bytes; `None` without one.
    pub(super) edns: Option<u16>,
    pub(super) wire: Vec<u8>,
}

impl Query {
    /// Creates a query with a random ID that asks for recursion. `edns` is the UDP payload size to offer in an OPT
    /// record, `None` for a query without one.
    ///
    /// # Errors
    ///
    /// When it cannot be encoded. Not known to happen for a name that `host_name::validate` accepts.
    pub(super) fn new(question: &Question, edns: Option<u16>, trust_ad: bool) -> Result<Self, ProtoError> {
        let message = Self::message(question, edns, trust_ad);
        Ok(Self { id: message.metadata.id, edns, wire: message.to_vec()? })
    }

    /// Creates a query with this ID for an encrypted connection. With an OPT record it is padded, so that its length
    /// tells little of the name (RFC 8467 section 4.1).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`new`](Self::new).
    #[cfg(feature = "encrypted-dns")]
    pub(super) fn padded(
        question: &Question,
        edns: Option<u16>,
        trust_ad: bool,
        id: u16,
    ) -> Result<Self, ProtoError> {
        let mut message = Self::message(question, edns, trust_ad);
        message.metadata.id = id;
        if let Some(edns) = &mut message.edns {
            // The option is there when the length is measured, with its code and length.
            edns.options_mut().insert(EdnsOption::Unknown(PADDING, Vec::new()));
            let len = message.to_vec()?.len();
            let padding = vec![0; len.next_multiple_of(PADDED_BLOCK_BYTES) - len];
            if let Some(edns) = &mut message.edns {
                edns.options_mut().remove(PADDING.into());
                edns.options_mut().insert(EdnsOption::Unknown(PADDING, padding));
            }
        }
        Ok(Self { id, edns, wire: message.to_vec()? })
    }

    fn message(question: &Question, edns: Option<u16>, trust_ad: bool) -> Message {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.metadata.authentic_data = trust_ad;
        let record_type = match question.query_type {
            QueryType::A => RecordType::A,
            QueryType::Aaaa => RecordType::AAAA,
            QueryType::Https => RecordType::HTTPS,
        };
        message.add_query(MessageQuery::query(question.name.clone(), record_type));
        if let Some(payload) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        message
    }
}

/// A decoded message, as much of it as could be read.
#[derive(Debug, Default)]
pub(super) struct Reply<'a> {
    pub(super) id: u16,
    pub(super) authoritative: bool,
    pub(super) truncated: bool,
    pub(super) recursion_available: bool,
    /// The response code, including the upper bits in the OPT record (RFC 6891 section 6.1.3).
    pub(super) rcode: u16,
    /// Length of the message in bytes.
    pub(super) size: usize,
    pub(super) answers: Vec<Answer<'a>>,
    /// The authority section names nameservers: the message is a referral.
    pub(super) refers: bool,
    /// The additional section has records; the OPT record counts.
    pub(super) has_additionals: bool,
    is_response: bool,
    question_count: u16,
    question: Option<(WireName<'a>, u16, u16)>,
    /// Why decoding stopped before the end.
    malformed: Option<String>,
}

impl<'a> Reply<'a> {
    /// Decodes `bytes` as far as possible. Errors after the answer section are ignored: the later sections give only
    /// hints.
    pub(super) fn decode(bytes: &'a [u8]) -> Self {
        let mut reply = Self { size: bytes.len(), ..Self::default() };
        if let Some(id) = bytes.first_chunk() {
            reply.id = u16::from_be_bytes(*id);
        }
        if let Err(error) = reply.decode_sections(bytes) {
            reply.malformed = Some(error);
        }
        reply
    }

    /// Returns why this is not the reply to `query`; `None` if it is.
    pub(super) fn mismatch(&self, query: &Query, question: &Question) -> Option<String> {
        if !self.has_header() {
            return self.malformed.as_ref().map(|why| format!("malformed: {why}"));
        }
        if self.id != query.id {
            return Some("id mismatch".to_owned());
        }
        if !self.is_response {
            return Some("not a response".to_owned());
        }
        // A server that could not read the question does not have to repeat it.
        let bare_error =
            self.question_count == 0 && !matches!(self.rcode, rcode::NO_ERROR | rcode::NAME_ERROR);
        if bare_error && !self.truncated {
            return None;
        }
        let ours = |(name, record_type, class): &(WireName<'_>, u16, u16)| {
            name.is(&question.name) && *record_type == question.query_type.record_type() && *class == CLASS_IN
        };
        match &self.question {
            Some(theirs) if self.question_count == 1 && ours(theirs) => {}
            None if self.question_count == 1 => {
                let why = self.malformed.as_deref().unwrap_or("no question");
                return Some(format!("malformed: {why}"));
            }
            _ => return Some("question mismatch".to_owned()),
        }
        match &self.malformed {
            // A truncated message may end in the middle of a record.
            Some(why) if !self.truncated => Some(format!("malformed: {why}")),
            _ => None,
        }
    }

    /// Returns `true` if the message has a complete header, and so a response code.
    pub(super) fn has_header(&self) -> bool {
        self.size >= HEADER_BYTES
    }

    /// Returns the addresses that answer `question`: those of its name, or of the name that its CNAMEs lead to.
    pub(super) fn addresses(&self, question: &Question) -> Vec<IpAddr> {
        /// Longer chains are taken for loops.
        const MAX_ALIASES: usize = 16;
        /// Only this many CNAME records are considered, so that a reply full of them does not take long.
        const MAX_CNAMES: usize = 4 * MAX_ALIASES;

        let cnames = || self.answers.iter().filter(|answer| answer.record_type == CNAME).take(MAX_CNAMES);
        let alias_of = |is_owner: &dyn Fn(WireName<'a>) -> bool| {
            cnames().find_map(|answer| match answer.value {
                Value::Name(alias) if is_owner(answer.name) => Some(alias),
                _ => None,
            })
        };
        let mut alias = alias_of(&|owner| owner.is(&question.name));
        for _ in 1..MAX_ALIASES {
            match alias.and_then(|name| alias_of(&|owner| owner == name)) {
                Some(next) => alias = Some(next),
                None => break,
            }
        }
        let record_type = question.query_type.record_type();
        let is_wanted = |answer: &&Answer<'_>| {
            answer.record_type == record_type
                && answer.class == CLASS_IN
                && alias.map_or_else(|| answer.name.is(&question.name), |alias| answer.name == alias)
        };
        let addresses = self.answers.iter().filter(is_wanted).filter_map(|answer| match answer.value {
            Value::Address(address) => Some(address),
            _ => None,
        });
        deduplicated(addresses)
    }

    fn decode_sections(&mut self, bytes: &'a [u8]) -> Result<(), String> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(format!("{} bytes are less than a header", bytes.len()));
        };
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        self.is_response = header[2] & 0x80 != 0;
        self.authoritative = header[2] & 0x04 != 0;
        self.truncated = header[2] & TC_BIT != 0;
        self.recursion_available = header[3] & 0x80 != 0;
        self.rcode = u16::from(header[3] & 0x0f);
        self.question_count = count(4);

        let reader = &mut Reader::new(bytes, HEADER_BYTES);
        for _ in 0..self.question_count {
            let question = read_question(reader).map_err(|error| format!("question: {error}"))?;
            self.question.get_or_insert(question);
        }
        for _ in 0..count(6) {
            self.answers.push(read_answer(reader).map_err(|error| format!("answer: {error}"))?);
        }
        self.read_hints(reader, count(8), count(10));
        Ok(())
    }

    /// Reads the authority and additional sections, up to the first record that cannot be read.
    fn read_hints(&mut self, reader: &mut Reader<'_>, authorities: u16, additionals: u16) {
        for _ in 0..authorities {
            let Ok(record) = read_record(reader) else { return };
            self.refers |= record.record_type == NS;
        }
        self.has_additionals = additionals > 0;
        for _ in 0..additionals {
            let Ok(record) = read_record(reader) else { return };
            if record.record_type == OPT {
                self.rcode |= (record.ttl >> 24 << 4) as u16;
            }
        }
    }
}

fn read_question<'a>(reader: &mut Reader<'a>) -> Result<(WireName<'a>, u16, u16), WireError> {
    Ok((reader.name()?, reader.u16()?, reader.u16()?))
}

/// Returns the addresses without duplicates. A few are compared with each other; a set is used only for many.
fn deduplicated(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    const MAX_COMPARED: usize = 16;

    let (mut list, mut known) = (Vec::new(), HashSet::new());
    for address in addresses {
        let is_new = if list.len() < MAX_COMPARED {
            !list.contains(&address)
        } else {
            if known.is_empty() {
                known.extend(list.iter().copied());
            }
            known.insert(address)
        };
        if is_new {
            list.push(address);
        }
    }
    list
}

#[cfg(test)]
mod tests;
