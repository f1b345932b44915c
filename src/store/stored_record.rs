//! [`StoredRecord`]: what is asked of a record that several slices have.

use crate::record::{
    BoxedOrEmpty, DialTrace, DnsQueryTrace, HttpReqTrace, Record, TcpConnTrace, Timestamp, TlsTunnelTrace,
    TraceId, UdpConnTrace,
};

/// A record that may be in several slices, as far as it was known when each of them was put together.
pub(super) trait StoredRecord: Record {
    /// Returns when the record began.
    fn begin(&self) -> Timestamp;

    /// Returns `true` if the record has ended: it does not change any more.
    fn has_ended(&self) -> bool;

    /// Takes those links from another version of the record that this one has not. A slice leaves out links to requests
    /// that are not part of it.
    fn take_links(&mut self, _other: &Self) {}
}

impl StoredRecord for HttpReqTrace {
    fn begin(&self) -> Timestamp {
        self.req_sent_at
    }

    fn has_ended(&self) -> bool {
        self.end_reason.is_some()
    }

    fn take_links(&mut self, other: &Self) {
        take_link(&mut self.prev_hop, &other.prev_hop);
        take_link(&mut self.triggered_by, &other.triggered_by);
    }
}

impl StoredRecord for DialTrace {
    fn begin(&self) -> Timestamp {
        self.dial_begin_at
    }

    fn has_ended(&self) -> bool {
        self.end_reason.is_some()
    }

    fn take_links(&mut self, other: &Self) {
        if self.triggered_by.is_undefined() {
            self.triggered_by = other.triggered_by.clone();
        }
    }
}

impl StoredRecord for TcpConnTrace {
    fn begin(&self) -> Timestamp {
        self.handshake_begin_at
    }

    fn has_ended(&self) -> bool {
        self.end_reason.is_some()
    }
}

impl StoredRecord for UdpConnTrace {
    fn begin(&self) -> Timestamp {
        self.socket_create_at
    }

    fn has_ended(&self) -> bool {
        self.end_reason.is_some()
    }
}

impl StoredRecord for DnsQueryTrace {
    fn begin(&self) -> Timestamp {
        self.dns_query_msgs.first().map_or(Timestamp::UNDEFINED, |query| query.sent_at)
    }

    fn has_ended(&self) -> bool {
        self.end_reason.is_some()
    }

    fn take_links(&mut self, other: &Self) {
        take_link(&mut self.http_req, &other.http_req);
    }
}

impl StoredRecord for TlsTunnelTrace {
    fn begin(&self) -> Timestamp {
        self.handshake_begin_at
    }

    fn has_ended(&self) -> bool {
        self.end_reason.is_some()
    }
}

fn take_link(link: &mut BoxedOrEmpty<TraceId>, other: &BoxedOrEmpty<TraceId>) {
    if link.is_empty() {
        link.clone_from(other);
    }
}
