//! Records requests, as the layers around clients and servers report them.

use super::RequestRecorder;
use crate::{
    error::{BodyLengths, FailureDetail},
    record::{EndReason, Failure},
    sink::{
        conn::conn_ref::ConnRef,
        context::{self, RequestScope},
        request::{
            body_recorder::RequestBodyRecorder, grpc, headers::CapturedHeaders, record::RequestRecord,
        },
    },
};
use http::{HeaderMap, Method, header};
use std::sync::atomic::Ordering::Relaxed;

impl RequestRecorder {
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.request.is_some()
    }

    /// Makes this the current request of what is polled until the guard is dropped.
    #[inline]
    pub(crate) fn scope(&mut self) -> RequestScope<'_> {
        RequestScope::enter(&mut self.request)
    }

    /// Makes this the request that is being answered while the guard exists, for the requests that are made meanwhile.
    #[cfg(feature = "server")]
    #[inline]
    pub(crate) fn served_scope(&mut self) -> RequestScope<'_> {
        RequestScope::enter_served(&mut self.request)
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

    /// Records the length that is declared for the response's body. `known` is the exact length that the body itself
    /// reports, as the bodies of hyper do. Only for a body that reports none, the header is searched: unless the body
    /// has a `Content-Encoding`, which a layer below may have decoded.
    #[inline]
    pub(crate) fn declares(&self, headers: &HeaderMap, known: Option<u64>) {
        let Some((_, record)) = self.open() else { return };
        let Some(length) = known.or_else(|| length_in_header(record, headers)) else { return };
        record.declared_length.store(length, Relaxed);
    }

    /// Ends the request with its response's body, which reports that `missing` bytes of it did not come.
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
    pub(crate) fn set_http2(&self) {
        if let Some(request) = &self.request {
            request.set_http2();
        }
    }

    /// Keeps the request of a redirect open beyond the end of its response, until the client releases it, reports its
    /// failure or drops it. See [`hold_redirects`](crate::request::TraceRequestLayer::hold_redirects).
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
        grpc::note(core, record, trailers);
        if let Some(trailers) = CapturedHeaders::take(trailers, &core.config)
            && let Some(mut links) = record.open_links()
        {
            links.extras_mut().trailers = trailers;
        }
    }

    /// Records that the response's body is read where it is not recorded. If it is decoded, the reader of the decoded
    /// body ends the request.
    pub(crate) fn finish_unobserved(&mut self) {
        if let Some(request) = self.request.take().filter(|request| request.record.decoded.load(Relaxed) == 0)
        {
            request.end(EndReason::Unobserved, None);
        }
    }
}

impl ConnRef {
    /// Records that the current request was just given this connection.
    #[inline]
    pub(crate) fn acquired_by_current_request(&self) {
        context::with_current_request(|request| request.acquired(self));
    }
}

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
