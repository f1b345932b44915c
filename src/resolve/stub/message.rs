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

use super::{
    rr::{A, AAAA, Answer, CLASS_IN, CNAME, NS, OPT, Value, read_answer, read_record},
    wire::{Reader, WireError, WireName},
};
use crate::error::rcode;

/// Length of the header that begins every message, in bytes.
const HEADER_BYTES: usize = 12;
/// The TC (truncated) bit in the third byte of a message.
pub(super) const TC_BIT: u8 = 0x02;

/// The address family that a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    /// Returns the type of its resource records.
    pub(super) fn record_type(self) -> u16 {
        match self {
            Self::V4 => A,
            Self::V6 => AAAA,
        }
    }
}

/// A question of class IN.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) family: Family,
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
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.metadata.authentic_data = trust_ad;
        let record_type = match question.family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        message.add_query(MessageQuery::query(question.name.clone(), record_type));
        if let Some(payload) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        Ok(Self { id: message.metadata.id, edns, wire: message.to_vec()? })
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
            name.is(&question.name) && *record_type == question.family.record_type() && *class == CLASS_IN
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
        let record_type = question.family.record_type();
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
mod tests {
    use super::*;
    use crate::{
        record::{DnsRCode, DnsReplyMsg},
        resolve::stub::{
            policy::{QueryAttempt, Transport, classify_reply},
            rr::{MX, PTR},
            to_record,
        },
        sink::TraceSink,
    };
    use hickory_proto::{
        op::{OpCode, ResponseCode},
        rr::{RData, Record, rdata},
    };
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn question(text: &str) -> Question {
        Question { name: name(text), family: Family::V4 }
    }

    fn reply_to(query: &Query, question: &Question) -> Message {
        let mut message = Message::response(query.id, OpCode::Query);
        message.metadata.recursion_available = true;
        message.add_query(MessageQuery::query(question.name.clone(), RecordType::A));
        message
    }

    fn record(owner: &str, data: RData) -> Record {
        Record::from_rdata(name(owner), 60, data)
    }

    fn a(owner: &str, address: [u8; 4]) -> Record {
        record(owner, RData::A(rdata::A(address.into())))
    }

    fn cname(owner: &str, to: &str) -> Record {
        record(owner, RData::CNAME(rdata::CNAME(name(to))))
    }

    /// Encodes and decodes a message. The bytes are leaked, which is fine in a test.
    fn decoded(message: &Message) -> Reply<'static> {
        Reply::decode(message.to_vec().unwrap().leak())
    }

    #[test]
    fn queries_are_as_small_as_those_of_go() {
        let question = question("cname.test.");
        let query = Query::new(&question, Some(1232), false).unwrap();
        let shown = to_record::query(&query, &question);
        assert_eq!((shown.size, shown.udp_payload_size), (39, 1232));
        assert_eq!((shown.id, shown.name.as_str()), (query.id, "cname.test."));
        let sent = Message::from_vec(&query.wire).unwrap();
        assert_eq!((sent.metadata.id, sent.queries[0].name().to_ascii().as_str()), (query.id, "cname.test."));
        assert_eq!(query.wire[..2], query.id.to_be_bytes());
        assert_eq!(query.wire[2..4], [0x01, 0x00], "recursion desired and nothing else");
        let without = Query::new(&question, None, true).unwrap();
        assert_eq!(without.wire.len(), 28);
        assert_eq!(without.wire[2..4], [0x01, 0x20], "AD with trust-ad");
    }

    #[test]
    fn a_reply_is_decoded() {
        let question = question("www.test.");
        let query = Query::new(&question, Some(1232), false).unwrap();
        let mut message = reply_to(&query, &question);
        message.metadata.authoritative = true;
        message.add_answer(cname("WWW.test.", "edge.test."));
        message.add_answer(a("edge.test.", [10, 0, 0, 1]));
        message.add_answer(a("edge.test.", [10, 0, 0, 2]));
        message.add_answer(a("other.test.", [10, 0, 0, 3]));
        message.add_answer(record("edge.test.", RData::MX(rdata::MX::new(5, name("mx.test.")))));
        message.add_answer(record("edge.test.", RData::TXT(rdata::TXT::new(vec!["x".into()]))));
        message.set_edns(Edns::new());
        let reply = decoded(&message);
        assert_eq!(reply.mismatch(&query, &question), None);
        assert!(reply.authoritative && reply.recursion_available && reply.has_additionals && !reply.refers);
        assert_eq!(reply.answers.len(), 6);
        assert!(matches!(reply.answers[4].value, Value::Name(host) if host.is(&name("mx.test."))));
        assert_eq!(reply.answers[5].value, Value::Other);
        assert_eq!(reply.addresses(&question), [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])]);
    }

    #[test]
    fn alias_loops_end() {
        let question = question("a.test.");
        let query = Query::new(&question, None, false).unwrap();
        let mut message = reply_to(&query, &question);
        message.add_answer(cname("a.test.", "b.test."));
        message.add_answer(cname("b.test.", "a.test."));
        assert!(decoded(&message).addresses(&question).is_empty());
        message.answers = vec![cname("a.test.", "a.test.")];
        assert!(decoded(&message).addresses(&question).is_empty());
    }

    #[test]
    fn mismatching_replies_are_recognised() {
        let question = question("www.test.");
        let query = Query::new(&question, Some(1232), false).unwrap();
        let good = reply_to(&query, &question);
        let why = |change: &dyn Fn(&mut Message)| {
            let mut message = good.clone();
            change(&mut message);
            decoded(&message).mismatch(&query, &question)
        };
        assert_eq!(why(&|_| ()), None);
        assert_eq!(why(&|m| m.metadata.id ^= 1).as_deref(), Some("id mismatch"));
        let query_type = hickory_proto::op::MessageType::Query;
        assert_eq!(why(&|m| m.metadata.message_type = query_type).as_deref(), Some("not a response"));
        for change in [
            (|m: &mut Message| m.queries[0].name = Name::from_ascii("evil.test.").unwrap())
                as fn(&mut Message),
            |m| m.queries[0].query_type = RecordType::AAAA,
            |m| m.queries[0].query_class = hickory_proto::rr::DNSClass::CH,
            |m| m.queries.push(m.queries[0].clone()),
            |m| m.queries.clear(),
        ] {
            assert_eq!(why(&change).as_deref(), Some("question mismatch"));
        }
        assert_eq!(why(&|m| m.queries[0].name = Name::from_ascii("WWW.Test.").unwrap()), None);
        let bare = |code| {
            why(&|m| {
                m.queries.clear();
                m.metadata.response_code = code;
            })
        };
        assert_eq!(bare(ResponseCode::FormErr), None, "a server that cannot read the question");
        assert_eq!(bare(ResponseCode::NXDomain).as_deref(), Some("question mismatch"));
    }

    #[test]
    fn incomplete_messages_are_malformed() {
        let question = question("www.test.");
        let query = Query::new(&question, None, false).unwrap();
        let mut message = reply_to(&query, &question);
        message.add_answer(a("www.test.", [10, 0, 0, 1]));
        let wire = message.to_vec().unwrap();
        for cut in 0..wire.len() {
            let why = Reply::decode(&wire[..cut]).mismatch(&query, &question).unwrap();
            assert!(why.starts_with("malformed: "), "{cut}: {why}");
        }
        // Cut off with the TC bit set: the incomplete record does not matter.
        message.metadata.truncation = true;
        let wire = message.to_vec().unwrap();
        assert_eq!(Reply::decode(&wire[..wire.len() - 1]).mismatch(&query, &question), None);
    }

    #[test]
    fn extended_response_codes_are_combined() {
        let question = question("www.test.");
        let query = Query::new(&question, Some(1232), false).unwrap();
        let mut message = reply_to(&query, &question);
        message.set_edns(Edns::new());
        message.metadata.response_code = ResponseCode::BADVERS;
        assert_eq!(decoded(&message).rcode, 16);
    }

    /// Returns the reply as a trace shows it.
    fn recorded(reply: &Reply<'_>) -> DnsReplyMsg {
        let (sink, nameserver) = (TraceSink::new(), ([192, 0, 2, 1], 53).into());
        let conn = sink.lookup().resolver_dial(nameserver).udp(nameserver);
        let mut dns = conn.dns();
        dns.reply(|| "".into(), |answers, ignored| to_record::reply(reply, answers, ignored));
        let mut trace = sink.snapshot("reply");
        trace.dns_queries.iter_mut().next().unwrap().dns_reply_msgs.remove(0)
    }

    #[test]
    fn a_decoded_reply_is_recorded() {
        let question = question("www.test.");
        let query = Query::new(&question, Some(1232), false).unwrap();
        let mut message = reply_to(&query, &question);
        message.add_answer(cname("WWW.test.", "edge-1.test."));
        message.add_answer(a("edge-1.test.", [10, 0, 0, 1]));
        message.add_answer(record("edge-1.test.", RData::MX(rdata::MX::new(5, name("*.test.")))));
        message.add_answer(record(".", RData::TXT(rdata::TXT::new(vec!["x".into()]))));
        message.metadata.response_code = ResponseCode::Refused;
        let shown = recorded(&decoded(&message));
        assert_eq!((shown.id, shown.size as usize), (query.id, message.to_vec().unwrap().len()));
        assert!(shown.recursion_available && !shown.authoritative && !shown.truncated);
        assert_eq!(shown.r_code, Some(DnsRCode::Refused));
        let answers: Vec<_> = shown
            .answers
            .iter()
            .map(|answer| (&*answer.name, answer.r#type.as_str(), &*answer.resolved_val))
            .collect();
        assert_eq!(
            answers,
            [
                ("WWW.test.", "CNAME", "edge-1.test."),
                ("edge-1.test.", "A", "10.0.0.1"),
                ("edge-1.test.", "MX", "*.test."),
                (".", "TXT", ""),
            ]
        );
        assert!(shown.answers.iter().all(|answer| (answer.class, answer.ttl) == (1, 60)));
    }

    fn hostile_message() -> impl Strategy<Value = Vec<u8>> {
        let header = (any::<[u8; 4]>(), prop::collection::vec(0u16..4, 4)).prop_map(|(start, counts)| {
            start.into_iter().chain(counts.into_iter().flat_map(u16::to_be_bytes)).collect::<Vec<u8>>()
        });
        // Compression pointers, labels, record heads and noise.
        let piece = prop_oneof![
            (0u8..64).prop_map(|to| vec![0xc0, to]),
            (0u8..5).prop_map(|len| [vec![len], vec![b'a'; len.into()]].concat()),
            (prop::sample::select(vec![A, NS, CNAME, PTR, MX, AAAA, OPT, 16, 6]), 0u16..20).prop_map(
                |(record_type, len)| {
                    let head = [&record_type.to_be_bytes()[..], &[0, 1, 0, 0, 0, 60], &len.to_be_bytes()];
                    head.concat()
                }
            ),
            prop::collection::vec(any::<u8>(), 0..16),
        ];
        (header, prop::collection::vec(piece, 0..40))
            .prop_map(|(header, pieces)| [header, pieces.concat()].concat())
    }

    proptest! {
        #[test]
        fn any_reply_is_decoded_without_a_panic(
            bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..600), hostile_message()],
            tcp: bool,
        ) {
            let question = question("www.test.");
            let mut query = Query::new(&question, Some(1232), false).unwrap();
            query.id = bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
            let reply = Reply::decode(&bytes);
            prop_assert_eq!(reply.size, bytes.len());
            let _ = reply.mismatch(&query, &question);
            let _ = recorded(&reply);
            let transport = if tcp { Transport::Tcp } else { Transport::Udp };
            let attempt = QueryAttempt { server: ([127, 0, 0, 1], 53).into(), transport, edns: true };
            let _ = classify_reply(&reply, &question, attempt);
        }

        #[test]
        fn damaged_replies_are_decoded_without_a_panic(at in prop::collection::vec((0usize..200, any::<u8>()), 1..8)) {
            let question = question("www.test.");
            let query = Query::new(&question, Some(1232), false).unwrap();
            let mut message = reply_to(&query, &question);
            message.add_answer(cname("www.test.", "edge.test."));
            message.add_answer(a("edge.test.", [10, 0, 0, 1]));
            message.add_answer(record("edge.test.", RData::MX(rdata::MX::new(5, name("mx.test.")))));
            let mut wire = message.to_vec().unwrap();
            for (index, byte) in at {
                let index = index % wire.len();
                wire[index] = byte;
            }
            let reply = Reply::decode(&wire);
            let _ = (reply.mismatch(&query, &question), reply.addresses(&question));
        }
    }
}
