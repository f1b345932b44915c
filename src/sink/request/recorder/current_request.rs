//! [`CurrentRequest`]: what layers below the one that records a request tell of it.
//!
//! They are not handed the request. It is found in the context, as the one for which the current poll runs.

#[cfg(feature = "client")]
use super::request_body::RequestBodyRecorder;
#[cfg(feature = "client")]
use crate::record::Failure;
use crate::sink::{conn::conn_ref::ConnRef, context, request::record::RequestRef};
use http::StatusCode;

/// The request for which the current poll runs, for layers below the one that records it.
#[derive(Clone, Debug)]
pub(crate) struct CurrentRequest(Option<RequestRef>);

impl CurrentRequest {
    pub(crate) fn get() -> Self {
        CurrentRequest(context::current_request())
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Records that the current request was just given a connection.
    #[inline]
    pub(crate) fn acquired(conn: &ConnRef) {
        context::with_current_request(|request| request.acquired(conn));
    }

    /// Records that the peer has not processed the current request, which will be sent again.
    #[cfg(feature = "client")]
    pub(crate) fn refused(failure: &Failure) {
        context::with_current_request(|request| request.refused(failure.clone()));
    }

    /// Returns a recorder for the body of the current request, which is sent again.
    #[cfg(feature = "client")]
    pub(crate) fn body_recorder() -> Option<Box<RequestBodyRecorder>> {
        context::current_request().map(|request| Box::new(RequestBodyRecorder::new(Some(request))))
    }

    /// Records that the current request goes over HTTP/2.
    #[cfg(feature = "client")]
    pub(crate) fn set_http2() {
        context::with_current_request(RequestRef::set_http2);
    }

    /// Records that a 1xx response came.
    pub(crate) fn informational(&self, status: StatusCode) {
        if let Some(request) = &self.0 {
            request.informational(status);
        }
    }
}
