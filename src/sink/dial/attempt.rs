//! [`AttemptRecorder`]: records one TCP handshake.

use super::group::DialGroup;
use crate::{
    error::{FailureDetail, classify::io_failure_detail},
    record::{EndReason, Failure, IcmpError},
    sink::{
        conn::{
            conn_ref::ConnRef,
            new_record::Endpoint,
            record::{ConnRecord, Transport},
            recorder::{self, ConnRecorder},
        },
        probe::{ProbeEvent, ProbeSocket, catch_panic},
    },
};
use std::{fmt, io, net::SocketAddr, sync::Arc};

/// Records one TCP attempt. If it is dropped before the attempt has ended, the attempt was abandoned.
pub(crate) struct AttemptRecorder(Option<ConnRef>);

impl fmt::Debug for AttemptRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = self.0.as_ref().and_then(ConnRef::peer_addr);
        f.debug_tuple("AttemptRecorder").field(&to).finish()
    }
}

impl AttemptRecorder {
    pub(crate) fn off() -> Self {
        AttemptRecorder(None)
    }

    pub(in crate::sink) fn begin(
        group: Option<Arc<DialGroup>>,
        remote: SocketAddr,
        from_resolver: bool,
    ) -> Self {
        AttemptRecorder(group.and_then(|group| {
            let endpoint = Endpoint { remote: Some(remote), ..Endpoint::default() };
            ConnRef::register(group, |core| ConnRecord {
                from_resolver,
                ..ConnRecord::new(core, Transport::Tcp, endpoint)
            })
        }))
    }

    /// Passes the socket to the probes before it is connected.
    pub(crate) fn before_connect(&self, socket: ProbeSocket<'_>) {
        let Some(conn) = &self.0 else { return };
        let Some(remote) = conn.peer_addr() else { return };
        for probe in conn.group.core.probes() {
            catch_panic(|| probe.before_connect(socket, remote));
        }
    }

    /// Records the local address, as soon as there is one.
    pub(crate) fn local(&self, local: impl FnOnce() -> Option<SocketAddr>) {
        let record = self.0.as_ref().map(ConnRef::record);
        if let Some(record) = record
            && record.end.is_open()
            && record.local.get().is_none()
            && let Some(local) = local()
        {
            let _ = record.local.set(local);
        }
    }

    pub(crate) fn show(&self, event: ProbeEvent, socket: ProbeSocket<'_>) {
        if let Some(conn) = &self.0 {
            recorder::show(conn, event, socket);
        }
    }

    /// Passes the socket to the probes once the handshake has begun.
    pub(crate) fn connecting(&self, socket: ProbeSocket<'_>) {
        let Some(conn) = &self.0 else { return };
        let Some(remote) = conn.peer_addr() else { return };
        for probe in conn.group.core.probes() {
            catch_panic(|| probe.connecting(socket, remote));
        }
    }

    /// Returns the ICMP error that came in reply, if a probe has seen one.
    pub(crate) fn icmp_error(&self) -> Option<IcmpError> {
        self.0.as_ref()?.record().probe_data.get()?.icmp_error(None).cloned()
    }

    pub(crate) fn connected(mut self, local: impl FnOnce() -> Option<SocketAddr>) -> ConnRecorder {
        self.local(local);
        self.0.take().map_or(ConnRecorder::off(), ConnRecorder::established)
    }

    pub(crate) fn failed(mut self, error: &io::Error) {
        self.end(EndReason::Failed, || io_failure_detail(error));
    }

    pub(crate) fn timed_out(mut self) {
        let fault = || FailureDetail::new(Failure::GenericTimeoutError, "the TCP handshake timed out");
        self.end(EndReason::Timeout, fault);
    }

    /// Records that another attempt of the same dial was faster.
    pub(crate) fn lost_race(mut self) {
        self.end(EndReason::LostRace, || {
            FailureDetail::new(Failure::Interrupted, "another attempt was faster")
        });
    }

    fn end(&mut self, reason: EndReason, fault: impl FnOnce() -> FailureDetail) {
        if let Some(conn) = self.0.take() {
            recorder::end(&conn, reason, Some(fault()));
        }
    }
}

impl Drop for AttemptRecorder {
    fn drop(&mut self) {
        if self.0.as_ref().is_some_and(|conn| conn.group.has_timed_out()) {
            let fault = || FailureDetail::new(Failure::GenericTimeoutError, "the dial timed out");
            return self.end(EndReason::Timeout, fault);
        }
        self.end(EndReason::Cancelled, || {
            FailureDetail::new(Failure::Interrupted, "the attempt was given up")
        });
    }
}
