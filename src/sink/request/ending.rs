//! Ends requests. Each request ends once, and is then handed to the subscribers.

use super::{
    extras::Tried,
    record::{FirstConn, RequestRecord, RequestRef},
};
use crate::{
    error::FailureDetail,
    record::EndReason,
    sink::{
        clock::Tick,
        snapshot::to_record,
        subscriber::{FinishedRecord, RecordKind},
    },
};

impl RequestRef {
    /// Ends the request. Returns `true` for the call that ended it.
    pub(crate) fn end(&self, reason: EndReason, fault: Option<FailureDetail>) -> bool {
        self.is_open() && self.end_at(self.core().now(), reason, fault)
    }

    pub(super) fn end_at(&self, now: Tick, reason: EndReason, fault: Option<FailureDetail>) -> bool {
        let (core, record): (_, &RequestRecord) = (self.core(), &self.record);
        let now = now.max(record.latest());
        let Some(ending) = record.end.begin_end() else { return false };
        let has_conn = !matches!(record.conn.get_or_init(|| FirstConn::Never), FirstConn::Never);
        if ending.has_links() {
            let mut links = record.lock();
            links.dials().for_each(|dial| dial.close_ctx(now));
            if let Some(extras) = &mut links.extras {
                extras.stale = extras.tried.iter().map(Tried::failure).collect();
            }
            // With a response the request had a connection, whether it is known or not.
            let had_conn = has_conn || record.response_head.get().is_some();
            let own_dial = links.dial.as_ref().filter(|_| !had_conn);
            if let Some(path) = own_dial.map(|dial| dial.path()).filter(|path| path.conn.is_some()) {
                links.extras_mut().path = path;
            }
            core.budget.charge(record.charge(Some(&links), fault.as_ref()));
        } else {
            core.budget.charge(record.charge(None, fault.as_ref()));
        }
        ending.finish(now, &reason, fault);
        if core.is_published(RecordKind::HttpRequest, &reason) {
            core.publish(|times| FinishedRecord::HttpRequest(to_record::request(self, times)));
        }
        true
    }
}
