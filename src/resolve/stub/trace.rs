//! Messages as they stand in a trace.

use super::message::{Answer, CLASS_IN, Query, Question, Reply, Value};
use crate::record::{DnsAnswer, DnsQueryMsg, DnsQuestion, DnsReplyMsg};

/// Answers of one reply that are recorded. No honest reply has more, and a hostile one must not fill the
/// memory; of a reply that is not used a sample is enough.
const MAX_ANSWERS: usize = 1024;
const MAX_IGNORED_ANSWERS: usize = 16;

pub(super) fn query(query: &Query, question: &Question) -> DnsQueryMsg {
    let mut asked = DnsQuestion::default();
    asked.name = question.name.to_ascii();
    asked.r#type = question.family.record_type().into();
    asked.class = CLASS_IN;

    let mut message = DnsQueryMsg::default();
    message.id = query.id;
    message.recursion_desired = true;
    message.size = size(query.wire.len());
    message.questions = vec![asked];
    message.opt_udp_payload_size = query.edns.unwrap_or_default();
    message
}

/// `ignored` says why the reply is not used; empty when it is.
pub(super) fn reply(reply: &Reply, ignored: &str) -> DnsReplyMsg {
    let most = if ignored.is_empty() { MAX_ANSWERS } else { MAX_IGNORED_ANSWERS };
    let mut message = DnsReplyMsg::default();
    message.id = reply.id;
    message.authoritative = reply.authoritative;
    message.recursion_available = reply.recursion_available;
    message.truncated = reply.truncated;
    message.size = size(reply.size);
    message.r_code = reply.rcode.into();
    message.answers = reply.answers.iter().take(most).map(answer).collect();
    message.ignored = ignored.to_owned();
    message
}

fn answer(answer: &Answer) -> DnsAnswer {
    let mut record = DnsAnswer::default();
    record.name = answer.name.to_ascii();
    record.r#type = answer.record_type.into();
    record.class = answer.class;
    record.ttl = answer.ttl;
    record.resolved_val = match &answer.value {
        Value::Address(address) => address.to_string(),
        Value::Name(name) => name.to_ascii(),
        Value::Other => String::new(),
    };
    record
}

fn size(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
