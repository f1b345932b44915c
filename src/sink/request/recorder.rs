//! [`RequestRecorder`]: records a request, and the response to it.
//!
//! This file has the methods that CONNECT requests need, too. Those for layers are in [`layer`], those for clients of
//! other crates in [`foreign`], and those for requests that are read from a connection in [`wire`].

#[cfg(feature = "request")]
use super::grpc;
use super::{
    headers::CapturedHeaders,
    new_request::{NewRequest, RequestHead},
    record::{RequestRecord, RequestRef, version_code},
};
#[cfg(feature = "proxy")]
use crate::sink::conn::conn_ref::ConnRef;
use crate::{
    error::FailureDetail,
    record::{EndReason, Failure},
    sink::{conn::conn_ref::ConnLink, core::Core, retention::RetainedRecords, trace_sink::TraceSink},
};
use http::{HeaderMap, StatusCode, Version};
use std::sync::atomic::Ordering::Relaxed;

#[cfg(feature = "reqwest")]
mod foreign;
#[cfg(feature = "request")]
mod layer;
#[cfg(feature = "wire")]
mod wire;

impl TraceSink {
    /// Returns `true` if a request that begins now is recorded.
    #[cfg(feature = "request")]
    #[inline]
    pub(crate) fn records_requests(&self) -> bool {
        self.active().is_some_and(|records| records.core.config.http)
    }

    /// Begins a request that was handed to a client, or came to a server.
    #[inline]
    pub(crate) fn request(&self, head: &RequestHead<'_>) -> RequestRecorder {
        match self.active() {
            Some(records) if records.core.config.http => begin_request(records, head),
            _ => RequestRecorder::off(),
        }
    }

    /// Begins a CONNECT request, sent to a proxy on the connection to it.
    #[cfg(feature = "proxy")]
    pub(crate) fn connect(&self, head: &RequestHead<'_>, conn: Option<&ConnRef>) -> RequestRecorder {
        let recorder = self.request(head);
        if let (Some(request), Some(conn)) = (recorder.request(), conn) {
            request.connects(conn);
        }
        recorder
    }
}

fn begin_request(records: &RetainedRecords, head: &RequestHead<'_>) -> RequestRecorder {
    let new = NewRequest::new(&records.core, head);
    let request = records.add_request(|| new.into_record(head));
    if records.core.is_closed() {
        // `TraceSink::close` may have run since the caller checked, without having seen this request.
        request.end(EndReason::SinkClosed, None);
        return RequestRecorder::off();
    }
    RequestRecorder::new(request, head)
}

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

    #[inline]
    pub(crate) fn request(&self) -> Option<&RequestRef> {
        self.request.as_ref()
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

    /// Records that the response came to its end. If it is decoded, the reader of the decoded body ends the request.
    pub(crate) fn complete(&mut self) {
        // A request that is held ends when this recorder is dropped, at the latest.
        let Some(request) = self.request.take_if(|request| !request.record.is_held()) else {
            self.request.iter().for_each(complete);
            return;
        };
        complete(&request);
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
            dropped(&request);
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

#[cold]
pub(super) fn dropped(request: &RequestRef) {
    request.release();
    request
        .end(EndReason::Cancelled, Some(FailureDetail::new(Failure::Interrupted, "the request was dropped")));
}
