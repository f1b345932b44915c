//! The messages exchanged with a nameserver over one connection.

use super::{
    clock::Tick,
    end::End,
    export,
    group::{self, Group},
    subscriber::FinishedRecord,
};
use crate::{
    error::Fault,
    record::{DnsQueryMsg, DnsReplyMsg, EndReason, Failure},
};
use smallvec::SmallVec;
use std::{borrow::Cow, sync::Arc};

/// Messages are kept as they went over the wire, which is the least that holds them, and taken apart when a trace
/// is made.
#[derive(Clone)]
pub(crate) struct DnsRecord {
    pub(crate) number: u64,
    pub(crate) conn: u64,
    pub(crate) read: &'static ReadDns,
    pub(crate) queries: SmallVec<[SentQuery; 1]>,
    pub(crate) replies: SmallVec<[ReceivedReply; 1]>,
    pub(crate) end: Option<End>,
}

type SentQuery = (Tick, Arc<[u8]>);
/// And why it is not used; empty when it is.
type ReceivedReply = (Tick, Arc<[u8]>, Cow<'static, str>);

/// How the resolver reads its messages.
pub(crate) struct ReadDns {
    pub(crate) query: fn(&[u8]) -> DnsQueryMsg,
    /// The text says why the reply is not used; empty when it is.
    pub(crate) reply: fn(&[u8], &str) -> DnsReplyMsg,
}

impl DnsRecord {
    /// The memory that it takes besides its own place.
    pub(super) fn heap_bytes(&self) -> usize {
        let queries = self.queries.iter().map(|(_, wire)| wire.len());
        let replies = self.replies.iter().map(|(_, wire, ignored)| wire.len() + ignored.len());
        let lists = [
            if self.queries.spilled() { self.queries.capacity() * size_of::<SentQuery>() } else { 0 },
            if self.replies.spilled() { self.replies.capacity() * size_of::<ReceivedReply>() } else { 0 },
        ];
        let counters = 2 * size_of::<usize>() * (self.queries.len() + self.replies.len());
        let fault = self.end.as_ref().and_then(|end| end.fault.as_ref()).map_or(0, Fault::heap_bytes);
        queries.chain(replies).chain(lists).sum::<usize>() + counters + fault
    }

    /// When something was last seen of it.
    pub(crate) fn latest(&self) -> Tick {
        let (query, reply) =
            (self.queries.last().map(|(at, _)| *at), self.replies.last().map(|(at, ..)| *at));
        query.max(reply).unwrap_or_default()
    }
}

/// Lives as long as the exchange; its drop ends it.
#[derive(Debug)]
pub(crate) struct DnsRecorder {
    place: Option<(Arc<Group>, usize)>,
    fault: Option<(EndReason, Fault)>,
}

impl DnsRecorder {
    pub(crate) const fn off() -> Self {
        DnsRecorder { place: None, fault: None }
    }

    pub(super) fn begin(group: &Arc<Group>, conn: u64, read: &'static ReadDns) -> Self {
        if !group.core.settings.dns {
            return DnsRecorder::off();
        }
        let number = group.core.numbers.one();
        let (queries, replies) = Default::default();
        let record = DnsRecord { number, conn, read, queries, replies, end: None };
        // One for each family.
        let place = group.begin(|state| group::add(&mut state.dns, 2, record));
        DnsRecorder { place: place.map(|index| (group.clone(), index)), fault: None }
    }

    fn is_on(&self) -> bool {
        self.place.is_some()
    }

    /// A message was sent just now.
    pub(crate) fn query(&self, wire: &[u8]) {
        self.with(|now, record| record.queries.push((now, wire.into())));
    }

    /// A message came just now. `ignored` says why it is not used; empty when it is.
    pub(crate) fn reply(&self, wire: &[u8], ignored: impl FnOnce() -> Cow<'static, str>) {
        self.with(|now, record| record.replies.push((now, wire.into(), ignored())));
    }

    /// The exchange failed; it ends when the recorder is dropped.
    pub(crate) fn failed(&mut self, reason: EndReason, fault: impl FnOnce() -> Fault) {
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

    fn end(&mut self, reason: EndReason, fault: Option<Fault>) {
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
        group.ended();
        if let Some(record) = record {
            group.core.publish(|times| FinishedRecord::DnsQuery(export::dns(&group, record, times)));
        }
    }
}

impl Drop for DnsRecorder {
    fn drop(&mut self) {
        match self.fault.take() {
            Some((reason, fault)) => self.end(reason, Some(fault)),
            None => {
                let fault = Fault::new(Failure::Interrupted, "the lookup was given up");
                self.end(EndReason::Cancelled, Some(fault));
            }
        }
    }
}
