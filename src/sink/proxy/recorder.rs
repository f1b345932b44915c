//! Records the way through a proxy, as far as dials, TLS tunnels and CONNECT requests do not.

use super::record::SocksRecord;
use crate::{
    error::FailureDetail,
    record::{
        EndReason, Failure, Text,
        limits::{LimitedText, MAX_ADDRESS_BYTES},
    },
    sink::{
        conn::conn_ref::ConnRef,
        context,
        dial::recorder::{self, DialRecorder},
        registry::end::EndCell,
    },
};
use std::{fmt, sync::Arc};

/// The name of a proxy as records show it, without credentials.
#[derive(Clone)]
pub(crate) struct ProxyName(Arc<Text>);

impl ProxyName {
    pub(crate) fn new(name: Text) -> Self {
        ProxyName(Arc::new(name))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Runs `f`: dials and TLS handshakes that begin in it lead to this proxy.
    pub(crate) fn scope<R>(&self, f: impl FnOnce() -> R) -> R {
        context::with_proxy(&self.0, f)
    }

    /// Runs `f` likewise, for a dial that has begun. Returns the dial if no layer in `f` records dials.
    pub(crate) fn scope_of<R>(&self, dial: DialRecorder, f: impl FnOnce() -> R) -> (R, Option<DialRecorder>) {
        recorder::with_begun_dial(dial, || self.scope(f))
    }
}

impl fmt::Debug for ProxyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Records the handshake with a SOCKS proxy. If it is dropped before the handshake has ended, the handshake was
/// abandoned.
#[derive(Debug)]
pub(crate) struct SocksRecorder(Option<ConnRef>);

impl SocksRecorder {
    pub(crate) fn begin(conn: Option<&ConnRef>, target: impl FnOnce() -> Text) -> Self {
        let begun = conn.and_then(|conn| {
            let (begin, probe_data) = conn.probe_data()?;
            let target = LimitedText::new(target(), MAX_ADDRESS_BYTES);
            // If it is the second on the connection, through one proxy to the next, the first is kept.
            let record = SocksRecord { target, begin, end: EndCell::default() };
            let is_first = conn.group.begin_record(|_| probe_data.socks.set(record).is_ok())?;
            if !is_first {
                conn.group.record_ended();
            }
            is_first.then(|| conn.clone())
        });
        SocksRecorder(begun)
    }

    pub(crate) fn established(mut self) {
        self.end(EndReason::Closed, None);
    }

    pub(crate) fn failed(mut self, fault: impl FnOnce() -> FailureDetail) {
        if self.0.is_some() {
            let fault = fault();
            self.end(fault.end_reason(), Some(fault));
        }
    }

    fn end(&mut self, reason: EndReason, fault: Option<FailureDetail>) {
        let Some(conn) = self.0.take() else { return };
        let Some(socks) = conn.record().socks() else { return };
        if socks.end.is_open() && socks.end.end(conn.group.core.now().max(socks.begin), &reason, fault) {
            conn.group.record_ended();
        }
    }
}

impl Drop for SocksRecorder {
    fn drop(&mut self) {
        self.end(
            EndReason::Cancelled,
            Some(FailureDetail::new(Failure::Interrupted, "the handshake was given up")),
        );
    }
}
