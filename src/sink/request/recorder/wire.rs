//! Records requests that are seen on a connection, where no layer around a client or a server sees them.

use super::{RequestRecorder, begin_request};
use crate::sink::{
    clock::Tick, conn::conn_ref::ConnRef, request::new_request::RequestHead, trace_sink::TraceSink,
};
use http::StatusCode;
use std::{sync::atomic::Ordering::Relaxed, time::Duration};

impl TraceSink {
    /// Begins a request that was read from the bytes of a connection.
    pub(crate) fn request_on_wire(&self, head: &RequestHead<'_>, conn: &ConnRef) -> RequestRecorder {
        let Some(records) = self.active().filter(|records| records.core.config.http) else {
            return RequestRecorder::off();
        };
        let recorder = begin_request(records, head);
        if let Some(request) = recorder.request() {
            request.link_to(conn);
            request.record.conn_acquired.set(request.record.begin);
        }
        recorder
    }
}

impl RequestRecorder {
    /// Records how many bytes of the request's body have passed in all.
    pub(crate) fn set_sent(&self, bytes: u64) {
        if let Some((_, record)) = self.open() {
            record.sent.store(bytes, Relaxed);
        }
    }

    /// Records that the last byte of the request passed at `at`.
    pub(crate) fn request_end(&self, at: Tick) {
        if let Some((_, record)) = self.open() {
            record.body_end.set(at);
        }
    }

    /// Records that the first byte of the response passed at `at`.
    pub(crate) fn first_byte(&self, at: Tick) {
        if let Some((_, record)) = self.open()
            && record.first_byte.get().is_none()
        {
            record.first_byte.set(at);
        }
    }

    /// Records for how long in all the request's body waited for a window of HTTP/2.
    pub(crate) fn window_wait(&self, waited: Duration) {
        if let Some((_, record)) = self.open()
            && let Some(mut links) = record.open_links()
        {
            links.extras_mut().window_wait = waited;
        }
    }

    /// Records that a 1xx response came.
    pub(crate) fn informational(&self, status: StatusCode) {
        if let Some(request) = &self.request {
            request.informational(status);
        }
    }
}
