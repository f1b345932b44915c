//! Records of HTTP requests, with their attempts, interim responses and header fields.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::serde_helpers::{is_default, null_as_default};
use super::trace_list::{HasParent, Record};
use super::{BoxedOrEmpty, EndReason, Failure, PoolCheckout, Text, Timestamp, TraceId, TruncatedFields};

/// An HTTP request and its response. Each hop of a redirect is a record of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct HttpReqTrace {
    /// The identifier of the request.
    #[serde(rename = "traceID")]
    pub trace_id: TraceId,
    /// The TCP connection that carried the request, or that was made for it if the request ended before it was sent.
    pub tcp_conn: TraceId,
    /// The TLS tunnel to the server.
    #[serde(skip_serializing_if = "TraceId::is_undefined")]
    pub tls_tunnel: TraceId,
    /// Whether this side is the server and answered the request. Its times then have the meaning given with each field.
    #[serde(skip_serializing_if = "is_default")]
    pub accepted: bool,
    /// The TLS tunnel to an HTTPS proxy.
    #[serde(rename = "proxyTLSTunnel", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub proxy_tls_tunnel: BoxedOrEmpty<TraceId>,
    /// The connections on which the request was tried, in order. The last is `tcp_conn`. A connection appears twice if
    /// it refused the HTTP/2 stream and the request was sent on it again.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub attempts: BoxedOrEmpty<Vec<Attempt>>,
    /// The request whose response redirected to this one.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub prev_hop: BoxedOrEmpty<TraceId>,
    /// The request for which this one was made: for a CONNECT to a proxy the one whose connection it prepared, for
    /// others the accepted request that the program was answering.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub triggered_by: BoxedOrEmpty<TraceId>,
    /// The major number of the HTTP version.
    pub proto_major: u8,
    /// The minor number of the HTTP version.
    pub proto_minor: u8,
    /// The proxy, as `scheme://host:port`; empty without one. `***@` before the host stands for credentials.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub network_proxy: BoxedOrEmpty<Text>,
    /// The header field `traceparent` (W3C Trace Context), which names the distributed trace that the request belongs
    /// to and the caller's place in it. Both sides of the request have the same one.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub traceparent: BoxedOrEmpty<Text>,
    /// The identifier of the `tracing` span in which the request was made or answered, a decimal number. Identifiers
    /// are reused after a span is closed.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub tracing_span: BoxedOrEmpty<Text>,
    /// What the program wrote on the request, see [`RequestHandle::tag`](crate::RequestHandle::tag).
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub tags: BoxedOrEmpty<BTreeMap<Text, Text>>,
    /// Whether the request was read from the bytes of its connection, and not seen where it was made or answered. Its
    /// times are then those at which bytes passed.
    #[serde(skip_serializing_if = "is_default")]
    pub seen_on_wire: bool,
    /// How the client's pool gave the request its connection. `None` for other clients, and for accepted requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Box<PoolCheckout>>,
    /// The identifier of the request's HTTP/2 stream, as far as it is known.
    #[serde(rename = "streamID", skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<NonZeroU32>,
    /// The time in microseconds from when the request's body used up a window of HTTP/2 until the server allowed more
    /// (RFC 9113 section 5.2). If other requests have used up the window of the connection and the body goes on later,
    /// the time in between is included, in which the body may have had nothing to send. Known only if the request was
    /// read from the wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_wait_us: Option<NonZeroU32>,
    /// When the request was handed to the client. For an accepted request, when its head had arrived and the service
    /// was called.
    pub req_sent_at: Timestamp,
    /// When the request got a connection. For an accepted request, the same as `req_sent_at`.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub conn_acquired_at: Timestamp,
    /// When the whole request, body included, was handed to the connection. For an accepted request, when the service
    /// had read its body.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub req_body_end_at: Timestamp,
    /// The method, such as `GET`.
    pub req_method: Text,
    /// The URL.
    #[serde(rename = "reqURL")]
    pub req_url: Text,
    /// The recorded header fields of the request.
    #[serde(skip_serializing_if = "HttpHeaders::is_empty")]
    pub req_header: HttpHeaders,
    /// The number of bytes of the request's body that the client took, or that the service read.
    pub req_content_len: u64,
    /// The text of the error, if the request failed.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub req_error: BoxedOrEmpty<Text>,
    /// Why the request failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The error code of the RST_STREAM or GOAWAY that ended the request, from either side.
    ///
    /// It is the name in RFC 9113 section 7, such as `REFUSED_STREAM`, or a hexadecimal number, such as `0x1f`. hyper
    /// hides a reset with `NO_ERROR`, so that it is known for requests of this crate's client only.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub http2_error: BoxedOrEmpty<Text>,
    /// How the request ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// Interim responses (1xx), in order.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub informational: BoxedOrEmpty<Vec<Informational>>,
    /// When the first byte of the response arrived. Over HTTP/2 it is known only if the request was read from the
    /// wire.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub first_byte_at: Timestamp,
    /// When the head of the response was complete. For an accepted request, when the service returned it.
    pub resp_recv_at: Timestamp,
    /// When the body of the response ended, successfully or not. For an accepted request, when its last part was handed
    /// to the connection.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub resp_body_end_at: Timestamp,
    /// When the request ended: the response's body was read or dropped, or the request failed.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub end_at: Timestamp,
    /// The status code; 0 without a response.
    pub resp_status_code: u16,
    /// The recorded header fields of the response.
    #[serde(skip_serializing_if = "HttpHeaders::is_empty")]
    pub resp_header: HttpHeaders,
    /// The recorded trailer fields of the response.
    #[serde(skip_serializing_if = "HttpHeaders::is_empty")]
    pub trailers: HttpHeaders,
    /// The status of a gRPC call: 0 for success. `None` if the call was cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u16>,
    /// The message of a gRPC status other than success (`grpc-message`). Only recorded with
    /// [`HeaderCapture::Values`](crate::HeaderCapture::Values).
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub grpc_message: BoxedOrEmpty<Text>,
    /// The number of bytes of the response's body that were read, after decoding, or that were handed to the
    /// connection.
    #[serde(rename = "RespContentLen")]
    pub resp_content_len: u64,
    /// The number of bytes of the response's body that were read, before decoding (`Content-Encoding`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resp_encoded_len: Option<u64>,
    /// The fields that were cut because they exceeded their limit, with their original sizes.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub truncated_fields: BoxedOrEmpty<TruncatedFields>,
}

impl Record for HttpReqTrace {
    fn trace_id(&self) -> &TraceId {
        &self.trace_id
    }
}

impl HasParent for HttpReqTrace {
    fn parent(&self) -> &TraceId {
        &self.triggered_by
    }
}

impl HttpReqTrace {
    /// Returns `true` if the request failed, timed out, or got a status of 5xx.
    pub(crate) fn has_failed(&self) -> bool {
        self.end_reason.as_ref().is_some_and(EndReason::is_failure) || self.resp_status_code >= 500
    }

    /// Returns `true` if the body of the response was not observed, as of a redirect that a foreign client followed, or
    /// where the program reads it untraced. Its length of 0 is then unknown.
    pub(crate) fn is_response_body_unobserved(&self) -> bool {
        let is_nothing_counted = self.resp_content_len == 0 && self.resp_encoded_len.unwrap_or_default() == 0;
        is_nothing_counted
            && self.resp_body_end_at.is_undefined()
            && matches!(self.end_reason, Some(EndReason::Closed | EndReason::Unobserved))
    }

    /// Returns the version of HTTP as in the semantic conventions of OpenTelemetry (`network.protocol.version`); `None` if
    /// there is no such version.
    pub(crate) fn protocol_version(&self) -> Option<&'static str> {
        match (self.proto_major, self.proto_minor) {
            (0, 9) => Some("0.9"),
            (1, 0) => Some("1.0"),
            (1, 1) => Some("1.1"),
            (2, _) => Some("2"),
            (3, _) => Some("3"),
            _ => None,
        }
    }
}

/// A connection on which a request was tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Attempt {
    /// The TCP connection.
    pub tcp_conn: TraceId,
    /// Why the request failed on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// An interim response (RFC 9110 section 15.2).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Informational {
    /// The status code, 100 to 199.
    pub status: u16,
    /// When the response arrived.
    pub recv_at: Timestamp,
}

/// The fields of a header or trailer section, in order. Clones share them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpHeaders(Option<Arc<Vec<HttpHeaderField>>>);

impl HttpHeaders {
    /// Returns the first field with this name, ignoring case.
    pub fn get(&self, name: &str) -> Option<&HttpHeaderField> {
        self.iter().find(|field| field.field_name.eq_ignore_ascii_case(name))
    }

    /// Returns all fields with this name, ignoring case.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a HttpHeaderField> {
        self.iter().filter(move |field| field.field_name.eq_ignore_ascii_case(name))
    }

    /// Returns `true` if there are no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Deref for HttpHeaders {
    type Target = [HttpHeaderField];

    fn deref(&self) -> &[HttpHeaderField] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

impl From<Vec<HttpHeaderField>> for HttpHeaders {
    fn from(fields: Vec<HttpHeaderField>) -> Self {
        Self((!fields.is_empty()).then(|| Arc::new(fields)))
    }
}

impl FromIterator<HttpHeaderField> for HttpHeaders {
    fn from_iter<I: IntoIterator<Item = HttpHeaderField>>(fields: I) -> Self {
        Vec::from_iter(fields).into()
    }
}

impl<'a> IntoIterator for &'a HttpHeaders {
    type Item = &'a HttpHeaderField;
    type IntoIter = std::slice::Iter<'a, HttpHeaderField>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Serialize for HttpHeaders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for HttpHeaders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        null_as_default::<Vec<_>, D>(deserializer).map(Self::from)
    }
}

/// A field of a header or trailer section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct HttpHeaderField {
    /// The field's name.
    pub field_name: String,
    /// The field's value; empty if it is not recorded.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_val: String,
    /// The length of the value in bytes; 0 if it is not recorded.
    #[serde(skip_serializing_if = "is_default")]
    pub field_val_len: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_by_name_ignoring_case() {
        let field = |name: &str, value: &str| HttpHeaderField {
            field_name: name.into(),
            field_val: value.into(),
            field_val_len: value.len() as u32,
        };
        let headers = HttpHeaders::from_iter([
            field("Set-Cookie", "a"),
            field("Date", "now"),
            field("set-cookie", "b"),
        ]);
        assert_eq!(headers.get("DATE").unwrap().field_val, "now");
        assert_eq!(headers.get("set-COOKIE").unwrap().field_val, "a");
        assert_eq!(headers.get_all("set-cookie").count(), 2);
        assert!(headers.get("").is_none());
        assert_eq!(headers.len(), 3);
    }
}
