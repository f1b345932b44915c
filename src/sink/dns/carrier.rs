//! [`DnsCarrier`]: what carries DNS messages, where that is not a connection of the record's own group.

use crate::sink::record_id::RecordId;
use std::any::Any;

/// A connection that lookups share, which is kept as long as a DNS record refers to it.
///
/// A trait, because the connection's group is above the record of the messages.
pub(in crate::sink) trait DnsCarrier: Any + Send + Sync {
    /// Returns the request whose body was the query, over HTTPS.
    fn http_req(&self) -> Option<RecordId>;

    /// Releases the connection and the request. Called once, when the DNS record is not kept any more.
    fn release(&self);
}
