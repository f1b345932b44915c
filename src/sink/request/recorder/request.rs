//! [`RequestRecorder`]: records a request from its beginning to the end of its response.

use super::request_body::RequestBodyRecorder;
#[cfg(feature = "reqwest")]
use crate::sink::request::handle::RequestHandle;
use crate::{
    error::FailureDetail,
    record::{EndReason, Failure},
    sink::{
        conn::conn_ref::{ConnLink, ConnRef},
        context::RequestScope,
        core::Core,
        request::{
            headers::CapturedHeaders,
            new_request::RequestHead,
            record::{RequestRecord, RequestRef, version_code},
        },
    },
};
#[cfg(feature = "request")]
use crate::{
    error::BodyLengths,
    sink::request::grpc,
};
use http::{HeaderMap, StatusCode, Version};
#[cfg(feature = "request")]
use http::{Method, header};
use std::sync::atomic::Ordering::Relaxed;

/// Records a request. Held by the service's future, and then by the response's body. If it is dropped before the
/// request has ended, the request is recorded as cancelled.
#[derive(Debug, Default)]
pub(crate) struct RequestRecorder {
    request: Option<RequestRef>,
}

impl RequestRecorder {
    pub(crate) fn off() -> Self {
        RequestRecorder { request: None }
    }

    #[inline]
    pub(in crate::sink) fn new(request: RequestRef, head: &RequestHead<'_>) -> Self {
        if let Some(handle) = head.handle {
            handle.bind(request.clone());
        }
        RequestRecorder { request: Some(request) }
    }

    /// Takes the request, to be ended by the caller.
    #[cfg(feature = "reqwest")]
    pub(in crate::sink) fn into_request(mut self) -> Option<RequestRef> {
        self.request.take()
    }

    /// Binds `handle` to the current request, if another has taken the place of the one that it was bound to.
    #[cfg(feature = "reqwest")]
    pub(crate) fn rebind(&self, handle: &RequestHandle) {
        if let Some(request) = &self.request
            && handle.last_hop().is_some_and(|last| last.record_id() != request.record_id())
        {
            handle.bind(request.clone());
        }
    }

    /// Returns when the request began; `None` if it is not recorded.
    #[cfg(feature = "reqwest")]
    pub(crate) fn begin(&self) -> Option<crate::sink::Tick> {
        self.request.as_ref().map(|request| request.record.begin)
    }

    /// Records that the body has this length and is sent in one piece with the head.
    #[cfg(feature = "reqwest")]
    pub(crate) fn body_in_one_piece(&self, bytes: u64) {
        if let Some(request) = &self.request {
            request.body_in_one_piece(bytes);
        }
    }

    /// Records that the head was sent, as there is a response; and with it a body in one piece.
    #[cfg(feature = "reqwest")]
    pub(crate) fn head_sent(&self) {
        if let Some(request) = &self.request {
            request.head_sent();
        }
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.request.is_some()
    }

    #[inline]
    pub(crate) fn request(&self) -> Option<&RequestRef> {
        self.request.as_ref()
    }

    /// Makes this the current request of what is polled until the guard is dropped.
    #[inline]
    pub(crate) fn scope(&mut self) -> RequestScope<'_> {
        RequestScope::enter(&mut self.request)
    }

    /// Returns a recorder for the request's body.
    pub(crate) fn body_recorder(&self) -> RequestBodyRecorder {
        RequestBodyRecorder::new(self.request.clone())
    }

    /// Links the request to the connection that it turned out to have used.
    pub(crate) fn conn(&self, conn: &ConnRef) {
        if let Some(request) = &self.request {
            request.link(conn);
        }
    }

    /// Records that the client has just chosen a connection.
    pub(crate) fn acquired(&self, conn: &ConnRef) {
        if let Some(request) = &self.request {
            request.acquired(conn);
        }
    }

    /// Links the request to the connection that it came over, which it has from the beginning.
    #[cfg(feature = "server")]
    pub(crate) fn received_over(&self, conn: Option<&ConnRef>) {
        let Some(request) = &self.request else { return };
        if let Some(conn) = conn {
            request.link(conn);
        }
        request.record.conn_acquired.set(request.record.begin);
    }

    /// Ends a request that this side answers: the client does not wait for the response any more, or it will not come.
    #[cfg(feature = "server")]
    pub(crate) fn given_up(&mut self) {
        if let Some(request) = self.request.take() {
            request.given_up();
        }
    }

    /// Records that the response's head is complete.
    pub(crate) fn response(&self, status: StatusCode, version: Version, headers: &HeaderMap) {
        let Some((core, record)) = self.open() else { return };
        if version < Version::HTTP_2 {
            let first = record.with_links(|conn, _| conn.and_then(ConnLink::first_byte));
            if let Some(first) = first
                && Some(first) >= record.conn_acquired.get()
            {
                record.first_byte.set(first);
            }
        }
        record.status.store(status.as_u16(), Relaxed);
        record.version.store(version_code(version), Relaxed);
        #[cfg(feature = "request")]
        if version == Version::HTTP_2 && grpc::is_grpc(headers) {
            grpc::note(core, record, headers);
        }
        if let Some(headers) = CapturedHeaders::take(headers, &core.config)
            && let Some(mut links) = record.open_links()
        {
            links.extras_mut().response_headers = headers;
        }
        record.response_head.set(core.now().max(record.begin));
    }

    /// Records the length that is declared for the response's body. `known` is the exact length that the body itself
    /// reports, as the bodies of hyper do. Only for a body that reports none, the header is searched: unless the body
    /// has a `Content-Encoding`, which a layer below may have decoded.
    #[cfg(feature = "request")]
    #[inline]
    pub(crate) fn declares(&self, headers: &HeaderMap, known: Option<u64>) {
        let Some((_, record)) = self.open() else { return };
        let Some(length) = known.or_else(|| length_in_header(record, headers)) else { return };
        record.declared_length.store(length, Relaxed);
    }

    /// Ends the request with its response's body, which reports that `missing` bytes of it did not come.
    #[cfg(feature = "request")]
    #[inline]
    pub(crate) fn ended(&mut self, missing: u64) {
        let is_short = |record: &RequestRecord| missing > 0 || record.only_header_declares.load(Relaxed);
        let record = self.open().map(|(_, record)| record).filter(|record| is_short(record));
        match record.and_then(|record| incomplete(record, missing)) {
            Some(lengths) => self.failed(FailureDetail::new(Failure::EofError, lengths.to_string())),
            None => self.complete(),
        }
    }

    /// Records that the request goes over HTTP/2, unless a response has told the version.
    #[cfg(feature = "request")]
    pub(crate) fn set_http2(&self) {
        if let Some(request) = &self.request {
            request.set_http2();
        }
    }

    /// Keeps the request of a redirect open beyond the end of its response, until the client releases it, reports its
    /// failure or drops it. See [`hold_redirects`](crate::request::TraceRequestLayer::hold_redirects).
    #[cfg(feature = "request")]
    pub(crate) fn hold(&self) {
        if let Some((_, record)) = self.open() {
            record.hold();
        }
    }

    /// Records that this many bytes of the response's body were handed to its reader.
    pub(crate) fn received(&self, bytes: u64) {
        if let Some((_, record)) = self.open() {
            let received = &record.received;
            received.store(received.load(Relaxed) + bytes, Relaxed); // nobody else writes it
        }
    }

    pub(crate) fn trailers(&self, trailers: &HeaderMap) {
        let Some((core, record)) = self.open() else { return };
        #[cfg(feature = "request")]
        grpc::note(core, record, trailers);
        if let Some(trailers) = CapturedHeaders::take(trailers, &core.config)
            && let Some(mut links) = record.open_links()
        {
            links.extras_mut().trailers = trailers;
        }
    }

    /// Records that the response came to its end. If it is decoded, the reader of the decoded body ends the request.
    pub(crate) fn complete(&mut self) {
        // A request that is held ends when this recorder is dropped, at the latest.
        let Some(request) = self.request.take_if(|request| !request.record.is_held()) else {
            self.request.iter().for_each(complete);
            return;
        };
        complete(&request);
    }

    /// Records that the response's body is read where it is not recorded. If it is decoded, the reader of the decoded
    /// body ends the request.
    #[cfg(feature = "request")]
    pub(crate) fn finish_unobserved(&mut self) {
        if let Some(request) = self.request.take().filter(|request| request.record.decoded.load(Relaxed) == 0)
        {
            request.end(EndReason::Unobserved, None);
        }
    }

    /// Ends the request as failed.
    pub(crate) fn failed(&mut self, fault: FailureDetail) {
        if let Some(request) = self.request.take() {
            request.failed(fault);
        }
    }

    /// Returns the record, unless the request has ended.
    #[inline]
    fn open(&self) -> Option<(&Core, &RequestRecord)> {
        let request = self.request.as_ref()?;
        let record: &RequestRecord = &request.record;
        record.end.is_open().then_some((request.core(), record))
    }
}

impl Drop for RequestRecorder {
    #[inline]
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            request.dropped();
        }
    }
}

/// Records that the response came to its end. If it is decoded, the request ends with the decoded body.
fn complete(request: &RequestRef) {
    let (core, record): (_, &RequestRecord) = (request.core(), &request.record);
    if record.decoded.load(Relaxed) == 0 {
        request.complete();
    } else if request.is_open() {
        record.response_end.set(core.now().max(record.begin));
    }
}

#[cfg(feature = "request")]
#[cold]
fn length_in_header(record: &RequestRecord, headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    if headers.contains_key(header::CONTENT_ENCODING) {
        return None;
    }
    record.only_header_declares.store(true, Relaxed);
    Some(length)
}

/// Returns how many bytes of the response's body came, if they are fewer than its header declares.
///
/// The header takes precedence over `missing`, because a body may report its whole length even after it was read.
/// Without a declared length, the body is trusted.
#[cfg(feature = "request")]
#[cold]
fn incomplete(record: &RequestRecord, missing: u64) -> Option<BodyLengths> {
    let status = record.status.load(Relaxed);
    // These declare the length of what would have been sent, or of what this side has (RFC 9110 section 8.6).
    if record.method == Method::HEAD || matches!(status, 100..200 | 204 | 304) {
        return None;
    }
    let received = record.received.load(Relaxed);
    let declared = match record.declared_length.load(Relaxed) {
        0 => received.saturating_add(missing),
        length => length,
    };
    let lengths = BodyLengths { received, declared };
    (received < declared).then_some(lengths)
}
