//! Says why requests failed or were slow, from the records of a trace.
//!
//! [`explain`] looks for known causes in every request of a trace, and in every dial and connection that belongs to no
//! request. It names a cause only if the records prove it, and quotes them:
//!
//! ```
//! # let json = r#"{"httpRequests": [{"traceID": "r", "reqURL": "http://web.test/", "reqSentAt": "+0ms", "endAt": "+9ms",
//! #   "failure": "connection_refused", "endReason": "failed"}],
//! #   "dials": [{"traceID": "d", "triggeredBy": "r", "dstAddress": "web.test:80", "failure": "connection_refused",
//! #   "dialBeginAt": "+0ms", "dialEndAt": "+9ms", "endReason": "failed"}],
//! #   "tcpConns": [{"traceID": "c", "fromDial": "d", "failure": "connection_refused", "endReason": "failed",
//! #   "handshakeBeginAt": "+1ms", "handshakeEndAt": "+2ms", "addrTuple": {"srcIP": "", "srcPort": 0, "dstIP": "192.0.2.1", "dstPort": 80}}]}"#;
//! let trace: nettrace::NetTrace = serde_json::from_str(json)?;
//!
//! let explanation = nettrace::explain::explain(&trace);
//! let root = explanation.verdicts[0].root().unwrap();
//! assert_eq!(root.code, "tcp_refused");
//! println!("{}", root.sentence); // 192.0.2.1:80 refused the connection: nothing listens there.
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # What a verdict is
//!
//! A [`Verdict`] has the findings about one request. The first is the root: the cause without which the others would
//! not have come. A request that timed out because its dial waited for a silent nameserver has the nameserver as its
//! root. A request that succeeded has a verdict only if something went wrong on the way: an address that did not answer
//! before another one did, a nameserver that was asked in vain. A healthy request has none, and neither has one that is
//! merely slow for reasons that are not in its records.
//!
//! A finding says what it does not know, too: [`Finding::not_seen`] names the probe or option that would have shown it.
//!
//! # Codes
//!
//! [`CAUSES`] lists the codes that can be found, with what each means.

mod case;
mod dns_exchange;
mod finding;
mod found;
mod history;
mod host_name;
mod hosts;
mod late_reads;
mod rank;
mod rules;
mod stream_queues;
mod text;
mod usual;

use crate::{graph::TraceGraph, record::NetTrace};

use self::case::{Case, Indexes};
pub use self::{
    finding::{Evidence, Explanation, Finding, Outcome, RepeatedFinding, Severity, Verdict},
    rules::{CAUSES, Cause},
};

/// Explains what went wrong in a trace. The work is linear in the number of records.
pub fn explain(trace: &NetTrace) -> Explanation {
    let graph = TraceGraph::new(trace);
    let indexes = Indexes::new(&graph);
    Explanation::new(Case::all(&graph, &indexes).filter_map(|case| rank::verdict(&case)).collect())
}

/// The JSON Schema (draft 2020-12) of an [`Explanation`].
pub const JSON_SCHEMA: &str = include_str!("schema.json");
