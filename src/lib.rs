//! Shows what really happened behind a network request.
#![forbid(unsafe_code)]
#![deny(unreachable_pub, missing_docs, missing_debug_implementations)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// The sink serves all layers: without some of them parts of it have no caller.
#![cfg_attr(not(feature = "client"), allow(dead_code, unused_imports))]

mod error;
pub mod record;
mod sink;
pub mod view;

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "connect")]
pub mod connect;
#[cfg(feature = "request")]
pub mod request;
#[cfg(feature = "resolve")]
pub mod resolve;
#[cfg(feature = "tls")]
pub mod tls;

#[cfg(feature = "client")]
pub use client::Client;

#[doc(inline)]
pub use record::{Failure, NetTrace, Timestamp, Timings, TraceId};
pub use sink::{
    ConnRef, FinishedRecord, HeaderCapture, IdFormat, NotTraced, Probe, ProbeEvent, ProbeSocket,
    RequestHandle, ResponseExt, Retention, Subscriber, TraceSink, TraceSinkBuilder,
};
