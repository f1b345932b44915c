//! Redirects that somebody else follows, and says so when he does.

use super::record::{RequestHead, RequestRef};
use crate::{
    record::EndReason,
    sink::{RequestHandle, TraceSink, context},
};
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use std::sync::atomic::Ordering::Relaxed;

impl TraceSink {
    /// The response to the request in whose poll we are, if it is one of this sink's, leads to another request, which
    /// takes its place. Of its header fields nothing is known.
    pub(crate) fn redirected(&self, status: StatusCode, to: &Uri) {
        let Some(inner) = self.0.as_ref().filter(|_| self.records_requests()) else { return };
        context::replace(|request| {
            if !request.is_of(&inner.core) || !request.is_open() {
                return None;
            }
            request.went_out();
            request.answered_with(status);
            let record = &request.record;
            let method = next_method(status, &record.method);
            let head = RequestHead {
                method: &method,
                uri: to,
                version: Version::HTTP_11,
                headers: &HeaderMap::new(),
                handle: Some(&RequestHandle::of(request).into_slot()),
                has_body: record.has_body && status != StatusCode::SEE_OTHER && method == record.method,
                accepted: false,
            };
            let next = inner.request(&head).into_request();
            if let Some(next) = &next {
                next.record.version.store(record.version.load(Relaxed), Relaxed);
                next.in_one_piece(if head.has_body { request.piece() } else { 0 });
            }
            request.end(EndReason::Closed, None);
            next
        });
    }
}

impl RequestRef {
    pub(in crate::sink) fn in_one_piece(&self, bytes: u64) {
        if bytes > 0
            && let Some(mut links) = self.record.open_links()
        {
            links.rare().piece = bytes;
        }
    }

    fn piece(&self) -> u64 {
        self.record.links().and_then(|links| Some(links.rare.as_ref()?.piece)).unwrap_or_default()
    }

    pub(in crate::sink) fn went_out(&self) {
        if let bytes @ 1.. = self.piece()
            && self.is_open()
        {
            self.record.sent.store(bytes, Relaxed);
        }
    }

    fn answered_with(&self, status: StatusCode) {
        self.record.status.store(status.as_u16(), Relaxed);
        self.record.response_head.set(self.core().now().max(self.record.begin));
    }
}

/// As tower-http has it, whose service reqwest follows redirects with.
fn next_method(status: StatusCode, method: &Method) -> Method {
    match status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND if *method == Method::POST => Method::GET,
        StatusCode::SEE_OTHER if *method != Method::HEAD => Method::GET,
        _ => method.clone(),
    }
}
