//! [`PendingRequest`]: links a request to the connection that takes it from a queue.
//!
//! A call waits in the queue of tonic's channel. The task of a connection takes it from there and polls its body, while
//! no request is the current one. So the body carries the request.

use crate::sink::{conn::conn_ref::ConnRef, dial::recorder::DialRef, request::record::RequestRef};

/// A request whose connection becomes known only when the connection takes it.
#[derive(Debug)]
pub(crate) struct PendingRequest(pub(super) RequestRef);

impl PendingRequest {
    /// Records that the connection takes the request now.
    pub(crate) fn taken_by(&self, conn: &ConnRef) {
        self.0.acquired(conn);
    }

    /// Records that the request was queued for the connection, which never took it.
    pub(crate) fn queued_on(&self, conn: &ConnRef) {
        self.0.link(conn);
    }

    /// Attributes the dial to the request, if the request was waiting when it began.
    pub(crate) fn served_by(&self, dial: &DialRef) {
        if let Some(group) = &dial.0
            && self.0.is_open()
            && self.0.is_of(&group.core)
            && group.attribute_to(self.0.record_id(), self.0.record.begin)
        {
            self.0.caused_dial(group);
        }
    }
}
