//! The messages exchanged with a nameserver over one connection.

use super::{clock::Tick, end::EndCell, export, group::Group, subscriber::FinishedRecord};
use crate::{
    error::Fault,
    record::{DnsQueryMsg, DnsReplyMsg, EndReason, Failure},
};
use std::sync::Arc;

pub(crate) struct DnsRecord {
    pub(crate) number: u64,
    pub(crate) conn: u64,
    pub(crate) queries: Vec<(Tick, DnsQueryMsg)>,
    pub(crate) replies: Vec<(Tick, DnsReplyMsg)>,
    pub(crate) end: EndCell,
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
        group.begun();
        let number = group.core.numbers.one();
        let mut state = group.state();
        state.dns.push(DnsRecord { number, conn, queries: vec![], replies: vec![], end: EndCell::default() });
        DnsRecorder { place: Some((group.clone(), state.dns.len() - 1)), fault: None }
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
    pub(crate) fn failed(&mut self, reason: EndReason, failure: Failure, text: &str) {
        self.fault = Some((reason, Fault::new(failure, text)));
    }

    /// The exchange is over, well.
    pub(crate) fn done(mut self) {
        self.end(EndReason::Closed, None);
    }

    fn with(&self, f: impl FnOnce(Tick, &mut DnsRecord)) {
        let Some((group, index)) = &self.place else { return };
        let now = group.core.now();
        if let Some(record) = group.state().dns.get_mut(*index).filter(|record| record.end.is_open()) {
            f(now, record);
        }
    }

    fn end(&mut self, reason: EndReason, fault: Option<Fault>) {
        let Some((group, index)) = self.place.take() else { return };
        let now = group.core.now();
        let ended = group.state().dns.get(index).is_some_and(|record| record.end.end(now, reason, fault));
        if ended {
            group.ended();
            group.core.publish(|| {
                let times = group.core.timeline();
                let state = group.state();
                state
                    .dns
                    .get(index)
                    .map(|record| FinishedRecord::DnsQuery(export::dns(&group, record, &times)))
            });
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
