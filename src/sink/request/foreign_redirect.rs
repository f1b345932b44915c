//! Redirects that another crate's client follows, and reports when it does.

use super::{handle::RequestHandle, new_request::RequestHead, record::RequestRef};
use crate::{
    record::EndReason,
    sink::{context, trace_sink::TraceSink},
};
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use std::sync::atomic::Ordering::Relaxed;

impl TraceSink {
    /// Records that the response to the current request, if it belongs to this sink, redirects to `to`: another request
    /// begins and becomes the current one. Its header fields are not known.
    pub(crate) fn record_foreign_redirect(&self, status: StatusCode, to: &Uri) {
        let Some(core) = self.core().filter(|_| self.records_requests()) else { return };
        context::replace_request(|request| {
            if !request.is_of(core) || !request.is_open() {
                return None;
            }
            request.head_sent();
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
                wire: None,
            };
            let next = self.request(&head).into_request();
            if let Some(next) = &next {
                next.record.version.store(record.version.load(Relaxed), Relaxed);
                next.body_in_one_piece(if head.has_body { request.single_piece_bytes() } else { 0 });
            }
            request.end(EndReason::Closed, None);
            next
        });
    }
}

impl RequestRef {
    pub(in crate::sink) fn body_in_one_piece(&self, bytes: u64) {
        if bytes > 0
            && let Some(mut links) = self.record.open_links()
        {
            links.extras_mut().single_piece_bytes = bytes;
        }
    }

    fn single_piece_bytes(&self) -> u64 {
        self.record
            .links()
            .and_then(|links| Some(links.extras.as_ref()?.single_piece_bytes))
            .unwrap_or_default()
    }

    pub(in crate::sink) fn head_sent(&self) {
        if let bytes @ 1.. = self.single_piece_bytes()
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

/// Returns the method of the request that follows, as tower-http decides it: reqwest follows redirects with its
/// service.
fn next_method(status: StatusCode, method: &Method) -> Method {
    match status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND if *method == Method::POST => Method::GET,
        StatusCode::SEE_OTHER if *method != Method::HEAD => Method::GET,
        _ => method.clone(),
    }
}
