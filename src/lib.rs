//! Shows what really happened behind a network request.
#![forbid(unsafe_op_in_unsafe_fn)]
#![deny(unreachable_pub, missing_docs, missing_debug_implementations)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod record;

#[doc(inline)]
pub use record::{Failure, NetTrace, Timestamp, Timings, TraceId};
