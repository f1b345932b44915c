//! [`TlsRecord`]: the state of a TLS tunnel.

use super::peer_chain::PeerChain;
use crate::{
    error::FailureDetail,
    record::{BoxedOrEmpty, Text},
    sink::{clock::Tick, record_id::RecordId, registry::end::End},
};

/// The parameters that a handshake negotiated, as far as they became known.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFacts {
    pub(crate) tls_version: Text,
    pub(crate) cipher_suite: u16,
    pub(crate) key_exchange_group: Text,
    pub(crate) negotiated_proto: Text,
    pub(crate) did_resume: bool,
    /// Whether this side is the server. Set by the recorder, and stored here because there is room for it.
    pub(crate) accepted: bool,
    /// Whether this side, the client, offered HTTP/2.
    pub(crate) offered_http2: bool,
    /// Whether the server sent a HelloRetryRequest.
    pub(crate) hello_retry_request: bool,
    /// The length of the first ClientHello in bytes, or zero if it is not known. What is longer counts as the maximum.
    pub(crate) client_hello_len: u16,
    pub(crate) peer_certs: PeerChain,
    pub(crate) alert: BoxedOrEmpty<Text>,
}

/// The state of a TLS tunnel, from the handshake on.
#[derive(Clone)]
pub(crate) struct TlsRecord {
    pub(crate) id: RecordId,
    pub(crate) conn: Option<RecordId>,
    pub(crate) server_name: Text,
    pub(crate) begin: Tick,
    pub(crate) handshake_end: Option<Tick>,
    pub(crate) facts: TlsFacts,
    /// What went wrong with the handshake, or what the server reported when it had already looked complete.
    pub(crate) fault: Option<FailureDetail>,
    pub(crate) end: Option<End>,
}

impl TlsRecord {
    /// Returns when something was last seen of the tunnel.
    pub(crate) fn latest(&self) -> Tick {
        self.begin.max_some(self.handshake_end)
    }

    /// Returns the heap memory that the record takes.
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        let end = self.end.as_ref().and_then(|end| end.fault.as_ref());
        let faults = self.fault.iter().chain(end).map(FailureDetail::heap_bytes);
        let TlsFacts { negotiated_proto, alert, .. } = &self.facts;
        let alert = if alert.is_empty() { 0 } else { size_of::<Text>() + alert.heap_bytes() };
        let texts = self.server_name.heap_bytes() + negotiated_proto.heap_bytes() + alert;
        faults.sum::<usize>() + texts
    }

    #[cfg(feature = "tls")]
    pub(super) fn handshake_ended(&mut self, at: Tick, facts: TlsFacts) {
        self.handshake_end = Some(at);
        self.facts = TlsFacts { accepted: self.facts.accepted, ..facts };
    }
}
