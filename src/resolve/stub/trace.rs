//! Messages as they stand in a trace.

use super::{
    message::Reply,
    rr::{Answer, Value},
};
use crate::{
    record::{DnsAnswer, DnsQueryMsg, DnsQuestion, DnsReplyMsg},
    sink::ReadDns,
};
use hickory_proto::op::{Message, Query};

pub(super) static READ: ReadDns = ReadDns { query, reply };

/// Answers of one reply that are shown. No honest reply has more, and a hostile one must not fill the
/// memory; of a reply that is not used a sample is enough.
const MAX_ANSWERS: usize = 1024;
const MAX_IGNORED_ANSWERS: usize = 16;

fn query(wire: &[u8]) -> DnsQueryMsg {
    let size = size(wire.len());
    // It is one of ours, and so can be read.
    let Ok(message) = Message::from_vec(wire) else { return DnsQueryMsg { size, ..DnsQueryMsg::default() } };
    let question = |query: &Query| DnsQuestion {
        name: query.name().to_ascii(),
        r#type: u16::from(query.query_type()).into(),
        class: query.query_class().into(),
    };
    DnsQueryMsg {
        id: message.metadata.id,
        recursion_desired: message.metadata.recursion_desired,
        truncated: message.metadata.truncation,
        size,
        questions: message.queries.iter().map(question).collect(),
        opt_udp_payload_size: message.edns.as_ref().map_or(0, |edns| edns.max_payload()),
        ..DnsQueryMsg::default()
    }
}

/// As much as can be read.
fn reply(wire: &[u8], ignored: &str) -> DnsReplyMsg {
    let reply = Reply::decode(wire);
    let most = if ignored.is_empty() { MAX_ANSWERS } else { MAX_IGNORED_ANSWERS };
    DnsReplyMsg {
        id: reply.id,
        authoritative: reply.authoritative,
        recursion_available: reply.recursion_available,
        truncated: reply.truncated,
        size: size(reply.size),
        r_code: reply.has_header().then(|| reply.rcode.into()),
        answers: reply.answers.iter().take(most).map(answer).collect(),
        ignored: ignored.to_owned(),
        ..DnsReplyMsg::default()
    }
}

fn answer(answer: &Answer) -> DnsAnswer {
    DnsAnswer {
        name: answer.name.to_ascii(),
        r#type: answer.record_type.into(),
        class: answer.class,
        ttl: answer.ttl,
        resolved_val: match &answer.value {
            Value::Address(address) => address.to_string(),
            Value::Name(name) => name.to_ascii(),
            Value::Other => String::new(),
        },
    }
}

fn size(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
