//! [`RequestOrigin`]: what a request belongs to outside of its own connection.

#[cfg(feature = "_record_requests")]
use super::new_request::RequestHead;
use super::traceparent::Traceparent;
#[cfg(feature = "server")]
use crate::sink::context;
#[cfg(feature = "_record_requests")]
use crate::sink::core::Core;
use crate::sink::record_id::RecordId;
use std::num::NonZeroU64;
#[cfg(feature = "_record_requests")]
use tracing::dispatcher;

/// What a request belongs to: the request for which it was made, the distributed trace, and the span of `tracing`. All
/// of it is known when the request begins.
#[derive(Debug)]
pub(crate) struct RequestOrigin {
    /// The request that this program was answering when it made this one.
    pub(in crate::sink) served: Option<RecordId>,
    pub(in crate::sink) traceparent: Option<Traceparent>,
    /// The identifier of the span in which the request was made or answered.
    pub(in crate::sink) span: Option<NonZeroU64>,
}

#[cfg(feature = "_record_requests")]
impl RequestOrigin {
    /// Returns what is known of a request that begins now; `None` if that is nothing.
    #[inline]
    pub(super) fn find(core: &Core, head: &RequestHead<'_>) -> Option<Box<Self>> {
        let traceparent = Traceparent::of(head.headers);
        // The task that reads from a connection works for all of its requests.
        let (served, span) = match head.wire {
            Some(_) => (None, None),
            None => (served_request(core, head), current_span()),
        };
        let is_known = served.is_some() || traceparent.is_some() || span.is_some();
        is_known.then(|| Box::new(RequestOrigin { served, traceparent, span }))
    }
}

/// Returns the request that is being answered, if `head` is of a request that this program makes meanwhile.
#[cfg(feature = "server")]
#[inline]
fn served_request(core: &Core, head: &RequestHead<'_>) -> Option<RecordId> {
    if head.accepted { None } else { context::served_request_of(core) }
}

#[cfg(all(feature = "_record_requests", not(feature = "server")))]
fn served_request(_: &Core, _: &RequestHead<'_>) -> Option<RecordId> {
    None
}

/// Returns the identifier of the current span of `tracing`.
#[cfg(feature = "_record_requests")]
#[inline]
fn current_span() -> Option<NonZeroU64> {
    dispatcher::get_default(|current| current.current_span().id().map(|span| span.into_non_zero_u64()))
}
