//! [`TlsRecorder`]: records a TLS handshake, and then the tunnel until it is closed.

use super::record::{TlsFacts, TlsRecord};
use crate::{
    error::FailureDetail,
    record::{EndReason, Failure, Text},
    sink::{
        clock::Tick,
        conn::{conn_ref::ConnRef, record::ConnRecord},
        context,
        dial::group::DialGroup,
        registry::end::End,
        snapshot::to_record,
        subscriber::{FinishedRecord, RecordKind},
        trace_sink::TraceSink,
    },
};
use std::sync::Arc;

impl TraceSink {
    /// Begins a TLS handshake of a client.
    pub(crate) fn tls(&self, conn: Option<&ConnRef>, server_name: impl FnOnce() -> Text) -> TlsRecorder {
        self.begin_tls(conn, false, server_name)
    }

    /// Begins a TLS handshake of a server, which the client will start.
    #[cfg(feature = "server")]
    pub(crate) fn accept_tls(&self, conn: Option<&ConnRef>) -> TlsRecorder {
        self.begin_tls(conn, true, || Text::EMPTY)
    }

    /// Returns `true` if handshakes over this connection are recorded now.
    #[cfg(feature = "relay")]
    pub(crate) fn records_tls_over(&self, conn: &ConnRef) -> bool {
        self.active().is_some_and(|records| records.core.config.tls && conn.is_of(&records.core))
    }

    fn begin_tls(
        &self,
        conn: Option<&ConnRef>,
        accepted: bool,
        server_name: impl FnOnce() -> Text,
    ) -> TlsRecorder {
        let Some(records) = self.active().filter(|records| records.core.config.tls) else {
            return TlsRecorder::off();
        };
        // A connection of another sink has no record in this one.
        match conn.filter(|conn| conn.is_of(&records.core)) {
            Some(conn) => TlsRecorder::begin(conn.clone(), accepted, server_name()),
            None => {
                let group = records.current_group().unwrap_or_else(|| records.new_group());
                TlsRecorder::begin_over_unknown(group, accepted, server_name())
            }
        }
    }
}

/// Records a handshake, and then its tunnel. Dropping it ends the tunnel.
#[derive(Debug)]
pub(crate) struct TlsRecorder(Option<Live>);

/// The first byte of a response that comes over the tunnel.
#[cfg(all(feature = "connect", feature = "_record_requests"))]
impl TlsRecorder {
    /// Returns `true` if nothing was read since a request was given the connection.
    #[inline]
    pub(crate) fn awaits_first_byte(&self) -> bool {
        self.0.as_ref().is_some_and(|live| live.conn.record().first_byte.is_expected())
    }

    /// Records that what was read was of TLS itself, such as session tickets, so that the first byte is still to come.
    #[inline]
    pub(crate) fn await_first_byte(&self) {
        if let Some(live) = &self.0 {
            live.conn.await_first_byte();
        }
    }
}

#[derive(Debug)]
struct Live {
    group: Arc<DialGroup>,
    index: usize,
    conn: ConnRef,
    /// Whether the reference was created here, because the stream below has no identity in this sink.
    is_conn_own: bool,
    in_handshake: bool,
    /// The end reason that is recorded when the recorder is dropped after the handshake.
    reason: EndReason,
    /// The error that broke the established tunnel. Handshake faults are in [`TlsRecord::fault`].
    fault: Option<FailureDetail>,
}

impl TlsRecorder {
    pub(in crate::sink) const fn off() -> Self {
        TlsRecorder(None)
    }

    /// Begins a handshake over a connection that has a record.
    pub(in crate::sink) fn begin(conn: ConnRef, accepted: bool, server_name: Text) -> Self {
        let begin = conn.group.core.now();
        Self::over(conn, server_name, begin, false, TlsFacts { accepted, ..TlsFacts::default() })
    }

    /// Begins a handshake over a stream whose connection is not recorded.
    pub(in crate::sink) fn begin_over_unknown(
        group: Arc<DialGroup>,
        accepted: bool,
        server_name: Text,
    ) -> Self {
        let begin = group.core.now();
        let facts = TlsFacts { accepted, ..TlsFacts::default() };
        Self::over(ConnRef::unknown(group), server_name, begin, true, facts)
    }

    fn over(conn: ConnRef, server_name: Text, begin: Tick, is_conn_own: bool, facts: TlsFacts) -> Self {
        let group = conn.group.clone();
        let id = group.core.id_alloc.next_id();
        let record = TlsRecord {
            id,
            conn: conn.record_id(),
            server_name,
            begin,
            handshake_end: None,
            facts,
            fault: None,
            end: None,
        };
        let index = group.begin_record(|state| {
            state.tls.push(record);
            state.tls.len() - 1
        });
        let Some(index) = index else { return TlsRecorder(None) };
        // A handshake with a proxy is recorded as the proxy's tunnel. Otherwise this is the tunnel to the server, and
        // the one it replaces, if any, was to a proxy.
        let ConnRecord { tls, proxy_tls, .. } = conn.record();
        let outer = if context::current_proxy().is_some() { Some(id) } else { tls.replace(id) };
        if let Some(outer) = outer {
            proxy_tls.set(outer);
        }
        let (reason, fault) = (EndReason::Closed, None);
        TlsRecorder(Some(Live { group, index, conn, is_conn_own, in_handshake: true, reason, fault }))
    }

    /// Begins a handshake that another crate made over `conn`, and that is recorded afterwards from what was observed.
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

    /// Returns the identity to put into the stream's metadata, if the stream below has none.
    pub(crate) fn own_conn(&self) -> Option<ConnRef> {
        self.0.as_ref().filter(|live| live.is_conn_own).map(|live| live.conn.clone())
    }

    /// Records the server name that the client requests (SNI).
    #[cfg(feature = "server")]
    pub(crate) fn set_server_name(&self, server_name: Text) {
        if let Some(live) = &self.0 {
            live.with(|_, record| record.server_name = server_name);
        }
    }

    /// Records that the handshake succeeded.
    pub(crate) fn established(&mut self, facts: TlsFacts) {
        let Some(live) = &mut self.0 else { return };
        live.in_handshake = false;
        if facts.negotiated_proto == "h2" {
            live.conn.set_http2();
        }
        live.with(|now, record| record.handshake_ended(now, facts));
    }

    /// Records that the handshake had ended by `at`, and ends the record: the rest of the tunnel cannot be observed.
    #[cfg(feature = "reqwest")]
    pub(in crate::sink) fn finish_unobserved(mut self, facts: TlsFacts, at: Tick) {
        let Some(live) = &mut self.0 else { return };
        (live.in_handshake, live.reason) = (false, EndReason::Unobserved);
        live.with(|_, record| {
            record.handshake_end = Some(at.max(record.begin));
            record.facts = facts;
        });
    }

    /// Records that the handshake failed, and ends the record.
    pub(crate) fn failed(mut self, facts: TlsFacts, fault: FailureDetail, reason: EndReason) {
        let Some(live) = self.0.take() else { return };
        live.with(|now, record| record.handshake_ended(now, facts));
        live.handshake_failed(reason, fault);
    }

    /// Records that the server refused after the handshake had ended for this side, as TLS 1.3 does with client
    /// certificates.
    pub(crate) fn rejected(&mut self, fault: FailureDetail, alert: String) {
        let Some(live) = &mut self.0 else { return };
        live.reason = EndReason::Failed;
        live.with(|_, record| {
            record.facts.alert = alert.into();
            record.fault.get_or_insert(fault);
        });
    }

    /// Records that the peer has closed the tunnel. The connection gets the same reason, because its own close by the
    /// peer may no longer be observed.
    pub(crate) fn peer_closed(&mut self) {
        let Some(live) = &mut self.0 else { return };
        if live.reason == EndReason::Closed {
            live.reason = EndReason::PeerClosed;
            live.conn.set_close_reason(EndReason::PeerClosed);
        }
    }

    /// Records that an error broke the established tunnel.
    pub(crate) fn broken(&mut self, fault: FailureDetail) {
        let Some(live) = &mut self.0 else { return };
        if live.reason == EndReason::Closed {
            live.reason = EndReason::Failed;
            live.fault = Some(fault);
        }
    }
}

impl Live {
    /// Changes the record, unless it has ended.
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
        {
            let mut state = group.state();
            let record = state.tls.get_mut(self.index).filter(|record| record.end.is_none());
            let Some(record) = record else { return };
            let at = group.core.now().max(record.latest());
            if self.in_handshake {
                record.handshake_end.get_or_insert(at);
            }
            let fault = fault.or(record.fault.clone());
            record.facts.peer_certs.charge(&group.core);
            record.end = Some(End { at, reason: reason.clone(), fault });
        }
        group.record_ended();
        if !group.core.is_published(RecordKind::TlsTunnel, &reason) {
            return;
        }
        let record = group.state().tls.get(self.index).cloned();
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
