//! Identifiers of spans, derived from those of records.
//!
//! A span must have the same identifier whenever it is written, and no other process may use it. The identifiers of
//! records are unique in their process only (`tid-1`), so they are hashed together with what identifies the sink: its
//! session and the time at which it began.

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::{
    hex::hex,
    record::{NetTrace, TraceId},
};

/// The identifier of a distributed trace (W3C Trace Context, `trace-id`); never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct OtelTraceId(pub(super) [u8; 16]);

/// The identifier of a span (W3C Trace Context, `parent-id`); never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct OtelSpanId(pub(super) [u8; 8]);

/// The subject of a span. A record may have spans with several subjects.
#[derive(Clone, Copy, Debug)]
pub(super) enum SpanOf {
    Request,
    WaitForConnection,
    ConnectionSetup,
    DnsLookup,
    SocketConnect,
    SocksHandshake,
    TlsHandshake,
}

impl SpanOf {
    /// Returns the name that is hashed. It must never change.
    fn name(self) -> &'static str {
        match self {
            SpanOf::Request => "request",
            SpanOf::WaitForConnection => "wait_for_connection",
            SpanOf::ConnectionSetup => "connection_setup",
            SpanOf::DnsLookup => "dns_lookup",
            SpanOf::SocketConnect => "socket_connect",
            SpanOf::SocksHandshake => "socks_handshake",
            SpanOf::TlsHandshake => "tls_handshake",
        }
    }
}

/// Derives the identifiers of one sink's spans.
pub(super) struct Ids {
    /// The state after the session and the begin.
    seeded: Sha256,
}

impl Ids {
    pub(super) fn new(trace: &NetTrace) -> Self {
        let session = trace.uuid.as_deref().unwrap_or_default();
        let begin = trace.trace_begin_at.unix_nanos().unwrap_or_default();
        let mut seeded = Sha256::new();
        seeded.update((session.len() as u64).to_be_bytes());
        seeded.update(session);
        seeded.update(begin.to_be_bytes());
        Ids { seeded }
    }

    /// Returns the identifier of the span of a record.
    pub(super) fn span(&self, of: SpanOf, record: &TraceId) -> OtelSpanId {
        OtelSpanId(self.derive("span", of, record))
    }

    /// Returns the identifier of the trace whose first span is that of a record.
    pub(super) fn trace(&self, of: SpanOf, record: &TraceId) -> OtelTraceId {
        OtelTraceId(self.derive("trace", of, record))
    }

    fn derive<const N: usize>(&self, what: &str, of: SpanOf, record: &TraceId) -> [u8; N] {
        let mut hash = self.seeded.clone();
        // No name has a zero byte, so that different texts are hashed differently.
        for part in [what, "\0", of.name(), "\0", record.as_str()] {
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut id = std::array::from_fn(|at| digest[at]);
        if id.iter().all(|byte| *byte == 0) {
            id[N - 1] = 1;
        }
        id
    }
}

impl Serialize for OtelTraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl Serialize for OtelSpanId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Timestamp;

    fn ids(uuid: Option<&str>, begin: i128) -> Ids {
        Ids::new(&NetTrace {
            uuid: uuid.map(str::to_owned),
            trace_begin_at: Timestamp::from_unix_nanos(begin),
            ..NetTrace::default()
        })
    }

    #[test]
    fn the_same_record_has_the_same_identifiers() {
        let record = TraceId::from("tid-7");
        let [one, two] = [ids(Some("s"), 5), ids(Some("s"), 5)];
        assert_eq!(one.span(SpanOf::Request, &record), two.span(SpanOf::Request, &record));
        assert_eq!(one.trace(SpanOf::Request, &record), two.trace(SpanOf::Request, &record));
        // What is stored in other places must not change with a version of this crate.
        assert_eq!(hex(&one.span(SpanOf::Request, &record).0), STORED);
    }

    const STORED: &str = "57e7981ee2578859";

    #[test]
    fn other_records_kinds_and_sinks_have_other_identifiers() {
        let record = TraceId::from("tid-7");
        let known = ids(Some("s"), 5).span(SpanOf::Request, &record);
        assert_ne!(ids(Some("s"), 5).span(SpanOf::Request, &"tid-8".into()), known);
        assert_ne!(ids(Some("s"), 5).span(SpanOf::WaitForConnection, &record), known);
        assert_ne!(ids(Some("t"), 5).span(SpanOf::Request, &record), known);
        assert_ne!(ids(None, 5).span(SpanOf::Request, &record), known);
        assert_ne!(ids(Some("s"), 6).span(SpanOf::Request, &record), known);
    }
}
