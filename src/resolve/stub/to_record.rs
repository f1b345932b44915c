//! DNS messages as the sink records them.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::{
    message::{Query, Question, Reply},
    rr::{Answer, CLASS_IN, Svcb, Value},
    wire::{WireName, write_name},
};
use crate::{
    record::Text,
    sink::{AnswerHead, AnswerText, AnswerValue, AnswersBuilder, DnsQuery, DnsReply, SvcbParams},
};

/// Returns the record of a query.
pub(super) fn query(query: &Query, question: &Question) -> DnsQuery {
    let mut name = SmallVec::<[u8; 64]>::new();
    write_name(&question.name, &mut name);
    DnsQuery {
        id: query.id,
        record_type: question.query_type.record_type(),
        class: CLASS_IN,
        udp_payload_size: query.edns.unwrap_or(0),
        size: size(query.wire.len()),
        name: std::str::from_utf8(&name).map_or(Text::EMPTY, Text::from),
    }
}

/// Returns the record of a reply: as much of it as could be read and the limits allow. `ignored` says why the resolver
/// does not use it; empty if it does.
pub(super) fn reply(reply: &Reply<'_>, mut answers: AnswersBuilder, ignored: Cow<'static, str>) -> DnsReply {
    for answer in &reply.answers {
        if !add(&mut answers, answer) {
            break;
        }
    }
    DnsReply {
        id: reply.id,
        rcode: reply.has_header().then_some(reply.rcode),
        size: size(reply.size),
        authoritative: reply.authoritative,
        recursion_available: reply.recursion_available,
        truncated: reply.truncated,
        answers: answers.finish(reply.answers.len()),
        ignored,
    }
}

/// Adds an answer. Returns `false` once the limits allow no more.
fn add(answers: &mut AnswersBuilder, answer: &Answer<'_>) -> bool {
    let head = AnswerHead { record_type: answer.record_type, class: answer.class, ttl: answer.ttl };
    let value = match answer.value {
        Value::Address(address) => AnswerValue::Address(address),
        Value::Name(name) => AnswerValue::Name(writer_of(name)),
        Value::Svcb(Svcb { priority, target, alpn, port, ipv4_hints, ipv6_hints, ech }) => {
            let params = SvcbParams { priority, alpn, port, ipv4_hints, ipv6_hints, ech };
            AnswerValue::Svcb(params, writer_of(target))
        }
        Value::Other => AnswerValue::Other,
    };
    answers.push(head, |out| write_name(answer.name.labels(), out), value)
}

/// Returns a function that writes the name.
fn writer_of(name: WireName<'_>) -> impl FnOnce(&mut AnswerText) {
    move |out| write_name(name.labels(), out)
}

fn size(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
