//! [`CurrentRequest`]: the request for which the current poll runs.

use super::{body_recorder::RequestBodyRecorder, pool_checkout::PoolCheckout, record::RequestRef};
use crate::{
    record::Failure,
    sink::{conn::conn_ref::ConnRef, context},
};
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

    /// Records what the current request waits for in the pool.
    pub(crate) fn waits(checkout: PoolCheckout) {
        context::with_current_request(|request| request.record.pool.set(checkout));
    }

    /// Records that the current request was given a connection by the pool.
    #[inline]
    pub(crate) fn checked_out(conn: Option<&ConnRef>, checkout: PoolCheckout) {
        context::with_current_request(|request| {
            request.record.pool.set(checkout);
            if let Some(conn) = conn {
                request.acquired(conn);
            }
        });
    }

    /// Records that the peer has not processed the current request, which will be sent again.
    pub(crate) fn refused(failure: &Failure) {
        context::with_current_request(|request| request.refused(failure.clone()));
    }

    /// Returns a recorder for the body of the current request, which is sent again.
    pub(crate) fn body_recorder() -> Option<Box<RequestBodyRecorder>> {
        context::current_request().map(|request| Box::new(RequestBodyRecorder::new(Some(request))))
    }

    /// Records that the current request goes over HTTP/2.
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
