//! Messages as they stand in a trace.

use super::{
    message::{Query, Question, Reply},
    rr::{Answer, CLASS_IN, Value},
};
use crate::record::{DnsAnswer, DnsQueryMsg, DnsQuestion, DnsReplyMsg};

/// Answers of one reply that are recorded. No honest reply has more, and a hostile one must not fill the
/// memory; of a reply that is not used a sample is enough.
const MAX_ANSWERS: usize = 1024;
const MAX_IGNORED_ANSWERS: usize = 16;

pub(super) fn query(query: &Query, question: &Question) -> DnsQueryMsg {
    let asked = DnsQuestion {
        name: question.name.to_ascii(),
        r#type: question.family.record_type().into(),
        class: CLASS_IN,
    };
    DnsQueryMsg {
        id: query.id,
        recursion_desired: true,
        size: size(query.wire.len()),
        questions: vec![asked],
        opt_udp_payload_size: query.edns.unwrap_or_default(),
        ..DnsQueryMsg::default()
    }
}

/// `ignored` says why the reply is not used; empty when it is.
pub(super) fn reply(reply: &Reply, ignored: &str) -> DnsReplyMsg {
    let most = if ignored.is_empty() { MAX_ANSWERS } else { MAX_IGNORED_ANSWERS };
    DnsReplyMsg {
        id: reply.id,
        authoritative: reply.authoritative,
        recursion_available: reply.recursion_available,
        truncated: reply.truncated,
        size: size(reply.size),
        r_code: reply.rcode.into(),
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
