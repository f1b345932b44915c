//! Counts of requests for Prometheus.
//!
//! A counter of Prometheus must never go down. The records of a trace cannot give that: while a request is evicted it may
//! be seen twice or not at all, and `clear` begins anew. So these are counts of their own, made as requests end.

mod counters;
mod exposition;

pub use self::counters::Metrics;
pub(super) use self::exposition::exposition;
