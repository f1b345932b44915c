//! Dials and connections of another crate's connector: what was seen of them is recorded when the dial has ended.

use super::{
    group::DialGroup,
    recorder::{self, DialRecorder},
};
use crate::{
    error::FailureDetail,
    record::{EndReason, Failure, Text},
    sink::{
        clock::{AtomicTick, Tick},
        conn::{
            conn_ref::ConnRef,
            new_record::Endpoint,
            record::{ConnRecord, Transport},
            recorder::end,
        },
        tls::{record::TlsFacts, recorder::TlsRecorder},
    },
};
use std::sync::Arc;

/// The observations of a TLS handshake of another crate.
#[derive(Debug)]
pub(crate) struct ForeignTunnel {
    pub(crate) server_name: Text,
    /// When the ClientHello was built.
    pub(crate) begin: Tick,
    pub(crate) facts: TlsFacts,
}

impl DialRecorder {
    /// Records that the dial led to a connection with these tunnels over it, none of which can be seen from now on.
    pub(crate) fn finish_unobserved(
        mut self,
        endpoint: Endpoint,
        tunnels: Vec<ForeignTunnel>,
    ) -> Option<ConnRef> {
        let now = self.dial().now()?;
        let group = self.take()?;
        let conn = established(&group, endpoint, &tunnels, now)?;
        let ends = tunnels.iter().skip(1).map(|next| next.begin).chain([now]).collect::<Vec<_>>();
        for (tunnel, end) in tunnels.into_iter().zip(ends) {
            TlsRecorder::begin_foreign(conn.clone(), tunnel.server_name, tunnel.begin)
                .finish_unobserved(tunnel.facts, end);
        }
        end(&conn, EndReason::Unobserved, None);
        Some(conn)
    }

    /// Records that the dial led to a connection, and that the last of these handshakes over it failed. The connection
    /// was closed with it.
    pub(crate) fn handshake_failed(self, tunnels: Vec<ForeignTunnel>, fault: FailureDetail) {
        let reason = fault.end_reason();
        self.handshake_ended(tunnels, fault, reason);
    }

    /// Records that the dial led to a connection, and that the last of these handshakes over it was abandoned.
    pub(crate) fn handshake_dropped(self, tunnels: Vec<ForeignTunnel>) {
        let fault = FailureDetail::new(Failure::Interrupted, "the handshake was given up");
        self.handshake_ended(tunnels, fault, EndReason::Cancelled);
    }

    fn handshake_ended(mut self, mut tunnels: Vec<ForeignTunnel>, fault: FailureDetail, reason: EndReason) {
        let Some(now) = self.dial().now() else { return };
        let Some(group) = self.take() else { return };
        let Some(conn) = established(&group, Endpoint::default(), &tunnels, now) else { return };
        if let Some(last) = tunnels.pop() {
            for tunnel in tunnels {
                TlsRecorder::begin_foreign(conn.clone(), tunnel.server_name, tunnel.begin)
                    .finish_unobserved(tunnel.facts, last.begin);
            }
            TlsRecorder::begin_foreign(conn.clone(), last.server_name, last.begin)
                .failed(last.facts, fault, reason);
        }
        end(&conn, EndReason::Closed, None);
    }
}

/// Records the connection. Where there is TLS, the dial had ended when the first handshake began.
fn established(
    group: &Arc<DialGroup>,
    endpoint: Endpoint,
    tunnels: &[ForeignTunnel],
    now: Tick,
) -> Option<ConnRef> {
    let begin = group.connect_begin().unwrap_or(now);
    let at = tunnels.first().map_or(now, |tunnel| tunnel.begin).max(begin);
    let conn = ConnRef::register(group.clone(), |core| ConnRecord {
        is_unobserved: true,
        begin,
        established: AtomicTick::new(at),
        log: None,
        ..ConnRecord::new(core, Transport::Tcp, endpoint)
    });
    recorder::set_established(group, conn.as_ref());
    recorder::end_at(group, || at, EndReason::Closed, None);
    conn
}
