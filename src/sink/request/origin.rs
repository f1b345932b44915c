//! [`RequestOrigin`]: the served request, the distributed trace and the span that a request belongs to.

use super::traceparent::Traceparent;
use crate::sink::record_id::RecordId;
use std::num::NonZeroU64;

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
