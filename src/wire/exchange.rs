//! [`Exchange`]: records a request and its response, as the readers of both HTTP versions report them.

use super::context::{Side, WireContext};
use crate::{
    error::{BodyLengths, FailureDetail},
    record::Failure,
    sink::{OnWire, RequestHead, RequestRecorder, Tick},
};
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use std::time::Duration;

/// A request that passed over a connection, and what has passed of its response.
#[derive(Debug)]
pub(super) struct Exchange {
    recorder: RequestRecorder,
    /// The request, if it is not known yet whether a layer around the service records it.
    undecided: Option<Box<WireRequest>>,
    #[cfg(feature = "server")]
    side: Side,
    pub(super) method: Method,
    has_response: bool,
    /// The bytes of the request's body.
    sent: u64,
    /// When the last byte of the request passed.
    request_end: Option<Tick>,
    /// How long its body waited for a window of HTTP/2.
    window_wait: Duration,
    /// The bytes of the response's body.
    received: u64,
    /// The length that is declared for it.
    declared: u64,
}

/// The head of a request.
#[derive(Debug)]
pub(super) struct WireRequest {
    pub(super) wire: OnWire,
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) version: Version,
    /// The fields, as far as they are recorded.
    pub(super) headers: HeaderMap,
    pub(super) has_body: bool,
}

impl Exchange {
    /// Begins an exchange.
    ///
    /// A layer around a service sees a request some time after its bytes were read: how long after is up to the server
    /// and to what is between them. So a request of an accepted connection is recorded when its response begins, unless a
    /// layer has been seen by then.
    pub(super) fn begin(context: &WireContext, request: WireRequest) -> Self {
        let mut exchange = Exchange {
            recorder: RequestRecorder::off(),
            undecided: None,
            #[cfg(feature = "server")]
            side: context.side,
            method: request.method.clone(),
            has_response: false,
            sent: 0,
            request_end: None,
            window_wait: Duration::ZERO,
            received: 0,
            declared: 0,
        };
        match context.side {
            Side::Client => exchange.record(context, request),
            Side::Server if context.conn.has_request_layer() => {}
            Side::Server => exchange.undecided = Some(Box::new(request)),
        }
        exchange
    }

    /// Returns `true` if it is not known yet whether a layer around the service records the request.
    pub(super) fn is_undecided(&self) -> bool {
        self.undecided.is_some()
    }

    /// Records a request that came over an accepted connection, unless a layer around the service has. Called when the
    /// response begins, or when there will be none.
    pub(super) fn decide(&mut self, context: &WireContext) {
        if let Some(request) = self.undecided.take() {
            self.record(context, *request);
        }
    }

    fn record(&mut self, context: &WireContext, request: WireRequest) {
        if context.conn.has_request_layer() {
            return;
        }
        let WireRequest { wire, method, url, version, headers, has_body } = request;
        let head = RequestHead {
            method: &method,
            uri: &url,
            version,
            headers: &headers,
            handle: None,
            has_body,
            accepted: context.side == Side::Server,
            wire: Some(wire),
        };
        self.recorder = context.sink.request_on_wire(&head, &context.conn);
        self.recorder.set_sent(self.sent);
        if let Some(at) = self.request_end {
            self.recorder.request_end(at);
        }
        if !self.window_wait.is_zero() {
            self.recorder.window_wait(self.window_wait);
        }
    }

    /// Records bytes of the request's body.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
        self.recorder.set_sent(self.sent);
    }

    /// Records that the last byte of the request passed at `at`.
    pub(super) fn request_end(&mut self, at: Tick) {
        self.request_end = Some(at);
        self.recorder.request_end(at);
    }

    /// Records for how long in all the request's body waited for a window of HTTP/2.
    pub(super) fn window_wait(&mut self, waited: Duration) {
        self.window_wait = waited;
        self.recorder.window_wait(waited);
    }

    /// Records that the first byte of the response passed at `at`, be it an interim one.
    pub(super) fn first_byte(&self, at: Tick) {
        self.recorder.first_byte(at);
    }

    /// Records an interim response.
    pub(super) fn informational(&self, status: StatusCode) {
        self.recorder.informational(status);
    }

    /// Records the head of the final response, with its fields as far as they are recorded.
    pub(super) fn response(&mut self, status: StatusCode, version: Version, headers: &HeaderMap) {
        self.has_response = true;
        self.recorder.response(status, version, headers);
    }

    /// Records bytes of the response's body.
    pub(super) fn received(&mut self, bytes: u64) {
        self.received += bytes;
        self.recorder.received(bytes);
    }

    pub(super) fn trailers(&self, trailers: &HeaderMap) {
        self.recorder.trailers(trailers);
    }

    /// Records the length that is declared for the response's body, in bytes.
    pub(super) fn declares(&mut self, length: u64) {
        self.declared = length;
    }

    /// Records that the whole response has passed. If its body is shorter than declared, the request has failed.
    pub(super) fn complete(mut self) {
        self.recorder.ended(self.declared.saturating_sub(self.received));
    }

    /// Records that the server closed the connection. `missing` is the number of bytes that are known to be missing of
    /// the response's body.
    pub(super) fn cut_off(self, missing: u64) {
        let text = match (self.has_response, missing) {
            (false, _) => "the server closed the connection before it had answered".into(),
            (true, 0) => "the server closed the connection before the response was complete".into(),
            (true, _) => {
                let (received, declared) = (self.received, self.received.saturating_add(missing));
                BodyLengths { received, declared }.to_string()
            }
        };
        self.failed(FailureDetail::new(Failure::EofError, text));
    }

    pub(super) fn failed(mut self, fault: FailureDetail) {
        self.recorder.failed(fault);
    }

    /// Records that the rest of the exchange is not read.
    pub(super) fn unobserved(mut self) {
        self.recorder.finish_unobserved();
    }
}

#[cfg(feature = "server")]
impl Drop for Exchange {
    /// Records that the exchange was given up, unless it has ended. On the client's side its recorder does so.
    fn drop(&mut self) {
        if self.side == Side::Server {
            self.recorder.given_up();
        }
    }
}
