//! [`SharedConnection`]: a connection to a nameserver that carries the DNS messages of lookups of many dials.

use super::group::DialGroup;
use crate::sink::{dns::carrier::DnsCarrier, record_id::RecordId, request::record::RequestRef};
use std::{
    any::Any,
    sync::{Arc, OnceLock},
};

/// A connection to a nameserver that carries the messages of a DNS record in another group.
pub(in crate::sink) struct SharedConnection {
    pub(in crate::sink) group: Arc<DialGroup>,
    /// The request whose body was the query, over HTTPS.
    pub(in crate::sink) http: OnceLock<RequestRef>,
}

impl SharedConnection {
    pub(in crate::sink) fn of(carrier: &dyn DnsCarrier) -> Option<&Self> {
        let carrier: &dyn Any = carrier;
        carrier.downcast_ref()
    }
}

impl DnsCarrier for SharedConnection {
    fn http_req(&self) -> Option<RecordId> {
        self.http.get().map(RequestRef::record_id)
    }

    fn release(&self) {
        self.group.release();
        if let Some(request) = self.http.get() {
            request.remove_follower();
        }
    }
}
