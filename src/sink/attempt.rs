//! One TCP handshake: what whoever makes it says of it.

use super::{
    conn::{self, ConnRecord, ConnRef, Endpoint, Transport},
    conn_recorder::ConnRecorder,
    group::Group,
    probe::{ProbeEvent, ProbeSocket, contained},
};
use crate::{
    error::{Fault, classify::io_fault},
    record::{EndReason, Failure, IcmpError},
};
use std::{fmt, io, net::SocketAddr, sync::Arc};

/// One TCP attempt. Dropped before it ended, it was given up.
pub(crate) struct AttemptRecorder(Option<Live>);

struct Live {
    group: Arc<Group>,
    record: Arc<ConnRecord>,
}

impl fmt::Debug for AttemptRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = self.0.as_ref().and_then(|live| live.record.remote);
        f.debug_tuple("AttemptRecorder").field(&to).finish()
    }
}

impl AttemptRecorder {
    pub(crate) fn off() -> Self {
        AttemptRecorder(None)
    }

    pub(super) fn begin(group: Option<Arc<Group>>, remote: SocketAddr, from_resolver: bool) -> Self {
        AttemptRecorder(group.and_then(|group| {
            let endpoint = Endpoint { remote: Some(remote), ..Endpoint::default() };
            let mut record = ConnRecord::new(&group.core, Transport::Tcp, endpoint);
            record.from_resolver = from_resolver;
            let record = conn::register(&group, record)?;
            Some(Live { group, record })
        }))
    }

    /// Shows the socket to the probes before it is connected.
    pub(crate) fn before_connect(&self, socket: ProbeSocket<'_>) {
        let Some(Live { group, record }) = &self.0 else { return };
        let Some(remote) = record.remote else { return };
        for probe in group.core.probes() {
            contained(|| probe.before_connect(socket, remote));
        }
    }

    /// The local address, as soon as there is one.
    pub(crate) fn local(&self, local: impl FnOnce() -> Option<SocketAddr>) {
        if let Some(Live { record, .. }) = &self.0
            && record.end.is_open()
            && record.local.get().is_none()
            && let Some(local) = local()
        {
            let _ = record.local.set(local);
        }
    }

    pub(crate) fn show(&self, event: ProbeEvent, socket: ProbeSocket<'_>) {
        let Some(Live { group, record }) = &self.0 else { return };
        if !group.core.probes().is_empty() {
            conn::show(&ConnRef::new(group.clone(), Some(record.clone())), event, socket);
        }
    }

    /// Shows the socket to the probes once the handshake has begun.
    pub(crate) fn connecting(&self, socket: ProbeSocket<'_>) {
        let Some(Live { group, record }) = &self.0 else { return };
        let Some(remote) = record.remote else { return };
        for probe in group.core.probes() {
            contained(|| probe.connecting(socket, remote));
        }
    }

    /// The ICMP error that came in reply, if a probe has seen one.
    pub(crate) fn icmp_error(&self) -> Option<IcmpError> {
        self.0.as_ref()?.record.icmp_error(None).cloned()
    }

    pub(crate) fn connected(mut self, local: impl FnOnce() -> Option<SocketAddr>) -> ConnRecorder {
        self.local(local);
        self.0.take().map_or(ConnRecorder::off(), |live| ConnRecorder::established(live.group, live.record))
    }

    pub(crate) fn failed(mut self, error: &io::Error) {
        self.end(EndReason::Failed, || io_fault(error));
    }

    pub(crate) fn timed_out(mut self) {
        let fault = || Fault::new(Failure::GenericTimeoutError, "the TCP handshake timed out");
        self.end(EndReason::Timeout, fault);
    }

    /// Another attempt was faster.
    pub(crate) fn lost_race(mut self) {
        self.end(EndReason::LostRace, || Fault::new(Failure::Interrupted, "another attempt was faster"));
    }

    fn end(&mut self, reason: EndReason, fault: impl FnOnce() -> Fault) {
        if let Some(Live { group, record }) = self.0.take() {
            conn::end(&group, &record, reason, Some(fault()));
        }
    }
}

impl Drop for AttemptRecorder {
    fn drop(&mut self) {
        self.end(EndReason::Cancelled, || Fault::new(Failure::Interrupted, "the attempt was given up"));
    }
}
