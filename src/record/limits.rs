//! Limits for every text and list in a record whose content is not under this program's control.
//!
//! A record holds text of peers, of the user's program and of the operating system, which can be of any length. A text
//! or list over its limit is cut before it is kept: a text ends in [`TRUNCATION_MARK`], a list keeps its first entries,
//! and the record names the field with its original size in [`TruncatedFields`]. [`Retention`](crate::Retention) bounds
//! the memory of all records that have ended. Running ones are bounded by these limits alone.
//!
//! The table says who controls the content of each field, and what bounds it. Times, numbers, codes, enums and
//! identifiers have a fixed size and are left out.
//!
//! | record | field | content decided by | bound |
//! |---|---|---|---|
//! | `HttpReqTrace` | `reqURL` | the user; a redirecting server; of an accepted request, any client | [`MAX_URL_BYTES`] |
//! | | `reqMethod` | the user; of an accepted request, any client | [`MAX_METHOD_BYTES`] |
//! | | `reqHeader`, `respHeader`, `trailers` | both sides; off by default | [`MAX_HEADER_BYTES`], [`MAX_HEADER_FIELDS`]; a value that was cut has its length in `fieldValLen` |
//! | | `reqError` | any error: GOAWAY's debug data (RFC 9113 section 6.8), a proxy's reason, names of hosts | [`MAX_ERROR_BYTES`] |
//! | | `grpcMessage` | the server | [`MAX_REASON_BYTES`] |
//! | | `informational` | the server | [`MAX_REQUEST_LINKS`] |
//! | | `attempts` | the server, which refuses or closes | [`MAX_REQUEST_LINKS`], of which the oldest go |
//! | | `prevHop` | the server, which redirects | [`MAX_REQUEST_HOPS`] |
//! | | `networkProxy` | the user | none |
//! | | `tags` | the user | [`MAX_TAGS`], [`MAX_TAG_KEY_BYTES`] and [`MAX_TAG_VALUE_BYTES`] each; the number is in `truncatedFields`, a text that was cut is not |
//! | | `traceparent` | the user; of an accepted request, any client | 55 bytes, of a fixed form |
//! | every record | `failure` | the text after `unknown_failure: ` is that of any error | [`MAX_ERROR_BYTES`]; not named in `truncatedFields`, as the error's text is |
//! | `DialTrace` | `dstAddress` | the user; a redirecting server | [`MAX_ADDRESS_BYTES`] |
//! | | `dialErr`, `resolverDials[].dialErr` | any error | [`MAX_ERROR_BYTES`] |
//! | | `resolverDials` | the user: nameservers, search domains and attempts | none |
//! | | `skippedNameservers`, `skipReasons` | the user | [`MAX_REASON_BYTES`] a reason, one for each nameserver |
//! | `TcpConnTrace`, `UdpConnTrace` | `connErr`, `handshakeErr` | any error | [`MAX_ERROR_BYTES`] |
//! | | `unixPath` | the user; of an accepted connection, its client | 108 bytes (`sun_path`) |
//! | | `socketTrace` | the peer: how much comes in one read | [`Retention::socket_ops`](crate::Retention::socket_ops) |
//! | | `socketTrace.socketOps[].returnErr` | the stream below | [`MAX_ERROR_BYTES`], 16 texts |
//! | | `tcpInfo`, `conntrack`, `icmpError` | the kernel | fixed size |
//! | | `wire.http2.goAways` | both sides: the debug data of a GOAWAY frame | the first 8 frames, [`MAX_DEBUG_DATA_BYTES`] each; not named in `truncatedFields` |
//! | `SocksTrace` | `target` | the user; a redirecting server | [`MAX_ADDRESS_BYTES`] |
//! | | `handshakeErr` | any error | [`MAX_ERROR_BYTES`] |
//! | `TlsTunnelTrace` | `peerCerts` | the peer, also one that is not trusted | [`MAX_CERTIFICATES`] |
//! | | `serverName` | the user; of an accepted tunnel, its client | 253 bytes: rustls takes DNS names alone |
//! | | `negotiatedProto` | one of those that this side offers; over a relay, the server | 255 bytes (RFC 7301), four times that escaped |
//! | | `alert`, `tlsVersion`, `keyExchangeGroup` | the peer | names of this crate |
//! | | `handshakeErr`, `connErr` | any error, such as rustls' on names of a certificate | [`MAX_ERROR_BYTES`] |
//! | `PeerCert` | `subject`, `issuer` | the peer | [`MAX_DISTINGUISHED_NAME_BYTES`] |
//! | | `sans` | the peer | [`MAX_CERTIFICATE_SANS`], [`MAX_CHAIN_SAN_BYTES`] for the whole chain |
//! | `DnsQueryTrace` | `dnsReplyMsgs` | whoever answers, also in the nameserver's name | those that are used: the resolver, which sends a query a limited number of times; others: [`MAX_DNS_IGNORED_REPLIES`] |
//! | | `dnsReplyMsgs[].answers` | whoever answers | [`MAX_DNS_ANSWERS`]; their texts [`MAX_DNS_REPLY_ANSWER_BYTES`] in a reply that is used, [`MAX_DNS_IGNORED_ANSWER_BYTES`] in all others together |
//!
//! `Retention::connections` bounds the number of connections and dials in a slice.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::{BoxedOrEmpty, Empty, Text};

/// The maximum length of a URL in bytes: request targets, redirect targets, and what an accepted request asks for.
#[cfg(feature = "_record_requests")]
pub(crate) const MAX_URL_BYTES: usize = 8 << 10;
/// The maximum length in bytes of an error's text with that of its sources.
pub(crate) const MAX_ERROR_BYTES: usize = 1 << 10;
/// The maximum length in bytes of a peer's reason: a reason phrase, a gRPC status message.
#[cfg(any(feature = "request", feature = "resolve"))]
pub(crate) const MAX_REASON_BYTES: usize = 1 << 10;
/// The maximum length in bytes of the debug data of a GOAWAY frame.
#[cfg(feature = "wire")]
pub(crate) const MAX_DEBUG_DATA_BYTES: usize = 256;
/// The maximum length of an HTTP method in bytes.
#[cfg(feature = "_record_requests")]
pub(crate) const MAX_METHOD_BYTES: usize = 64;
/// The maximum length in bytes of a `host:port` or server name. A DNS name has at most 253 bytes.
#[cfg(feature = "connect")]
pub(crate) const MAX_ADDRESS_BYTES: usize = 512;
/// The maximum length in bytes of a recorded header or trailer section: names and values.
#[cfg(feature = "_record_requests")]
pub(crate) const MAX_HEADER_BYTES: usize = 64 << 10;
/// The maximum number of recorded fields of a header or trailer section.
#[cfg(feature = "_record_requests")]
pub(crate) const MAX_HEADER_FIELDS: usize = 256;
/// The maximum number of connections, of dials, of CONNECT requests and of interim responses that one request refers
/// to.
#[cfg(any(feature = "connect", feature = "request"))]
pub(crate) const MAX_REQUEST_LINKS: usize = 64;
/// The maximum number of requests in a chain of redirects.
#[cfg(feature = "_record_requests")]
pub(crate) const MAX_REQUEST_HOPS: u8 = 64;
/// The maximum number of tags of a request.
pub(crate) const MAX_TAGS: usize = 32;
/// The maximum length in bytes of the key of a tag.
pub(crate) const MAX_TAG_KEY_BYTES: usize = 64;
/// The maximum length in bytes of the value of a tag.
pub(crate) const MAX_TAG_VALUE_BYTES: usize = 256;
/// The maximum number of answers of a DNS reply.
#[cfg(feature = "resolve")]
pub(crate) const MAX_DNS_ANSWERS: usize = 256;
/// The maximum length in bytes of all answers of an accepted DNS reply, as text.
#[cfg(feature = "resolve")]
pub(crate) const MAX_DNS_REPLY_ANSWER_BYTES: usize = 8 << 10;
/// The maximum number of recorded DNS replies that were ignored, for one query.
#[cfg(feature = "resolve")]
pub(crate) const MAX_DNS_IGNORED_REPLIES: usize = 16;
/// The maximum length in bytes of the answers of all ignored replies to one query, as text.
#[cfg(feature = "resolve")]
pub(crate) const MAX_DNS_IGNORED_ANSWER_BYTES: usize = 4 << 10;
/// The maximum number of certificates of a chain.
#[cfg(feature = "tls")]
pub(crate) const MAX_CERTIFICATES: usize = 8;
/// The maximum number of Subject Alternative Names of a certificate.
#[cfg(feature = "tls")]
pub(crate) const MAX_CERTIFICATE_SANS: usize = 100;
/// The maximum length in bytes of all Subject Alternative Names of a chain, with [`SAN_OVERHEAD_BYTES`] for each.
#[cfg(feature = "tls")]
pub(crate) const MAX_CHAIN_SAN_BYTES: usize = 8 << 10;
/// The memory in bytes that a Subject Alternative Name takes in addition to its text.
#[cfg(feature = "tls")]
pub(crate) const SAN_OVERHEAD_BYTES: usize = size_of::<String>();
/// The maximum length in bytes of a distinguished name as text, escapes included.
#[cfg(feature = "tls")]
pub(crate) const MAX_DISTINGUISHED_NAME_BYTES: usize = 512;

/// The last character of every text that was cut (U+2026).
pub(crate) const TRUNCATION_MARK: char = '…';

/// Returns the first `max_bytes` of a longer text, followed by [`TRUNCATION_MARK`]. Returns `None` if the text is
/// within the limit.
///
/// The mark is not counted. The cut is at a character boundary, so up to three bytes fewer are kept.
pub(crate) fn truncate(text: &str, max_bytes: usize) -> Option<String> {
    if text.len() <= max_bytes {
        return None;
    }
    let end = (0..=max_bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let mut cut = String::with_capacity(end + TRUNCATION_MARK.len_utf8());
    cut.push_str(&text[..end]);
    cut.push(TRUNCATION_MARK);
    Some(cut)
}

/// Returns the text, cut to `max_bytes` if it is longer.
pub(crate) fn limit(text: impl Into<String>, max_bytes: usize) -> String {
    let text = text.into();
    truncate(&text, max_bytes).unwrap_or(text)
}

/// A text within its limit, with its original size if it was cut. As large as a [`Text`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(any(loom, feature = "_record")),
    expect(dead_code, reason = "read in each set of features, made only where something is recorded")
)]
pub(crate) enum LimitedText {
    Whole(Text),
    Truncated(Box<TruncatedText>),
}

/// A text that was cut, with its original size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TruncatedText {
    text: Text,
    original_bytes: NonZeroU32,
}

impl LimitedText {
    /// Returns the text, cut to `max_bytes` if it is longer.
    #[cfg(any(loom, feature = "_record"))]
    #[inline]
    pub(crate) fn new(text: impl Into<Text>, max_bytes: usize) -> Self {
        let text = text.into();
        if text.len() <= max_bytes { LimitedText::Whole(text) } else { Self::cut(&text, max_bytes) }
    }

    #[cfg(any(loom, feature = "_record"))]
    #[cold]
    fn cut(text: &str, max_bytes: usize) -> Self {
        let cut = truncate(text, max_bytes).zip(original_size(text.len()));
        let (cut, original_bytes) = cut.expect("it is longer than its limit");
        LimitedText::Truncated(Box::new(TruncatedText { text: cut.into(), original_bytes }))
    }

    /// Returns the text, which ends with the mark if it was cut.
    pub(crate) fn text(&self) -> &Text {
        match self {
            LimitedText::Whole(text) => text,
            LimitedText::Truncated(cut) => &cut.text,
        }
    }

    /// Returns the original length in bytes, if the text was cut.
    pub(crate) fn original_bytes(&self) -> Option<NonZeroU32> {
        match self {
            LimitedText::Whole(_) => None,
            LimitedText::Truncated(cut) => Some(cut.original_bytes),
        }
    }

    /// Returns the heap memory in use, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            LimitedText::Whole(text) => text.heap_bytes(),
            LimitedText::Truncated(cut) => size_of::<TruncatedText>() + cut.text.heap_bytes(),
        }
    }
}

/// Converts an original size for [`TruncatedFields`]. Sizes beyond `u32` become `u32::MAX`.
pub(crate) fn original_size(size: usize) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(size).unwrap_or(u32::MAX))
}

/// The fields of a record that were cut: the JSON name of each and its original size.
///
/// The size of a text is its length in bytes, that of a list its number of entries. Empty if nothing was cut.
///
/// ```
/// # let json = r#"{"httpRequests": [{"reqURL": "http://a.test/aa…", "truncatedFields": {"reqURL": 61440}}]}"#;
/// let trace: nettrace::NetTrace = serde_json::from_str(json)?;
/// for request in &trace.http_requests {
///     if let Some(bytes) = request.truncated_fields.get("reqURL") {
///         println!("{} (the first of {bytes} bytes)", request.req_url);
///     }
/// }
/// # assert_eq!(trace.http_requests[0].truncated_fields.get("reqURL"), Some(61_440));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TruncatedFields(BTreeMap<Text, u64>);

impl TruncatedFields {
    /// The memory in bytes that a non-empty instance takes, itself included. A tree node has room for eleven entries.
    #[cfg(feature = "tls")]
    pub(crate) const BYTES: usize = 512;

    /// Returns the original size of the field with this JSON name, or `None` if it was not cut.
    pub fn get(&self, field: &str) -> Option<u64> {
        self.0.get(field).copied()
    }

    /// Sets the original size of a field that was cut.
    pub fn insert(&mut self, field: impl Into<Text>, size: u64) {
        self.0.insert(field.into(), size);
    }

    /// Returns `true` if nothing was cut.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the fields that were cut, with their original sizes, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(field, size)| (field.as_str(), *size))
    }
}

impl Empty for TruncatedFields {
    const EMPTY: &'static Self = &TruncatedFields(BTreeMap::new());

    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl<'a> IntoIterator for &'a TruncatedFields {
    type Item = (&'a Text, &'a u64);
    type IntoIter = btree_map::Iter<'a, Text, u64>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl BoxedOrEmpty<TruncatedFields> {
    /// Sets the original size of a field if it was cut.
    pub(crate) fn note(&mut self, field: &'static str, size: Option<NonZeroU32>) {
        if let Some(size) = size {
            self.insert(Text::from_static(field), size.get().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(truncate("abc", 3), None);
        assert_eq!(truncate("abcd", 3).as_deref(), Some("abc…"));
        assert_eq!(truncate("aöö", 4).as_deref(), Some("aö…"));
        assert_eq!(truncate("ö", 1).as_deref(), Some("…"));
        assert_eq!(truncate("", 0), None);
    }

    #[cfg(feature = "_record")]
    #[test]
    fn a_limited_text_knows_its_size() {
        assert_eq!(size_of::<LimitedText>(), size_of::<Text>());
        let whole = LimitedText::new("abc", 3);
        assert_eq!((whole.text().as_str(), whole.original_bytes()), ("abc", None));
        let cut = LimitedText::new("abcöö", 4);
        assert_eq!((cut.text().as_str(), cut.original_bytes()), ("abc…", NonZeroU32::new(7)));
    }

    #[test]
    fn without_truncation_no_memory_is_taken() {
        let mut truncated = BoxedOrEmpty::<TruncatedFields>::new();
        assert_eq!(size_of_val(&truncated), size_of::<usize>());
        truncated.note("reqURL", None);
        assert!(truncated.is_empty());
        truncated.note("reqURL", original_size(61_440));
        truncated.note("reqError", original_size(2_000));
        let json = serde_json::to_string(&truncated).unwrap();
        assert_eq!(json, r#"{"reqError":2000,"reqURL":61440}"#);
        assert_eq!(serde_json::from_str::<BoxedOrEmpty<TruncatedFields>>(&json).unwrap(), truncated);
        assert_eq!(truncated.iter().collect::<Vec<_>>(), [("reqError", 2_000), ("reqURL", 61_440)]);
    }
}
