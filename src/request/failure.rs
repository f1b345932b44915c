//! Records what the error of a request tells about its connection and about what went wrong.

use crate::{
    Failure,
    connected::with_extras,
    error::{
        FailureDetail,
        classify::{self, downcast_error},
    },
    sink::{ConnRef, RequestRecorder},
};
use hyper_util::client::legacy;
use std::any::Any;

/// Records the error of a client, and the connection if the error is one of hyper-util's, which know it.
#[cold]
pub(super) fn record_client_error(error: &dyn Any, mut recorder: RequestRecorder) {
    if let Some(connected) = error.downcast_ref::<legacy::Error>().and_then(legacy::Error::connect_info) {
        with_extras(connected, |extras| {
            if let Some(conn) = ConnRef::from_extensions(extras) {
                recorder.conn(conn);
            }
        });
        if connected.is_negotiated_h2() {
            recorder.set_http2();
        }
    }
    record_error(error, &mut recorder, "the service failed");
}

/// Records an error. If its type does not implement [`Error`](std::error::Error), `otherwise` is recorded instead.
#[cold]
pub(crate) fn record_error(error: &dyn Any, recorder: &mut RequestRecorder, otherwise: &'static str) {
    match downcast_error(error) {
        Some(error) => {
            #[cfg(any(feature = "encrypted-dns", feature = "server", feature = "tonic"))]
            if classify::is_http2(error) {
                recorder.set_http2();
            }
            recorder.failed(classify::failure_detail(error));
        }
        None => recorder.failed(FailureDetail::new(Failure::unknown(otherwise), otherwise)),
    }
}
