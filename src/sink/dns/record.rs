//! The messages exchanged with a nameserver over one connection.
//!
//! A message is read once, when it is recorded, and kept as little more than the text that a trace shows of it. What is
//! kept of a reply, and of all replies that were not used, is limited.

use super::answers::{Answers, AnswersBuilder};
use crate::{
    error::FailureDetail,
    record::{
        BoxedOrEmpty, DnsQueryMsg, DnsQuestion, DnsReplyMsg, EndReason, Failure, Text, TruncatedFields,
        limits::{MAX_DNS_IGNORED_ANSWER_BYTES, MAX_DNS_IGNORED_REPLIES, MAX_DNS_REPLY_ANSWER_BYTES},
    },
    sink::{
        clock::Tick,
        dial::group::{self, DialGroup},
        registry::end::End,
        snapshot::to_record,
        subscriber::FinishedRecord,
    },
};
use smallvec::SmallVec;
use std::{borrow::Cow, sync::Arc};

#[derive(Clone)]
pub(crate) struct DnsRecord {
    pub(crate) number: u64,
    pub(crate) conn: u64,
    pub(crate) queries: SmallVec<[(Tick, DnsQuery); 1]>,
    pub(crate) replies: SmallVec<[(Tick, DnsReply); 1]>,
    /// Replies that came, those included that are not kept.
    received: u32,
    pub(crate) end: Option<End>,
}

/// A query that was sent. All ask for recursion, and one question.
#[derive(Clone, Debug, Default)]
pub(crate) struct DnsQuery {
    pub(crate) id: u16,
    pub(crate) record_type: u16,
    pub(crate) class: u16,
    /// 0 without EDNS.
    pub(crate) udp_payload_size: u16,
    /// Bytes of the message.
    pub(crate) size: u32,
    /// The name in question.
    pub(crate) name: Text,
}

/// A reply that came.
#[derive(Clone, Debug, Default)]
pub(crate) struct DnsReply {
    pub(crate) id: u16,
    /// `None` if the message ended before it said so.
    pub(crate) rcode: Option<u16>,
    /// Bytes of the message.
    pub(crate) size: u32,
    pub(crate) authoritative: bool,
    pub(crate) recursion_available: bool,
    pub(crate) truncated: bool,
    pub(crate) answers: Answers,
    /// Why it is not used; empty when it is.
    pub(crate) ignored: Cow<'static, str>,
}

impl DnsQuery {
    pub(in crate::sink) fn export(&self) -> DnsQueryMsg {
        DnsQueryMsg {
            id: self.id,
            recursion_desired: true,
            size: self.size,
            questions: vec![DnsQuestion {
                name: self.name.clone(),
                r#type: self.record_type.into(),
                class: self.class,
            }],
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
    /// The memory that it takes besides its own place.
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        let queries = self.queries.iter().map(|(_, query)| query.name.heap_bytes());
        let replies = self.replies.iter().map(|(_, reply)| {
            let ignored = if let Cow::Owned(text) = &reply.ignored { text.capacity() } else { 0 };
            reply.answers.heap_bytes() + ignored
        });
        let lists = [
            if self.queries.spilled() { self.queries.capacity() * size_of::<(Tick, DnsQuery)>() } else { 0 },
            if self.replies.spilled() { self.replies.capacity() * size_of::<(Tick, DnsReply)>() } else { 0 },
        ];
        let fault = self.end.as_ref().and_then(|end| end.fault.as_ref()).map_or(0, FailureDetail::heap_bytes);
        queries.chain(replies).chain(lists).sum::<usize>() + fault
    }

    /// When something was last seen of it.
    pub(crate) fn latest(&self) -> Tick {
        let (query, reply) = (self.queries.last().map(|(at, _)| *at), self.replies.last().map(|(at, _)| *at));
        query.max(reply).unwrap_or_default()
    }

    /// Returns what was cut.
    pub(in crate::sink) fn truncated(&self) -> BoxedOrEmpty<TruncatedFields> {
        let mut truncated = BoxedOrEmpty::<TruncatedFields>::new();
        if self.received as usize > self.replies.len() {
            truncated.insert("dnsReplyMsgs", self.received.into());
        }
        truncated
    }
}

/// Lives as long as the exchange; its drop ends it.
#[derive(Debug)]
pub(crate) struct DnsRecorder {
    place: Option<(Arc<DialGroup>, usize)>,
    fault: Option<(EndReason, FailureDetail)>,
    ignored: Ignored,
}

/// What is kept of replies that are not used.
#[derive(Debug, Default)]
struct Ignored {
    replies: usize,
    /// Bytes of text in their answers.
    text_bytes: usize,
}

impl DnsRecorder {
    pub(crate) const fn off() -> Self {
        DnsRecorder { place: None, fault: None, ignored: Ignored { replies: 0, text_bytes: 0 } }
    }

    pub(in crate::sink) fn begin(group: &Arc<DialGroup>, conn: u64) -> Self {
        if !group.core.config.dns {
            return DnsRecorder::off();
        }
        let number = group.core.id_alloc.next_id();
        let (queries, replies) = Default::default();
        let record = DnsRecord { number, conn, queries, replies, received: 0, end: None };
        // One for each family.
        let place = group.begin_record(|state| group::push_reserving(&mut state.dns, 2, record));
        let place = place.map(|index| (group.clone(), index));
        DnsRecorder { place, fault: None, ignored: Ignored::default() }
    }

    fn is_on(&self) -> bool {
        self.place.is_some()
    }

    /// Records a message that was sent just now.
    pub(crate) fn query(&self, query: impl FnOnce() -> DnsQuery) {
        if self.is_on() {
            let query = query();
            self.with(|now, record| record.queries.push((now, query)));
        }
    }

    /// Records a message that came just now. `ignored` says why it is not used, and is empty when it is. `reply` is
    /// given a builder for the answers, unless as many were kept as may be.
    pub(crate) fn reply(
        &mut self,
        ignored: impl FnOnce() -> Cow<'static, str>,
        reply: impl FnOnce(AnswersBuilder, Cow<'static, str>) -> DnsReply,
    ) {
        if !self.is_on() {
            return;
        }
        let ignored = ignored();
        let is_ignored = !ignored.is_empty();
        if is_ignored && self.ignored.replies == MAX_DNS_IGNORED_REPLIES {
            self.with(|_, record| record.received = record.received.saturating_add(1));
            return;
        }
        let max_text_bytes = if is_ignored {
            MAX_DNS_IGNORED_ANSWER_BYTES - self.ignored.text_bytes
        } else {
            MAX_DNS_REPLY_ANSWER_BYTES
        };
        // Under no lock: it may take some time.
        let reply = reply(Answers::builder(max_text_bytes), ignored);
        if is_ignored {
            self.ignored.replies += 1;
            self.ignored.text_bytes += reply.answers.text_bytes();
        }
        self.with(|now, record| {
            record.received = record.received.saturating_add(1);
            record.replies.push((now, reply));
        });
    }

    /// The exchange failed; it ends when the recorder is dropped.
    pub(crate) fn failed(&mut self, reason: EndReason, fault: impl FnOnce() -> FailureDetail) {
        if self.is_on() {
            self.fault = Some((reason, fault()));
        }
    }

    /// The exchange is over, well.
    pub(crate) fn done(mut self) {
        self.end(EndReason::Closed, None);
    }

    fn with(&self, f: impl FnOnce(Tick, &mut DnsRecord)) {
        let Some((group, index)) = &self.place else { return };
        if let Some(record) = group.state().dns.get_mut(*index).filter(|record| record.end.is_none()) {
            f(group.core.now(), record);
        }
    }

    fn end(&mut self, reason: EndReason, fault: Option<FailureDetail>) {
        let Some((group, index)) = self.place.take() else { return };
        let ended = {
            let mut state = group.state();
            let record = state.dns.get_mut(index).filter(|record| record.end.is_none());
            record.map(|record| {
                let at = group.core.now().max(record.latest());
                record.end = Some(End { at, reason, fault });
                group.core.has_subscribers().then(|| record.clone())
            })
        };
        let Some(record) = ended else { return };
        group.record_ended();
        if let Some(record) = record {
            group.core.publish(|times| FinishedRecord::DnsQuery(to_record::dns(&group, record, times)));
        }
    }
}

impl Drop for DnsRecorder {
    fn drop(&mut self) {
        match self.fault.take() {
            Some((reason, fault)) => self.end(reason, Some(fault)),
            None => {
                let fault = FailureDetail::new(Failure::Interrupted, "the lookup was given up");
                self.end(EndReason::Cancelled, Some(fault));
            }
        }
    }
}
