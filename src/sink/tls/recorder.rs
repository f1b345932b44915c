//! TLS tunnels: the handshake, and the end of what it made.

use crate::{
    error::FailureDetail,
    record::{BoxedOrEmpty, EndReason, Failure, PeerCert, Text},
    sink::{
        TraceSink,
        clock::Tick,
        conn::record::{ConnRecord, ConnRef},
        context,
        core::Core,
        dial::group::DialGroup,
        registry::end::End,
        snapshot::to_record,
        subscriber::FinishedRecord,
    },
};
use std::{
    num::NonZeroU32,
    sync::{Arc, OnceLock, Weak, atomic::Ordering::Relaxed},
};

/// What a handshake agreed on, or as much of it as became known.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFacts {
    pub(crate) tls_version: Text,
    pub(crate) cipher_suite: u16,
    pub(crate) key_exchange_group: Text,
    pub(crate) negotiated_proto: Text,
    pub(crate) did_resume: bool,
    /// This side is the server. Kept here, where there is room for it; the recorder writes it.
    pub(crate) accepted: bool,
    pub(crate) peer_certs: PeerChain,
    pub(crate) alert: BoxedOrEmpty<Text>,
}

/// The certificates that a peer presented, as far as they are kept. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerChain(Option<Arc<Presented>>);

#[derive(Debug)]
struct Presented {
    certs: Arc<[PeerCert]>,
    original_certs: Option<NonZeroU32>,
    charge: OnceLock<Charge>,
}

/// The bytes that a sink charged for a chain. They are released with the chain.
#[derive(Debug)]
struct Charge {
    core: Weak<Core>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.budget.release(self.bytes);
        }
    }
}

impl PeerChain {
    /// The first certificates of a chain. `original_certs` is how many it had, if some were left out.
    pub(crate) fn new(certs: Arc<[PeerCert]>, original_certs: Option<NonZeroU32>) -> Self {
        let charge = OnceLock::new();
        PeerChain((!certs.is_empty()).then(|| Arc::new(Presented { certs, original_certs, charge })))
    }

    pub(crate) fn certs(&self) -> Arc<[PeerCert]> {
        self.0.as_ref().map(|chain| chain.certs.clone()).unwrap_or_default()
    }

    /// How many there were before some were left out.
    pub(crate) fn original_certs(&self) -> Option<NonZeroU32> {
        self.0.as_ref()?.original_certs
    }

    /// Charges the memory of the chain to the first sink that asks, once for all records that share it. It is released
    /// when the last of them goes, and the cache of described chains with them.
    fn charge(&self, core: &Arc<Core>) {
        let Some(chain) = self.0.as_ref().filter(|_| core.budget.is_limited()) else { return };
        chain.charge.get_or_init(|| {
            let bytes = chain.certs.iter().map(PeerCert::bytes).sum::<usize>() + size_of::<Presented>();
            core.budget.charge(bytes);
            Charge { core: Arc::downgrade(core), bytes }
        });
    }
}

#[derive(Clone)]
pub(crate) struct TlsRecord {
    pub(crate) number: u64,
    pub(crate) conn: u64,
    pub(crate) server_name: Text,
    pub(crate) begin: Tick,
    pub(crate) handshake_end: Tick,
    pub(crate) facts: TlsFacts,
    /// Of the handshake; also what a server says of it only after it had looked complete.
    pub(crate) fault: Option<FailureDetail>,
    pub(crate) end: Option<End>,
}

impl TlsRecord {
    /// When something was last seen of it.
    pub(crate) fn latest(&self) -> Tick {
        self.begin.max(self.handshake_end)
    }

    /// The memory that it takes besides its own place.
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        let end = self.end.as_ref().and_then(|end| end.fault.as_ref());
        let faults = self.fault.iter().chain(end).map(FailureDetail::heap_bytes);
        let TlsFacts { negotiated_proto, alert, .. } = &self.facts;
        let alert = if alert.is_empty() { 0 } else { size_of::<Text>() + alert.heap_bytes() };
        let texts = self.server_name.heap_bytes() + negotiated_proto.heap_bytes() + alert;
        faults.sum::<usize>() + texts
    }

    fn handshake_ended(&mut self, at: Tick, facts: TlsFacts) {
        self.handshake_end = at;
        self.facts = TlsFacts { accepted: self.facts.accepted, ..facts };
    }
}

/// Lives with the handshake and then with the stream; its drop ends the tunnel.
#[derive(Debug)]
pub(crate) struct TlsRecorder(Option<Live>);

#[derive(Debug)]
struct Live {
    group: Arc<DialGroup>,
    index: usize,
    conn: ConnRef,
    /// Made here, since the stream below had no identity in this sink.
    is_conn_own: bool,
    in_handshake: bool,
    /// How it will have ended when it is dropped, and why.
    reason: EndReason,
    fault: Option<FailureDetail>,
}

impl TlsRecorder {
    pub(in crate::sink) fn begin(
        sink: &TraceSink,
        conn: Option<&ConnRef>,
        accepted: bool,
        server_name: impl FnOnce() -> Text,
    ) -> Self {
        let Some(core) = sink.active_core().filter(|core| core.config.tls) else { return TlsRecorder(None) };
        // A connection of another sink means nothing in this one.
        let below = conn.filter(|conn| conn.is_of(core));
        let is_conn_own = below.is_none();
        let own = || sink.lookup().0.map(ConnRef::unknown);
        let Some(conn) = below.cloned().or_else(own) else { return TlsRecorder(None) };
        let facts = TlsFacts { accepted, ..TlsFacts::default() };
        Self::over(conn, server_name(), core.now(), is_conn_own, facts)
    }

    fn over(conn: ConnRef, server_name: Text, begin: Tick, is_conn_own: bool, facts: TlsFacts) -> Self {
        let group = conn.group.clone();
        let number = group.core.id_alloc.next_id();
        let record = TlsRecord {
            number,
            conn: conn.number(),
            server_name,
            begin,
            handshake_end: Tick::NONE,
            facts,
            fault: None,
            end: None,
        };
        let index = group.begin_record(|state| {
            state.tls.push(record);
            state.tls.len() - 1
        });
        let Some(index) = index else { return TlsRecorder(None) };
        // The innermost tunnel is the one to the server; one that was there before leads to a proxy.
        let ConnRecord { tls, proxy_tls, .. } = conn.record();
        let outer = if context::current_proxy().is_some() { number } else { tls.swap(number, Relaxed) };
        if outer != 0 {
            proxy_tls.store(outer, Relaxed);
        }
        let (reason, fault) = (EndReason::Closed, None);
        TlsRecorder(Some(Live { group, index, conn, is_conn_own, in_handshake: true, reason, fault }))
    }

    /// One that was begun over `conn` by somebody else, as far as was seen of it.
    #[cfg(feature = "reqwest")]
    pub(in crate::sink) fn begin_foreign(conn: ConnRef, server_name: Text, begin: Tick) -> Self {
        if !conn.group.core.config.tls {
            return TlsRecorder(None);
        }
        Self::over(conn, server_name, begin, false, TlsFacts::default())
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The identity to put into the metadata of the stream, when what lies below it has none.
    pub(crate) fn own_conn(&self) -> Option<ConnRef> {
        self.0.as_ref().filter(|live| live.is_conn_own).map(|live| live.conn.clone())
    }

    /// The client has asked for this server.
    #[cfg(feature = "server")]
    pub(crate) fn asked_for(&self, server_name: Text) {
        if let Some(live) = &self.0 {
            live.with(|_, record| record.server_name = server_name);
        }
    }

    pub(crate) fn established(&mut self, facts: TlsFacts) {
        let Some(live) = &mut self.0 else { return };
        live.in_handshake = false;
        if facts.negotiated_proto == "h2" {
            live.conn.set_http2();
        }
        live.with(|now, record| record.handshake_ended(now, facts));
    }

    /// The handshake was over by `at`, and of what it made nobody will see any more.
    #[cfg(feature = "reqwest")]
    pub(in crate::sink) fn finish_unobserved(mut self, facts: TlsFacts, at: Tick) {
        let Some(live) = &mut self.0 else { return };
        (live.in_handshake, live.reason) = (false, EndReason::Unobserved);
        live.with(|_, record| (record.handshake_end, record.facts) = (at.max(record.begin), facts));
    }

    pub(crate) fn failed(mut self, facts: TlsFacts, fault: FailureDetail, reason: EndReason) {
        let Some(live) = self.0.take() else { return };
        live.with(|now, record| record.handshake_ended(now, facts));
        live.handshake_failed(reason, fault);
    }

    /// The server refused after the handshake had ended for this side, as TLS 1.3 does with client certificates.
    pub(crate) fn rejected(&mut self, fault: FailureDetail, alert: String) {
        let Some(live) = &mut self.0 else { return };
        live.reason = EndReason::Failed;
        live.with(|_, record| {
            record.facts.alert = alert.into();
            record.fault.get_or_insert(fault);
        });
    }

    /// The peer has closed the tunnel, and with it the connection: it need not be heard of below TLS any more.
    pub(crate) fn peer_closed(&mut self) {
        let Some(live) = &mut self.0 else { return };
        if live.reason == EndReason::Closed {
            live.reason = EndReason::PeerClosed;
            live.conn.set_close_reason(EndReason::PeerClosed);
        }
    }

    /// An error broke the established tunnel.
    pub(crate) fn broken(&mut self, fault: FailureDetail) {
        let Some(live) = &mut self.0 else { return };
        if live.reason == EndReason::Closed {
            live.reason = EndReason::Failed;
            live.fault = Some(fault);
        }
    }
}

impl Live {
    fn with(&self, f: impl FnOnce(Tick, &mut TlsRecord)) {
        if let Some(record) = self.group.state().tls.get_mut(self.index).filter(|record| record.end.is_none())
        {
            f(self.group.core.now().max(record.begin), record);
        }
    }

    fn handshake_failed(&self, reason: EndReason, fault: FailureDetail) {
        self.with(|_, record| record.fault = Some(fault.clone()));
        self.end(reason, Some(fault));
    }

    fn end(&self, reason: EndReason, fault: Option<FailureDetail>) {
        let group = &self.group;
        let ended = {
            let mut state = group.state();
            let record = state.tls.get_mut(self.index).filter(|record| record.end.is_none());
            record.map(|record| {
                let at = group.core.now().max(record.latest());
                if self.in_handshake && !record.handshake_end.is_some() {
                    record.handshake_end = at;
                }
                let fault = fault.or(record.fault.clone());
                record.facts.peer_certs.charge(&group.core);
                record.end = Some(End { at, reason, fault });
                group.core.has_subscribers().then(|| record.clone())
            })
        };
        let Some(record) = ended else { return };
        group.record_ended();
        if let Some(record) = record {
            group.core.publish(|times| FinishedRecord::TlsTunnel(to_record::tls(group, record, times)));
        }
    }
}

impl Drop for TlsRecorder {
    fn drop(&mut self) {
        let Some(mut live) = self.0.take() else { return };
        if live.in_handshake {
            let fault = FailureDetail::new(Failure::Interrupted, "the handshake was given up");
            live.handshake_failed(EndReason::Cancelled, fault);
        } else {
            let fault = live.fault.take();
            live.end(live.reason.clone(), fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::config::SinkConfig;

    #[test]
    fn a_chain_is_charged_until_the_last_that_shares_it_goes() {
        let core = Arc::new(Core::new(SinkConfig::default()));
        let certs: Arc<[PeerCert]> = vec![PeerCert::default(); 3].into();
        let bytes = certs.iter().map(PeerCert::bytes).sum::<usize>();
        let chain = PeerChain::new(certs, None);
        let others: Vec<_> = (0..10).map(|_| chain.clone()).collect();
        others.iter().for_each(|chain| chain.charge(&core));
        let charged = core.budget.charged();
        assert!(charged >= bytes && charged < 2 * bytes, "{charged}, and not each time");
        drop(chain);
        for chain in others {
            assert_eq!(core.budget.charged(), charged);
            drop(chain);
        }
        assert_eq!(core.budget.charged(), 0);
    }
}
