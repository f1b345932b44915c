//! How a request ended.

use super::text::shown;
use crate::{
    readable,
    record::{EndReason, Failure, HttpReqTrace},
};
use maud::{Markup, html};

/// Returns how a request ended: its failure, or its status.
pub(super) fn outcome(request: &HttpReqTrace) -> Markup {
    let status = (request.resp_status_code > 0).then(|| readable::status(request.resp_status_code));
    let grpc = request.grpc_status.filter(|status| *status > 0);
    let reason = request.end_reason.as_ref();
    let text = if reason.is_some_and(EndReason::is_failure) {
        Some(request.failure.as_ref().map_or("failed", Failure::as_str))
    } else {
        match reason {
            Some(EndReason::Closed | EndReason::Unobserved) => None,
            Some(reason) => Some(reason.as_str()),
            None => Some("in flight"),
        }
    };
    html! {
        @if request.has_failed() { span.bad { "✗ " } }
        @if let Some(status) = &status { (status) }
        @if let Some(grpc) = grpc { " · gRPC " (grpc) }
        @if let Some(text) = text {
            @if status.is_some() { " · " }
            span.bad[request.has_failed()] { (shown(&readable::shortened(text))) }
        }
    }
}
