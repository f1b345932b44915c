use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::serde_helpers::{is_default, null_as_default};
use super::trace_list::{HasParent, Record};
use super::{BoxedOrEmpty, EndReason, Failure, Text, Timestamp, TraceId, TruncatedFields};

/// An HTTP request and its response. Every hop of a redirect is one of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct HttpReqTrace {
    /// Identifies the request.
    #[serde(rename = "traceID")]
    pub trace_id: TraceId,
    /// The TCP connection that carried the request, or was made for it if it ended before.
    pub tcp_conn: TraceId,
    /// The TLS tunnel with the server.
    #[serde(skip_serializing_if = "TraceId::is_undefined")]
    pub tls_tunnel: TraceId,
    /// Whether this side answered the request, and did not make it. Its times are then those of the server: see
    /// the fields.
    #[serde(skip_serializing_if = "is_default")]
    pub accepted: bool,
    /// The TLS tunnel with an HTTPS proxy.
    #[serde(rename = "proxyTLSTunnel", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub proxy_tls_tunnel: BoxedOrEmpty<TraceId>,
    /// Every connection on which the request was tried, in order; the last is `tcp_conn`. The same one comes again
    /// where an HTTP/2 stream was refused and the request sent once more.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub attempts: BoxedOrEmpty<Vec<Attempt>>,
    /// The request whose response redirected to this one.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub prev_hop: BoxedOrEmpty<TraceId>,
    /// The request for whose connection this one was made, a CONNECT to a proxy.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub triggered_by: BoxedOrEmpty<TraceId>,
    /// Major number of the HTTP version.
    pub proto_major: u8,
    /// Minor number of the HTTP version.
    pub proto_minor: u8,
    /// The proxy, as `scheme://host:port`, with `***@` before the host where it was shown credentials; empty
    /// without one.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub network_proxy: BoxedOrEmpty<Text>,
    /// When the request was handed to the client; of an accepted one, when its head had come and it was handed to
    /// the service.
    pub req_sent_at: Timestamp,
    /// When it got a connection. An accepted one has it from the beginning.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub conn_acquired_at: Timestamp,
    /// When the whole request, with its body, was handed to the connection; of an accepted one, when its body had
    /// been read.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub req_body_end_at: Timestamp,
    /// The method, such as `GET`.
    pub req_method: Text,
    /// The URL.
    #[serde(rename = "reqURL")]
    pub req_url: Text,
    /// The header fields of the request, as far as they are recorded.
    #[serde(skip_serializing_if = "HttpHeaders::is_empty")]
    pub req_header: HttpHeaders,
    /// Bytes of the request's body, as far as the client took them, or the service read them.
    pub req_content_len: u64,
    /// The error of a request that failed, as text.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub req_error: BoxedOrEmpty<Text>,
    /// Why the request failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The code that an HTTP/2 stream was reset with, or its connection given up with (RST_STREAM, GOAWAY), by
    /// whichever side: its name in RFC 9113 section 7, such as `REFUSED_STREAM`, or else hexadecimal, such as `0x1f`.
    /// A reset with `NO_ERROR` is hidden by hyper, and known only of requests of the crate's own client.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub http2_error: BoxedOrEmpty<Text>,
    /// How the request ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// Interim responses (1xx), in order.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub informational: BoxedOrEmpty<Vec<Informational>>,
    /// When the first byte of the response came (HTTP/1 only).
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub first_byte_at: Timestamp,
    /// When the head of the response was complete, or the service had given it.
    pub resp_recv_at: Timestamp,
    /// When the body of the response ended, well or with an error; of an accepted request, when its last part was
    /// handed to the connection.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub resp_body_end_at: Timestamp,
    /// When the request ended: its body was read, or dropped, or it failed.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub end_at: Timestamp,
    /// The status code; 0 without a response.
    pub resp_status_code: u16,
    /// The header fields of the response, as far as they are recorded.
    #[serde(skip_serializing_if = "HttpHeaders::is_empty")]
    pub resp_header: HttpHeaders,
    /// The trailer fields of the response, as far as they are recorded.
    #[serde(skip_serializing_if = "HttpHeaders::is_empty")]
    pub trailers: HttpHeaders,
    /// The status that the response of a gRPC call ended with: 0 for success. Without one the call was cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u16>,
    /// The message of a gRPC status other than success (`grpc-message`). Only recorded with
    /// [`HeaderCapture::Values`](crate::HeaderCapture::Values).
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub grpc_message: BoxedOrEmpty<Text>,
    /// Bytes of the response's body that were read, after decoding, or were handed to the connection.
    #[serde(rename = "RespContentLen")]
    pub resp_content_len: u64,
    /// Bytes of the response's body that were read, before decoding (`Content-Encoding`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resp_encoded_len: Option<u64>,
    /// Fields that were cut because they were over their limit, with their original sizes.
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
    /// Returns `true` if nobody saw the body of the response, as of a redirect that a foreign client followed: its
    /// length of 0 then says nothing.
    pub(crate) fn is_response_body_unobserved(&self) -> bool {
        let is_nothing_counted = self.resp_content_len == 0 && self.resp_encoded_len.unwrap_or_default() == 0;
        is_nothing_counted
            && self.resp_body_end_at.is_undefined()
            && self.end_reason == Some(EndReason::Closed)
    }
}

/// A connection on which a request was tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Attempt {
    /// The TCP connection.
    pub tcp_conn: TraceId,
    /// Why it failed there.
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
    /// When it came.
    pub recv_at: Timestamp,
}

/// The fields of a header or trailer section, in order. Cloning shares them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpHeaders(Option<Arc<Vec<HttpHeaderField>>>);

impl HttpHeaders {
    /// The first field of that name; case does not matter.
    pub fn get(&self, name: &str) -> Option<&HttpHeaderField> {
        self.iter().find(|field| field.field_name.eq_ignore_ascii_case(name))
    }

    /// All fields of that name; case does not matter.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a HttpHeaderField> {
        self.iter().filter(move |field| field.field_name.eq_ignore_ascii_case(name))
    }

    /// Whether there is no field.
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

/// One field of a header or trailer section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct HttpHeaderField {
    /// The field's name.
    pub field_name: String,
    /// The field's value; empty when it is not recorded.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_val: String,
    /// The length of the value; 0 when it is not recorded.
    #[serde(skip_serializing_if = "is_default")]
    pub field_val_len: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_by_name_whatever_the_case() {
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
