//! The status of a gRPC call: in the trailers of the response, or in the header of a response without a body
//! (Trailers-Only).

use super::{headers::capture::is_value_wanted, record::RequestRecord};
use crate::{
    record::limits::{LimitedText, MAX_REASON_BYTES},
    sink::core::Core,
};
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use percent_encoding::percent_decode;
use std::sync::atomic::Ordering::Relaxed;

static STATUS: HeaderName = HeaderName::from_static("grpc-status");
static MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The status code for a `grpc-status` that is not a number, as the gRPC protocol defines it.
const UNKNOWN: u16 = 2;

/// Returns `true` if the response is one to a gRPC call over HTTP/2.
#[inline]
pub(in crate::sink) fn is_grpc(headers: &HeaderMap) -> bool {
    let subtype =
        headers.get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"));
    subtype.is_some_and(|rest| rest.first().is_none_or(|next| matches!(next, b'+' | b';')))
}

/// Records the status, if these fields have one.
///
/// Its message is the value of a header field, into which the server may have put anything: it is recorded only where
/// values are.
pub(in crate::sink) fn note(core: &Core, record: &RequestRecord, fields: &HeaderMap) {
    let Some(status) = fields.get(&STATUS) else { return };
    let status =
        status.to_str().ok().and_then(|status| status.parse().ok()).filter(|status| *status < u16::MAX);
    record.grpc_status.store(status.unwrap_or(UNKNOWN) + 1, Relaxed);
    if is_value_wanted(&MESSAGE, &core.config)
        && let Some(message) = fields.get(&MESSAGE)
        && let Some(mut links) = record.open_links()
    {
        links.extras_mut().grpc_message = Some(decoded(message));
    }
}

/// Decodes the percent-encoding of the gRPC protocol.
fn decoded(message: &HeaderValue) -> LimitedText {
    LimitedText::new(percent_decode(message.as_bytes()).decode_utf8_lossy().into_owned(), MAX_REASON_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_content_types_are_recognised() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(is_grpc(&headers), expected, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn messages_are_decoded_and_bounded() {
        for (sent, expected) in [
            ("no such greeting", "no such greeting"),
            ("100%25 sch%C3%B6n%0A", "100% sch\u{f6}n\n"),
            ("%", "%"),
            ("%zz", "%zz"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(decoded(&HeaderValue::from_static(sent)).text(), expected);
        }
        let long = "%C3%B6".repeat(MAX_REASON_BYTES);
        let text = decoded(&long.parse().unwrap());
        assert_eq!(text.text().strip_suffix('…'), Some(&*"ö".repeat(MAX_REASON_BYTES / 2)));
    }
}
