//! Records requests of clients of other crates.

use super::RequestRecorder;
use crate::sink::{
    clock::Tick,
    request::{handle::RequestHandle, record::RequestRef},
};

impl RequestRecorder {
    /// Takes the request, to be ended by the caller.
    pub(in crate::sink) fn into_request(mut self) -> Option<RequestRef> {
        self.request.take()
    }

    /// Binds `handle` to the current request, if another has taken the place of the one that it was bound to.
    pub(crate) fn rebind(&self, handle: &RequestHandle) {
        if let Some(request) = &self.request
            && handle.last_hop().is_some_and(|last| last.record_id() != request.record_id())
        {
            handle.bind(request.clone());
        }
    }

    /// Returns when the request began; `None` if it is not recorded.
    pub(crate) fn begin(&self) -> Option<Tick> {
        self.request.as_ref().map(|request| request.record.begin)
    }

    /// Records that the body has this length and is sent in one piece with the head.
    pub(crate) fn body_in_one_piece(&self, bytes: u64) {
        if let Some(request) = &self.request {
            request.body_in_one_piece(bytes);
        }
    }

    /// Records that the head was sent, as there is a response; and with it a body in one piece.
    pub(crate) fn head_sent(&self) {
        if let Some(request) = &self.request {
            request.head_sent();
        }
    }
}
