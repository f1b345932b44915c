//! [`RequestBodyRecorder`]: records the body of a request.

use super::record::RequestRef;
#[cfg(feature = "tonic")]
use crate::sink::{conn::conn_ref::ConnRef, dial::recorder::DialRef};
use std::sync::atomic::Ordering::Relaxed;

/// Records the body of a request: counts what the client takes of it.
#[derive(Debug)]
pub(crate) struct RequestBodyRecorder {
    request: Option<RequestRef>,
    bytes: u64,
}

impl RequestBodyRecorder {
    pub(super) fn new(request: Option<RequestRef>) -> Self {
        RequestBodyRecorder { request, bytes: 0 }
    }

    /// Returns the request, for a layer below that sees which connection takes it.
    #[cfg(feature = "tonic")]
    pub(crate) fn pending_request(&self) -> Option<PendingRequest> {
        self.request.clone().map(PendingRequest)
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(request) = self.request.as_ref().filter(|request| request.is_open()) {
            request.record.sent.store(self.bytes, Relaxed);
        }
    }

    /// Records that nothing more will be sent.
    pub(crate) fn complete(&mut self) {
        if let Some(request) = self.request.take().filter(RequestRef::is_open) {
            request.record.body_end.set(request.core().now().max(request.record.begin));
        }
    }
}

/// A request whose connection becomes known only when the connection takes it.
#[cfg(feature = "tonic")]
#[derive(Debug)]
pub(crate) struct PendingRequest(RequestRef);

#[cfg(feature = "tonic")]
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
