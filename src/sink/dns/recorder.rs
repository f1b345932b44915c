//! [`DnsRecorder`]: records an exchange with a nameserver.

use super::{
    answers::Answers,
    answers_builder::AnswersBuilder,
    record::{DnsQuery, DnsRecord, DnsReply},
};
use crate::{
    error::FailureDetail,
    record::{
        EndReason, Failure,
        limits::{MAX_DNS_IGNORED_ANSWER_BYTES, MAX_DNS_IGNORED_REPLIES, MAX_DNS_REPLY_ANSWER_BYTES},
    },
    sink::{
        clock::Tick,
        conn::recorder::ConnRecorder,
        dial::group::{self, DialGroup},
        record_id::RecordId,
        registry::end::End,
        snapshot::to_record,
        subscriber::{FinishedRecord, RecordKind},
    },
};
use std::{borrow::Cow, sync::Arc};

impl ConnRecorder {
    /// Begins a record of the DNS messages that a resolver exchanges over this connection.
    pub(crate) fn dns(&self) -> DnsRecorder {
        match self.conn_ref() {
            Some(conn) => DnsRecorder::begin(&conn.group, conn.record_id()),
            None => DnsRecorder::off(),
        }
    }
}

/// Records an exchange with a nameserver, which ends when the recorder is dropped.
#[derive(Debug)]
pub(crate) struct DnsRecorder {
    place: Option<(Arc<DialGroup>, usize)>,
    fault: Option<(EndReason, FailureDetail)>,
    ignored: Ignored,
}

/// The counts of replies that are not used.
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

    pub(in crate::sink) fn begin(group: &Arc<DialGroup>, conn: Option<RecordId>) -> Self {
        if !group.core.config.dns {
            return DnsRecorder::off();
        }
        let id = group.core.id_alloc.next_id();
        let (queries, replies) = Default::default();
        let record = DnsRecord {
            id,
            conn,
            #[cfg(feature = "encrypted-dns")]
            carrier: None,
            queries,
            replies,
            received: 0,
            end: None,
        };
        // One for each address family.
        let place = group.begin_record(|state| group::push_reserving(&mut state.dns, 2, record));
        let place = place.map(|index| (group.clone(), index));
        DnsRecorder { place, fault: None, ignored: Ignored::default() }
    }

    /// Returns the group of the record, and its index there.
    #[cfg(feature = "encrypted-dns")]
    pub(in crate::sink) fn place(&self) -> Option<(&Arc<DialGroup>, usize)> {
        self.place.as_ref().map(|(group, index)| (group, *index))
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

    /// Records a message that came just now.
    ///
    /// `ignored` returns why the message is not used, and an empty text if it is. `reply` is given a builder for the
    /// answers; it is not called once the limit of ignored replies is reached.
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
        // Under no lock, because it may take some time.
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

    /// Records that the exchange failed. It ends when the recorder is dropped.
    pub(crate) fn failed(&mut self, reason: EndReason, fault: impl FnOnce() -> FailureDetail) {
        if self.is_on() {
            self.fault = Some((reason, fault()));
        }
    }

    /// Ends an exchange that succeeded.
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
        {
            let mut state = group.state();
            let record = state.dns.get_mut(index).filter(|record| record.end.is_none());
            let Some(record) = record else { return };
            let at = group.core.now().max_some(record.latest());
            record.end = Some(End { at, reason: reason.clone(), fault });
        }
        group.record_ended();
        if !group.core.is_published(RecordKind::DnsQuery, &reason) {
            return;
        }
        let record = group.state().dns.get(index).cloned();
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
