//! The header field `traceparent` of a request (W3C Trace Context), and what is meant by it.

use super::ids::{OtelSpanId, OtelTraceId};

/// The span that the `traceparent` of a request names, if the program made the request.
///
/// A record has the field as it was sent, and not what wrote it. Of a request that the program answers, it always names
/// a span of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceparentMeaning {
    /// The caller: the span in which the request was made, which the program's own instrumentation exports. The
    /// exported span of the request is its child. The default.
    #[default]
    Caller,
    /// The request itself: whatever wrote the field made a span for the request, and exports none. The exported span
    /// has the identifier that the field names, so that the server's spans are its children. If requests have the same
    /// field, as those of a redirect may, the first of them is that span.
    Request,
}

/// A valid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traceparent {
    pub(super) trace_id: OtelTraceId,
    pub(super) parent: OtelSpanId,
    pub(super) flags: u8,
}

impl Traceparent {
    /// Parses the field; `None` if there is none, or an invalid one.
    pub(super) fn parse(field: &str) -> Option<Self> {
        let mut parts = field.split('-');
        let version: [u8; 1] = bytes(parts.next()?)?;
        let (trace_id, parent) = (bytes(parts.next()?)?, bytes(parts.next()?)?);
        let [flags] = bytes(parts.next()?)?;
        // Later versions may have more fields.
        let is_whole = parts.next().is_none() || version != [0];
        let is_valid = version != [0xff] && trace_id != [0; 16] && parent != [0; 8] && is_whole;
        is_valid.then_some(Traceparent { trace_id: OtelTraceId(trace_id), parent: OtelSpanId(parent), flags })
    }
}

/// Reads lower-case hexadecimal digits.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_field_is_read() {
        let expected = Traceparent {
            trace_id: OtelTraceId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes()),
            parent: OtelSpanId(0x00f0_67aa_0ba9_02b7_u64.to_be_bytes()),
            flags: 1,
        };
        assert_eq!(Traceparent::parse(VALID), Some(expected));
        assert_eq!(Traceparent::parse(&format!("{}-more", VALID.replacen("00", "cc", 1))), Some(expected));
    }

    #[test]
    fn invalid_fields_are_ignored() {
        for invalid in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            &VALID.to_uppercase(),
            &VALID.replacen("00", "ff", 1),
            &VALID.replace("b7-", "bž-"),
            &VALID[..54],
            &format!("{VALID}-more"),
            &format!("{VALID}0"),
        ] {
            assert_eq!(Traceparent::parse(invalid), None, "{invalid}");
        }
    }
}
