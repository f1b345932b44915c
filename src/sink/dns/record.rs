//! [`DnsRecord`]: the messages exchanged with a nameserver over one connection.
//!
//! A message is parsed once, when it is recorded, and little more is kept than the text that a trace shows. The size of
//! a reply, and of all replies that were not used, is limited.

use super::answers::{Answers, type_and_code};
#[cfg(feature = "encrypted-dns")]
use super::carrier::DnsCarrier;
use crate::{
    error::FailureDetail,
    record::{BoxedOrEmpty, DnsQueryMsg, DnsQuestion, DnsReplyMsg, Text, TruncatedFields},
    sink::{clock::Tick, record_id::RecordId, registry::end::End},
};
use smallvec::SmallVec;
use std::borrow::Cow;
#[cfg(feature = "encrypted-dns")]
use std::sync::Arc;

/// The state of an exchange with a nameserver over one connection.
#[derive(Clone)]
pub(crate) struct DnsRecord {
    pub(crate) id: RecordId,
    pub(crate) conn: Option<RecordId>,
    /// What carries the messages, if that is not part of the same group. Most records have none.
    #[cfg(feature = "encrypted-dns")]
    pub(in crate::sink) carrier: Option<Arc<dyn DnsCarrier>>,
    pub(crate) queries: SmallVec<[(Tick, DnsQuery); 1]>,
    pub(crate) replies: SmallVec<[(Tick, DnsReply); 1]>,
    /// The number of replies that came, those included that are not kept.
    pub(super) received: u32,
    pub(crate) end: Option<End>,
}

/// A query that was sent. All queries ask for recursion, and have one question.
#[derive(Clone, Debug, Default)]
pub(crate) struct DnsQuery {
    pub(crate) id: u16,
    pub(crate) record_type: u16,
    pub(crate) class: u16,
    /// The payload size that EDNS announces; 0 without EDNS.
    pub(crate) udp_payload_size: u16,
    /// The size of the message in bytes.
    pub(crate) size: u32,
    /// The name in the question.
    pub(crate) name: Text,
}

/// A reply that came.
#[derive(Clone, Debug, Default)]
pub(crate) struct DnsReply {
    pub(crate) id: u16,
    /// `None` if the message ended before the code.
    pub(crate) rcode: Option<u16>,
    /// The size of the message in bytes.
    pub(crate) size: u32,
    pub(crate) authoritative: bool,
    pub(crate) recursion_available: bool,
    pub(crate) truncated: bool,
    pub(crate) answers: Answers,
    /// Why the reply is not used; empty if it is.
    pub(crate) ignored: Cow<'static, str>,
}

impl DnsQuery {
    pub(in crate::sink) fn export(&self) -> DnsQueryMsg {
        let (r#type, type_code) = type_and_code(self.record_type);
        DnsQueryMsg {
            id: self.id,
            recursion_desired: true,
            size: self.size,
            questions: vec![DnsQuestion { name: self.name.clone(), r#type, type_code, class: self.class }],
            opt_udp_payload_size: self.udp_payload_size,
            ..DnsQueryMsg::default()
        }
    }
}

impl DnsReply {
    pub(in crate::sink) fn export(&self) -> DnsReplyMsg {
        let mut reply = DnsReplyMsg {
            id: self.id,
            authoritative: self.authoritative,
            recursion_available: self.recursion_available,
            truncated: self.truncated,
            size: self.size,
            r_code: self.rcode.map(Into::into),
            answers: self.answers.export(),
            ignored: self.ignored.clone().into_owned(),
            ..DnsReplyMsg::default()
        };
        if let Some(count) = self.answers.original_count() {
            reply.truncated_fields.insert("answers", count.into());
        }
        reply
    }
}

impl DnsRecord {
    /// Returns the heap memory that the record takes.
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        let queries = self.queries.iter().map(|(_, query)| query.name.heap_bytes());
        let replies = self.replies.iter().map(|(_, reply)| {
            let ignored = if let Cow::Owned(text) = &reply.ignored { text.capacity() } else { 0 };
            reply.answers.heap_bytes() + ignored
        });
        #[cfg(feature = "encrypted-dns")]
        let carrier = self.carrier.as_deref().map_or(0, size_of_val);
        #[cfg(not(feature = "encrypted-dns"))]
        let carrier = 0;
        let lists = [
            if self.queries.spilled() { self.queries.capacity() * size_of::<(Tick, DnsQuery)>() } else { 0 },
            if self.replies.spilled() { self.replies.capacity() * size_of::<(Tick, DnsReply)>() } else { 0 },
        ];
        let fault = self.end.as_ref().and_then(|end| end.fault.as_ref()).map_or(0, FailureDetail::heap_bytes);
        queries.chain(replies).chain(lists).sum::<usize>() + fault + carrier
    }

    /// Returns when the last message was sent or came.
    pub(crate) fn latest(&self) -> Option<Tick> {
        let (query, reply) = (self.queries.last().map(|(at, _)| *at), self.replies.last().map(|(at, _)| *at));
        query.max(reply)
    }

    /// Returns which fields of the record are not complete.
    pub(in crate::sink) fn truncated(&self) -> BoxedOrEmpty<TruncatedFields> {
        let mut truncated = BoxedOrEmpty::<TruncatedFields>::new();
        if self.received as usize > self.replies.len() {
            truncated.insert("dnsReplyMsgs", self.received.into());
        }
        truncated
    }
}
