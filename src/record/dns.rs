//! Records of DNS exchanges: queries, replies, answers and their codes.

use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::serde_helpers::{is_default, null_as_default};
use super::trace_list::Record;
use super::{BoxedOrEmpty, EndReason, Failure, Text, Timestamp, TraceId, TruncatedFields};

/// The messages exchanged with a nameserver over one connection (RFC 1035).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct DnsQueryTrace {
    /// The identifier of the exchange.
    #[serde(rename = "traceID")]
    pub trace_id: TraceId,
    /// The dial that the name was looked up for.
    pub from_dial: TraceId,
    /// The UDP or TCP connection that carried the messages.
    pub connection: TraceId,
    /// The HTTP request whose body was the query, over HTTPS (RFC 8484).
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub http_req: BoxedOrEmpty<TraceId>,
    /// The queries sent, in order.
    #[serde(deserialize_with = "null_as_default")]
    pub dns_query_msgs: Vec<DnsQueryMsg>,
    /// The messages received, in order.
    #[serde(deserialize_with = "null_as_default")]
    pub dns_reply_msgs: Vec<DnsReplyMsg>,
    /// When the exchange ended.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub end_at: Timestamp,
    /// Why the exchange brought no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How the exchange ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// The fields that were cut because they exceeded their limit, with their original sizes.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub truncated_fields: BoxedOrEmpty<TruncatedFields>,
}

impl Record for DnsQueryTrace {
    fn trace_id(&self) -> &TraceId {
        &self.trace_id
    }
}

/// A query (RFC 1035 section 4.1).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct DnsQueryMsg {
    /// When the message was written to the socket.
    pub sent_at: Timestamp,
    /// The identifier that matches a reply to its query.
    pub id: u16,
    /// Whether the nameserver is asked to query others (RD).
    pub recursion_desired: bool,
    /// Whether the message is truncated (TC).
    pub truncated: bool,
    /// The length of the message in bytes, without the length prefix over TCP.
    pub size: u32,
    /// The questions.
    #[serde(deserialize_with = "null_as_default")]
    pub questions: Vec<DnsQuestion>,
    /// The maximum length in bytes of a reply over UDP (EDNS, RFC 6891); 0 without EDNS.
    #[serde(rename = "optUDPPayloadSize", skip_serializing_if = "is_default")]
    pub opt_udp_payload_size: u16,
}

/// A question (RFC 1035 section 4.1.2).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct DnsQuestion {
    /// The name that is looked up, ending with a dot.
    pub name: Text,
    /// The type of the requested records.
    pub r#type: DnsResType,
    /// The number of the type, if `type` has no name for it: 64 is SVCB, 65 HTTPS. Otherwise 0.
    #[serde(skip_serializing_if = "is_default")]
    pub type_code: u16,
    /// The class; 1 is the Internet.
    pub class: u16,
}

/// A message received from the nameserver (RFC 1035 section 4.1).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct DnsReplyMsg {
    /// When the message was read from the socket.
    pub recv_at: Timestamp,
    /// The identifier that matches a reply to its query.
    pub id: u16,
    /// Whether the nameserver is an authority for the name (AA).
    pub authoritative: bool,
    /// Whether the nameserver can query others (RA).
    pub recursion_available: bool,
    /// Whether the message is truncated (TC).
    pub truncated: bool,
    /// The length of the message in bytes, without the length prefix over TCP.
    pub size: u32,
    /// The response code; `None` if the message ends before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r_code: Option<DnsRCode>,
    /// The records of the answer section.
    #[serde(deserialize_with = "null_as_default")]
    pub answers: Vec<DnsAnswer>,
    /// Why the message was not accepted as a reply: `id mismatch`, `question mismatch`, `malformed: …`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ignored: String,
    /// Has an entry `answers` with the original count if some were left out.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub truncated_fields: BoxedOrEmpty<TruncatedFields>,
}

/// A resource record (RFC 1035 section 4.1.3).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct DnsAnswer {
    /// The owner name of the record, ending with a dot.
    pub name: Text,
    /// The type of the record.
    pub r#type: DnsResType,
    /// The number of the type, if `type` has no name for it: 64 is SVCB, 65 HTTPS. Otherwise 0.
    #[serde(skip_serializing_if = "is_default")]
    pub type_code: u16,
    /// The class; 1 is the Internet.
    pub class: u16,
    /// The time to live in seconds.
    pub ttl: u32,
    /// The address (A, AAAA) or name (CNAME, NS, PTR, MX) in the record; empty for other types.
    #[serde(skip_serializing_if = "is_default")]
    pub resolved_val: Text,
    /// The data of an SVCB or HTTPS record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub svcb: Option<Box<DnsSvcb>>,
}

/// The data of an SVCB or HTTPS record (RFC 9460): how a service can be reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct DnsSvcb {
    /// The priority, the lowest first; 0 for an alias of `target`.
    pub priority: u16,
    /// The name of the host that offers the service; `.` for the owner of the record, or for no service.
    pub target: Text,
    /// The protocols that are offered, in addition to the scheme's default: `h2`, `h3`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<Text>,
    /// The port, if it is not that of the scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// IPv4 addresses that may be used before those of `target` are known.
    #[serde(
        rename = "ipv4Hints",
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ipv4_hints: Vec<Text>,
    /// IPv6 addresses that may be used before those of `target` are known.
    #[serde(
        rename = "ipv6Hints",
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ipv6_hints: Vec<Text>,
    /// Whether keys for Encrypted ClientHello are offered.
    pub ech: bool,
}

/// Defines an open enum and its conversion from the number on the wire.
macro_rules! numbered_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $(#[$dmeta:meta])* $default:ident = $dtext:literal,
            $( $(#[$vmeta:meta])* $variant:ident = $text:literal, $number:literal; )+
        }
    ) => {
        open_enum! {
            $(#[$meta])*
            pub enum $name {
                $(#[$dmeta])*
                #[default]
                $default = $dtext | "",
                $( $(#[$vmeta])* $variant = $text, )+
            }
        }

        impl From<u16> for $name {
            /// Converts the number on the wire.
            fn from(number: u16) -> Self {
                match number {
                    $( $number => Self::$variant, )+
                    _ => Self::$default,
                }
            }
        }
    };
}

numbered_enum! {
    /// The type of a resource record (IANA, DNS parameters, "Resource Record (RR) TYPEs"), limited to the types that
    /// the Go package has names for.
    pub enum DnsResType {
        /// Any other type.
        Unrecognized = "unrecognized-type",
        /// IPv4 address.
        A = "A", 1;
        /// Name server.
        Ns = "NS", 2;
        /// Alias of another name.
        Cname = "CNAME", 5;
        /// Start of a zone of authority.
        Soa = "SOA", 6;
        /// Well-known services (obsolete).
        Wks = "WKS", 11;
        /// Pointer to another name.
        Ptr = "PTR", 12;
        /// Host information.
        Hinfo = "HINFO", 13;
        /// Mail list information (obsolete).
        Minfo = "MINFO", 14;
        /// Mail exchange.
        Mx = "MX", 15;
        /// Text.
        Txt = "TXT", 16;
        /// IPv6 address.
        Aaaa = "AAAA", 28;
        /// Location of a service.
        Srv = "SRV", 33;
        /// The options of EDNS, which are no record.
        Opt = "OPT", 41;
        /// Transfer of a zone.
        Axfr = "AXFR", 252;
        /// All records.
        All = "ALL", 255;
    }
}

numbered_enum! {
    /// The response code of a nameserver (IANA, DNS parameters, "DNS RCODEs"), limited to the codes that the Go package
    /// has names for.
    pub enum DnsRCode {
        /// Any other code.
        Unrecognized = "unrecognized-rcode",
        /// NOERROR: no error. The reply may still have no answer.
        NoError = "no-error", 0;
        /// FORMERR: the nameserver did not understand the query.
        FormatErr = "format-error", 1;
        /// SERVFAIL: the nameserver failed to get an answer.
        ServFail = "server-fail", 2;
        /// NXDOMAIN: the name does not exist.
        NxDomain = "non-existent-domain", 3;
        /// NOTIMP: the nameserver does not support this kind of query.
        NotImp = "not-implemented", 4;
        /// REFUSED: the nameserver refuses by policy.
        Refused = "query-refused", 5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_numbers_map_to_types_and_codes() {
        assert_eq!(DnsResType::from(28), DnsResType::Aaaa);
        assert_eq!(DnsResType::from(65).as_str(), "unrecognized-type");
        assert_eq!(DnsResType::from(0), DnsResType::Unrecognized);
        assert_eq!(DnsRCode::from(3), DnsRCode::NxDomain);
        assert_eq!(DnsRCode::from(0), DnsRCode::NoError);
        assert_eq!(DnsRCode::from(6).as_str(), "unrecognized-rcode");
    }
}
