//! Assertions that hold for every trace, whatever happened to its requests.
//!
//! ```ignore
//! client.close().await;
//! check::finished(&sink.snapshot("all"));            // every record has ended
//! check::running(&sink.snapshot("in between"));      // records may still be open
//! ```

mod ends;
#[cfg(feature = "check")]
mod json;
mod links;
mod times;

use std::fmt;

use nettrace::NetTrace;
use nettrace::record::{
    DialTrace, DnsQueryTrace, HttpReqTrace, Record, TcpConnTrace, TlsTunnelTrace, UdpConnTrace,
};

/// Asserts what holds for every trace whose traffic is over:
///
/// - every reference resolves;
/// - every record has ended with a reason, and has a code and a text if it failed;
/// - times nest: lookups and attempts inside the dial, the dial before TLS, TLS before the request's bytes;
/// - totals are the sums of operations;
/// - the JSON is valid, and reads back as the same trace.
///
/// # Panics
///
/// If any of this does not hold. The message contains all problems and the trace.
#[track_caller]
pub fn finished(trace: &NetTrace) {
    let mut problems = common_problems(trace);
    ends::find_problems(trace, &mut problems);
    problems.assert_none(trace);
}

/// Asserts what [`finished`] asserts, but allows records that have not ended.
///
/// # Panics
///
/// If any of this does not hold. The message contains all problems and the trace.
#[track_caller]
pub fn running(trace: &NetTrace) {
    common_problems(trace).assert_none(trace);
}

fn common_problems(trace: &NetTrace) -> Problems {
    let mut problems = Problems::default();
    links::find_problems(trace, &mut problems);
    times::find_problems(trace, &mut problems);
    #[cfg(feature = "check")]
    json::find_problems(trace, &mut problems);
    problems
}

/// The problems of a trace, collected so that a failed test shows all of them at once.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn expect(&mut self, holds: bool, who: impl fmt::Display, what: impl fmt::Display) {
        if !holds {
            self.0.push(format!("{who}: {what}"));
        }
    }

    #[track_caller]
    fn assert_none(self, trace: &NetTrace) {
        if !self.0.is_empty() {
            let json = serde_json::to_string_pretty(&trace.precise()).expect("a trace is JSON");
            panic!("{json}\n\nwrong with this trace:\n  {}", self.0.join("\n  "));
        }
    }
}

/// Returns the kind and the identifier of a record, for messages.
fn name<R: Named>(record: &R) -> String {
    format!("{} {}", R::KIND, record.trace_id())
}

trait Named: Record {
    const KIND: &str;
}

impl Named for DialTrace {
    const KIND: &str = "dial";
}

impl Named for TcpConnTrace {
    const KIND: &str = "TCP connection";
}

impl Named for UdpConnTrace {
    const KIND: &str = "UDP connection";
}

impl Named for DnsQueryTrace {
    const KIND: &str = "DNS query";
}

impl Named for TlsTunnelTrace {
    const KIND: &str = "TLS tunnel";
}

impl Named for HttpReqTrace {
    const KIND: &str = "HTTP request";
}
