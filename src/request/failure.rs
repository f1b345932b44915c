//! What a failed request says of its connection and of what went wrong.

use crate::{
    error::classify,
    sink::{ConnRef, RequestRecorder},
};
use http::Extensions;
use hyper_util::client::legacy;
use std::{any::Any, error::Error, io};

#[cold]
pub(super) fn record(error: &dyn Any, mut recorder: RequestRecorder) {
    if let Some(conn) = error.downcast_ref::<legacy::Error>().and_then(legacy::Error::connect_info) {
        let mut extras = Extensions::new();
        conn.get_extras(&mut extras);
        if let Some(conn) = extras.get::<ConnRef>() {
            recorder.conn(conn);
        }
    }
    match as_error(error) {
        Some(error) => recorder.failed(classify::failure(error), &classify::chain(error)),
        None => recorder.failed(crate::Failure::unknown("the service failed"), "the service failed"),
    }
}

pub(super) fn record_body(error: &dyn Any, recorder: &mut RequestRecorder) {
    if !recorder.is_on() {
        return;
    }
    match as_error(error) {
        Some(error) => recorder.failed(classify::failure(error), &classify::chain(error)),
        None => recorder.failed(crate::Failure::unknown("the body failed"), "the body failed"),
    }
}

/// The errors of services and bodies have no bound in common that lets them be looked at.
fn as_error(error: &dyn Any) -> Option<&(dyn Error + 'static)> {
    fn cast<T: Error + 'static>(error: &dyn Any) -> Option<&(dyn Error + 'static)> {
        error.downcast_ref::<T>().map(|error| error as &(dyn Error + 'static))
    }
    #[cfg(feature = "tonic")]
    if let Some(error) = cast::<::tonic::transport::Error>(error).or_else(|| cast::<::tonic::Status>(error)) {
        return Some(error);
    }
    #[cfg(feature = "reqwest")]
    if let Some(error) = cast::<::reqwest::Error>(error) {
        return Some(error);
    }
    cast::<legacy::Error>(error)
        .or_else(|| cast::<hyper::Error>(error))
        .or_else(|| cast::<io::Error>(error))
        .or_else(|| {
            error
                .downcast_ref::<Box<dyn Error + Send + Sync>>()
                .map(|error| &**error as &(dyn Error + 'static))
        })
}
