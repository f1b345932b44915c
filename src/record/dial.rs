//! Records of dials, with the connections of their lookups.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::serde_helpers::null_as_default;
use super::trace_list::{HasParent, Record};
use super::{BoxedOrEmpty, EndReason, Failure, Text, Timestamp, TraceId, TruncatedFields};

/// An attempt to connect to a remote endpoint, by name or by address.
///
/// It begins with the lookup of the name and ends with an established connection or the last failed attempt. The
/// [`TcpConnTrace`](super::TcpConnTrace)s of its attempts, one for each address, refer to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct DialTrace {
    /// The identifier of the dial.
    #[serde(rename = "traceID")]
    pub trace_id: TraceId,
    /// When the dial began.
    pub dial_begin_at: Timestamp,
    /// When the dial ended, successfully or not.
    pub dial_end_at: Timestamp,
    /// The text of the error, if the dial failed.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub dial_err: BoxedOrEmpty<Text>,
    /// Why the dial failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How the dial ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// When the request that triggered the dial ended or no longer needed it.
    pub ctx_close_at: Timestamp,
    /// The request that triggered the dial. The connection may serve another request.
    #[serde(skip_serializing_if = "TraceId::is_undefined")]
    pub triggered_by: TraceId,
    /// The destination, as `host:port`. The host is an address or a name.
    pub dst_address: Text,
    /// When the lookup of the host began.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub resolve_begin_at: Timestamp,
    /// When the lookup of the host ended, successfully or not.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub resolve_end_at: Timestamp,
    /// The connections to nameservers that the resolver made or tried to make.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub resolver_dials: BoxedOrEmpty<Vec<ResolverDialTrace>>,
    /// The configured nameservers that were not queried, as `address:port`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub skipped_nameservers: BoxedOrEmpty<Vec<Text>>,
    /// The reason for each of `skipped_nameservers`, in the same order.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub skip_reasons: BoxedOrEmpty<Vec<Text>>,
    /// The source address, if one is configured.
    #[serde(rename = "sourceIP", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub source_ip: BoxedOrEmpty<Text>,
    /// The TCP connection that the dial established.
    #[serde(skip_serializing_if = "TraceId::is_undefined")]
    pub established_conn: TraceId,
    /// The fields that were cut because they exceeded their limit, with their original sizes.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub truncated_fields: BoxedOrEmpty<TruncatedFields>,
}

impl Record for DialTrace {
    fn trace_id(&self) -> &TraceId {
        &self.trace_id
    }
}

impl HasParent for DialTrace {
    fn parent(&self) -> &TraceId {
        &self.triggered_by
    }
}

impl DialTrace {
    /// Returns `true` if the lookup of the dialled name was not observed, as in a foreign connector. The times of the
    /// connection then include it.
    pub(crate) fn is_lookup_unobserved(&self) -> bool {
        // The Go package, which writes no end reasons, observes lookups and handshakes separately.
        let is_ours = self.end_reason.is_some();
        is_ours
            && self.resolve_begin_at.is_undefined()
            && self.resolver_dials.is_empty()
            && is_host_name(&self.dst_address)
    }
}

/// Returns `true` if an address is a name with a port, and no IP address.
pub(crate) fn is_host_name(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    !host.is_empty() && host.trim_matches(['[', ']']).parse::<IpAddr>().is_err()
}

/// A connection of the resolver to a nameserver, established or only attempted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct ResolverDialTrace {
    /// When the attempt began.
    pub dial_begin_at: Timestamp,
    /// When the attempt ended, successfully or not.
    pub dial_end_at: Timestamp,
    /// The text of the error, if the attempt failed.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub dial_err: BoxedOrEmpty<Text>,
    /// Why the attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The nameserver, as `address:port`; over TLS or HTTPS as it is configured, such as `tls://192.0.2.1#dns.example`.
    /// The query of a URL is written as `?***`.
    pub nameserver: Text,
    /// The UDP or TCP connection, if it was established.
    #[serde(skip_serializing_if = "TraceId::is_undefined")]
    pub established_conn: TraceId,
    /// Over TLS or HTTPS, the dial that made the connection, which several lookups share. It has the lookup of the
    /// nameserver's name, and failed attempts.
    #[serde(skip_serializing_if = "TraceId::is_undefined")]
    pub shared_dial: TraceId,
}
