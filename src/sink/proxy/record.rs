//! [`SocksRecord`]: the handshake with a SOCKS proxy.

use crate::{
    error::FailureDetail,
    record::limits::LimitedText,
    sink::{clock::Tick, registry::end::EndCell},
};

/// The handshake with a SOCKS proxy. It is stored with its connection.
pub(crate) struct SocksRecord {
    pub(in crate::sink) target: LimitedText,
    pub(in crate::sink) begin: Tick,
    pub(in crate::sink) end: EndCell,
}

impl SocksRecord {
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        let boxed = |fault: &FailureDetail| size_of::<FailureDetail>() + fault.heap_bytes();
        self.target.heap_bytes() + self.end.fault().map_or(0, boxed)
    }
}
