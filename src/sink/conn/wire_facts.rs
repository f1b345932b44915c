//! [`WireFacts`]: what was read of the HTTP on a connection.

use crate::{
    record::{WireStop, WireTrace},
    sink::{clock::Tick, snapshot::timeline::Timeline},
};
use std::sync::OnceLock;

/// What was read of the HTTP on a connection, allocated when its bytes are read.
#[derive(Debug, Default)]
pub(crate) struct WireFacts {
    protocol: OnceLock<WireProtocol>,
    stop: OnceLock<(Tick, WireStop)>,
}

/// A protocol that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireProtocol {
    Http1,
    Http2,
}

impl WireFacts {
    pub(super) fn set_protocol(&self, protocol: WireProtocol) {
        let _ = self.protocol.set(protocol);
    }

    pub(super) fn stopped(&self, at: Tick, reason: WireStop) {
        let _ = self.stop.set((at, reason));
    }

    pub(in crate::sink) fn export(&self, times: &Timeline) -> WireTrace {
        let protocol = self.protocol.get().map_or("", |protocol| match protocol {
            WireProtocol::Http1 => "http/1.1",
            WireProtocol::Http2 => "h2",
        });
        let stop = self.stop.get();
        WireTrace {
            protocol: protocol.into(),
            stopped_at: times.at(stop.map(|(at, _)| *at)),
            stop_reason: stop.map(|(_, reason)| reason.clone()),
        }
    }
}
