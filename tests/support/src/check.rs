//! Assertions that hold for every trace, whatever happened to its requests.
//!
//! ```ignore
//! client.close().await;
//! check::finished(&sink.snapshot("all"));            // everything has come to its end
//! check::running(&sink.snapshot("in between"));      // the same, but things may be under way
//! ```

mod ends;
mod json;
mod links;
mod times;

use std::fmt;

use nettrace::NetTrace;
use nettrace::record::{
    DialTrace, DnsQueryTrace, HttpReqTrace, Record, TcpConnTrace, TlsTunnelTrace, UdpConnTrace,
};

/// Asserts for a trace whose traffic is over: every reference resolves; every record has ended, with a
/// reason, and a code and a text where it failed; times nest (names and attempts inside the dial, the dial
/// before TLS, TLS before the request's bytes); totals are the sums of operations; its JSON is valid, and
/// reads back as the same trace.
///
/// # Panics
///
/// With all that is wrong, and the trace.
#[track_caller]
pub fn finished(trace: &NetTrace) {
    let mut problems = of_any(trace);
    ends::look(trace, &mut problems);
    problems.assert_none(trace);
}

/// Asserts the same as [`finished`] for a trace whose traffic may go on, except for records that have not ended.
///
/// # Panics
///
/// With all that is wrong, and the trace.
#[track_caller]
pub fn running(trace: &NetTrace) {
    of_any(trace).assert_none(trace);
}

fn of_any(trace: &NetTrace) -> Problems {
    let mut problems = Problems::default();
    links::look(trace, &mut problems);
    times::look(trace, &mut problems);
    json::look(trace, &mut problems);
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

/// Names a record in a message.
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
