//! The interface of a connection's record for the readers of its bytes.

use super::{
    conn_ref::ConnRef,
    wire_facts::{Http2Facts, WireFacts, WireProtocol},
};
use crate::{
    record::WireStop,
    sink::{clock::Tick, config::HeaderCapture, trace_sink::TraceSink},
};
use std::{sync::atomic::Ordering::Relaxed, time::Duration};

impl ConnRef {
    /// Reads the clock of the connection's sink.
    pub(crate) fn now(&self) -> Tick {
        self.group.core.now()
    }

    /// Returns `true` if header fields are recorded.
    pub(crate) fn records_headers(&self) -> bool {
        self.group.core.config.headers != HeaderCapture::Off
    }

    /// Records that a layer around the client or the service has recorded a request that was made over the connection.
    pub(in crate::sink) fn set_has_request_layer(&self) {
        self.record().has_request_layer.store(true, Relaxed);
    }

    /// Returns `true` if a layer around the client or the service has recorded a request that was made over the
    /// connection.
    pub(crate) fn has_request_layer(&self) -> bool {
        self.record().has_request_layer.load(Relaxed)
    }

    /// Returns `true` if the connection is recorded by `sink`, and was not dialed for a request that a layer has
    /// recorded, as its requests then are by that layer.
    pub(crate) fn has_unrecorded_requests(&self, sink: &TraceSink) -> bool {
        let is_dialed_by_request = self.group.dial.as_ref().is_some_and(|dial| dial.trigger.is_some());
        !is_dialed_by_request && sink.active().is_some_and(|records| self.is_of(&records.core))
    }

    /// Records that the bytes of the connection are read.
    pub(crate) fn wire_read(&self) {
        self.wire_facts();
    }

    /// Records which protocol is spoken.
    pub(crate) fn set_wire_protocol(&self, protocol: WireProtocol) {
        if let Some(facts) = self.wire_facts() {
            facts.set_protocol(protocol);
        }
    }

    /// Records that nothing more is read.
    pub(crate) fn wire_stopped(&self, reason: WireStop) {
        if let Some(facts) = self.wire_facts() {
            facts.stopped(self.now(), reason);
        }
    }

    /// Passes what is known of an HTTP/2 connection to `note`.
    pub(crate) fn note_http2(&self, note: impl FnOnce(&mut Http2Facts)) {
        if let Some(facts) = self.wire_facts() {
            note(&mut facts.http2());
        }
    }

    /// Returns the time from one reading of the clock to another.
    pub(crate) fn between(&self, begin: Tick, end: Tick) -> Duration {
        self.group.core.clock.between(begin, end)
    }

    /// Returns what is known of the HTTP; `None` if the connection has ended.
    fn wire_facts(&self) -> Option<&WireFacts> {
        self.probe_data().map(|(_, data)| &**data.wire.get_or_init(Box::default))
    }
}
