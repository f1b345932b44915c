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
use std::sync::Arc;

#[derive(Clone)]
pub(crate) struct DnsRecord {
    pub(crate) number: u64,
    pub(crate) conn: u64,
    pub(crate) queries: Vec<(Tick, DnsQueryMsg)>,
    pub(crate) replies: Vec<(Tick, DnsReplyMsg)>,
    pub(crate) end: Option<End>,
}

impl DnsRecord {
    /// When something was last seen of it.
    pub(crate) fn latest(&self) -> Tick {
        let (query, reply) = (self.queries.last().map(|(at, _)| *at), self.replies.last().map(|(at, _)| *at));
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

    pub(super) fn begin(group: &Arc<Group>, conn: u64) -> Self {
        if !group.core.settings.dns {
            return DnsRecorder::off();
        }
        let number = group.core.numbers.one();
        let record = DnsRecord { number, conn, queries: vec![], replies: vec![], end: None };
        // One for each family.
        let place = group.begin(|state| group::add(&mut state.dns, 2, record));
        DnsRecorder { place: place.map(|index| (group.clone(), index)), fault: None }
    }

    /// Whether messages need be described at all.
    pub(crate) fn is_on(&self) -> bool {
        self.place.is_some()
    }

    /// A message was sent just now.
    pub(crate) fn query(&self, message: DnsQueryMsg) {
        self.with(|now, record| record.queries.push((now, message)));
    }

    /// A message came just now.
    pub(crate) fn reply(&self, message: DnsReplyMsg) {
        self.with(|now, record| record.replies.push((now, message)));
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
