//! [`DecodedBodyRecorder`]: records the body of a response that is decoded.

use super::{handle::RequestHandle, record::RequestRef, recorder::dropped};
use crate::error::FailureDetail;
use std::sync::atomic::Ordering::Relaxed;

/// Records the decoded body of a response: the request ends with it, not with the body that is decoded.
#[derive(Debug)]
pub(crate) struct DecodedBodyRecorder {
    request: Option<RequestRef>,
    bytes: u64,
}

impl DecodedBodyRecorder {
    pub(crate) fn begin(handle: Option<&RequestHandle>) -> Self {
        let request = handle.and_then(RequestHandle::last_hop).filter(RequestRef::is_open);
        if let Some(request) = &request {
            request.record.decoded.store(1, Relaxed);
        }
        DecodedBodyRecorder { request, bytes: 0 }
    }

    /// Records that this many more bytes were handed to the reader.
    pub(crate) fn received(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(request) = self.request.as_ref().filter(|request| request.is_open()) {
            request.record.decoded.store(self.bytes + 1, Relaxed);
        }
    }

    /// Records that the whole body was read.
    pub(crate) fn complete(&mut self) {
        if let Some(request) = self.request.take() {
            request.complete();
        }
    }

    /// Records that the body could not be read, or not be decoded.
    pub(crate) fn failed(&mut self, fault: FailureDetail) {
        if let Some(request) = self.request.take() {
            request.failed(fault);
        }
    }
}

impl Drop for DecodedBodyRecorder {
    fn drop(&mut self) {
        self.request.iter().for_each(dropped);
    }
}
