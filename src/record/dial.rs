use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::serde_helpers::null_as_default;
use super::trace_list::{HasParent, Record};
use super::{BoxedOrEmpty, EndReason, Failure, Text, Timestamp, TraceId, TruncatedFields};

/// An attempt to connect to a remote endpoint, by name or by address.
///
/// It begins with the look-up of the name and ends with an established connection or the last failed
/// attempt. Its [`TcpConnTrace`](super::TcpConnTrace)s, one for each address that was tried, refer to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct DialTrace {
    /// Identifies the dial.
    #[serde(rename = "traceID")]
    pub trace_id: TraceId,
    /// When the dial began.
    pub dial_begin_at: Timestamp,
    /// When the dial ended, with a connection or without.
    pub dial_end_at: Timestamp,
    /// The error of a dial that failed, as text.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub dial_err: BoxedOrEmpty<Text>,
    /// Why the dial failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How the dial ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// When the request that triggered the dial ended, or let go of it.
    pub ctx_close_at: Timestamp,
    /// The request that caused the dial. The connection may come to serve another one.
    #[serde(skip_serializing_if = "TraceId::is_undefined")]
    pub triggered_by: TraceId,
    /// What was dialled, as `host:port`; the host is an address or a name.
    pub dst_address: Text,
    /// When the look-up of the host began.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub resolve_begin_at: Timestamp,
    /// When the look-up of the host ended, with addresses or without.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub resolve_end_at: Timestamp,
    /// Connections that the resolver made, or tried to make, to nameservers.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub resolver_dials: BoxedOrEmpty<Vec<ResolverDialTrace>>,
    /// Nameservers, as `address:port`, that are configured but were not asked.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub skipped_nameservers: BoxedOrEmpty<Vec<Text>>,
    /// Why, for each of `skipped_nameservers`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub skip_reasons: BoxedOrEmpty<Vec<Text>>,
    /// The source address, if one was asked for.
    #[serde(rename = "sourceIP", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub source_ip: BoxedOrEmpty<Text>,
    /// The TCP connection that the dial established.
    #[serde(skip_serializing_if = "TraceId::is_undefined")]
    pub established_conn: TraceId,
    /// Fields that were cut because they were over their limit, with their original sizes.
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
    /// Returns `true` if a name was dialled whose look-up nobody saw, as by somebody else's connector: what is known
    /// of the connection includes it.
    pub(crate) fn is_lookup_unobserved(&self) -> bool {
        let host = self.dst_address.rsplit_once(':').map_or(&*self.dst_address, |(host, _)| host);
        let is_name = !host.is_empty() && host.trim_matches(['[', ']']).parse::<IpAddr>().is_err();
        // The Go package, which does not say how a dial ended, sees look-ups and handshakes by themselves.
        let is_ours = self.end_reason.is_some();
        is_ours && is_name && self.resolve_begin_at.is_undefined() && self.resolver_dials.is_empty()
    }
}

/// One connection of the resolver to a nameserver, made or only tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct ResolverDialTrace {
    /// When the attempt began.
    pub dial_begin_at: Timestamp,
    /// When the attempt ended, with a connection or without.
    pub dial_end_at: Timestamp,
    /// The error of an attempt that failed, as text.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub dial_err: BoxedOrEmpty<Text>,
    /// Why the attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The nameserver, as `address:port`.
    pub nameserver: Text,
    /// The UDP or TCP connection that was made.
    #[serde(skip_serializing_if = "TraceId::is_undefined")]
    pub established_conn: TraceId,
}
