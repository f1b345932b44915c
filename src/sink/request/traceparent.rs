//! [`Traceparent`]: the header field that names the distributed trace which a request belongs to.

use crate::record::Text;
#[cfg(feature = "_record_requests")]
use http::{HeaderMap, HeaderName};

/// The name of the header field.
#[cfg(feature = "_record_requests")]
pub(crate) const TRACEPARENT: &str = "traceparent";

/// A valid `traceparent` (W3C Trace Context, section 3.2): version, trace, parent and flags. Fields that a later
/// version appends are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traceparent([u8; LENGTH]);

const LENGTH: usize = 55;

#[cfg(feature = "_record_requests")]
impl Traceparent {
    /// Returns the `traceparent` of a request; `None` if there is none, more than one, or an invalid one.
    #[inline]
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        // Parsed once: most requests have no such field, and the search is all that they pay.
        static NAME: HeaderName = HeaderName::from_static(TRACEPARENT);
        let first = headers.get(&NAME)?;
        let is_only = headers.get_all(&NAME).iter().count() == 1;
        is_only.then(|| Self::parse(first.as_bytes())).flatten()
    }

    fn parse(field: &[u8]) -> Option<Self> {
        let (head, rest) = field.split_first_chunk::<LENGTH>()?;
        let (version, trace, parent, flags) = (&head[..2], &head[3..35], &head[36..52], &head[53..]);
        let are_separated = [2, 35, 52].iter().all(|at| head[*at] == b'-');
        let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
        let is_whole = match version {
            b"ff" => false,
            b"00" => rest.is_empty(),
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        let are_valid =
            [version, trace, parent, flags].into_iter().all(is_hex) && !is_zero(trace) && !is_zero(parent);
        (are_separated && is_whole && are_valid).then_some(Traceparent(*head))
    }
}

impl Traceparent {
    pub(in crate::sink) fn text(&self) -> Text {
        str::from_utf8(&self.0).unwrap_or_default().into() // it is ASCII
    }
}

#[cfg(all(test, feature = "_record_requests"))]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(fields: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(TRACEPARENT, field.parse().unwrap());
        }
        Traceparent::of(&headers).map(|parent| parent.text().as_str().to_owned())
    }

    #[test]
    fn a_valid_field_is_kept() {
        assert_eq!(of(&[VALID]).as_deref(), Some(VALID));
    }

    #[test]
    fn a_later_version_may_have_more() {
        let later = VALID.replacen("00", "cc", 1);
        assert_eq!(of(&[&later]).as_deref(), Some(later.as_str()));
        assert_eq!(of(&[&format!("{later}-more")]).as_deref(), Some(later.as_str()));
        assert_eq!(of(&[&format!("{later}more")]), None);
    }

    #[test]
    fn invalid_fields_are_ignored() {
        let zero_trace = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let zero_parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        let invalid = [
            "",
            "00",
            zero_trace,
            zero_parent,
            &VALID.to_uppercase(),
            &VALID.replace('-', "_"),
            &VALID[..54],
            &format!("{VALID}-more"),
            &VALID.replacen("00", "ff", 1),
            &VALID.replacen("00", "0g", 1),
            &VALID.replace("-01", "-0x"),
        ];
        for field in invalid {
            assert_eq!(of(&[field]), None, "{field}");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[VALID, VALID]), None, "two fields");
    }
}
