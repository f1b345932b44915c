//! What a failed request says of its connection and of what went wrong.

use crate::{
    error::classify::{self, as_error},
    sink::{ConnRef, RequestRecorder},
};
use http::Extensions;
use hyper_util::client::legacy;
use std::any::Any;

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
