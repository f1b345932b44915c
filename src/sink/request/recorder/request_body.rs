//! [`RequestBodyRecorder`]: records how much of a request's body was sent.

#[cfg(feature = "tonic")]
use super::pending_request::PendingRequest;
use crate::sink::request::record::RequestRef;
use std::sync::atomic::Ordering::Relaxed;

/// Records the body of a request: counts what the client takes of it.
#[derive(Debug)]
pub(crate) struct RequestBodyRecorder {
    request: Option<RequestRef>,
    bytes: u64,
}

impl RequestBodyRecorder {
    /// Creates a recorder of a body of which nothing was sent; `None` if the request is not recorded.
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
