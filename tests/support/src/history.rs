//! Ended records of earlier traces, which later traces of the same sink must not contradict.

use std::collections::HashMap;

use nettrace::{FinishedRecord, NetTrace, TraceId, record::EndReason};

/// Returns all records of a trace, each with its end reason.
pub fn records(trace: &NetTrace) -> Vec<(FinishedRecord, Option<EndReason>)> {
    macro_rules! all {
        ($($list:ident: $kind:ident),*) => {{
            let mut all = Vec::new();
            $(all.extend(trace.$list.iter().map(|record| {
                (FinishedRecord::$kind(record.clone()), record.end_reason.clone())
            }));)*
            all
        }};
    }
    all!(
        dials: Dial,
        tcp_conns: TcpConn,
        udp_conns: UdpConn,
        dns_queries: DnsQuery,
        tls_tunnels: TlsTunnel,
        http_requests: HttpRequest
    )
}

/// Clears `ctxCloseAt` of a dial: it is set when the request ends, which can be after the end of the dial.
pub fn settled(mut record: FinishedRecord) -> FinishedRecord {
    if let FinishedRecord::Dial(dial) = &mut record {
        dial.ctx_close_at = Default::default();
    }
    record
}

/// The ended records of earlier traces.
#[derive(Default)]
pub struct History(HashMap<TraceId, FinishedRecord>);

impl History {
    /// Asserts that no ended record of an earlier trace is gone or has changed.
    #[track_caller]
    pub fn check(&mut self, trace: &NetTrace) {
        let mut missing = std::mem::take(&mut self.0);
        for (record, end) in records(trace) {
            let (id, record) = (record.trace_id().clone(), settled(record));
            if let Some(before) = missing.remove(&id) {
                assert_eq!(before, record, "an ended record has changed");
            }
            if end.is_some() {
                self.0.insert(id, record);
            }
        }
        assert!(missing.is_empty(), "ended records are missing: {missing:?}");
    }

    /// Forgets all records. To be called after `TraceSink::clear`, which evicts ended records and moves the origin of
    /// times.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}
