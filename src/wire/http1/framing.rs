//! How the body of an HTTP/1 message is delimited (RFC 9112 section 6.3).

use crate::record::WireStop;
use http::{Method, StatusCode};
use httparse::Header;

/// How the body of a message is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    None,
    /// A number of bytes, not zero.
    Length(u64),
    Chunked,
    /// The rest of what the peer sends.
    UntilClose,
}

impl BodyFraming {
    /// Returns the framing of a request's body.
    pub(super) fn of_request(fields: &[Header<'_>]) -> Result<Self, WireStop> {
        match transfer_coding(fields) {
            TransferCoding::None => {
                content_length(fields).map(|length| length.map_or(Self::None, Self::length))
            }
            TransferCoding::Chunked => Ok(Self::Chunked),
            TransferCoding::Other => Err(WireStop::BodyFraming),
        }
    }

    /// Returns the framing of the body of a final response to a request with this method, which did not switch to
    /// another protocol.
    pub(super) fn of_response(
        method: &Method,
        status: StatusCode,
        fields: &[Header<'_>],
    ) -> Result<Self, WireStop> {
        if method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(Self::None);
        }
        match transfer_coding(fields) {
            TransferCoding::None => {
                content_length(fields).map(|length| length.map_or(Self::UntilClose, Self::length))
            }
            TransferCoding::Chunked => Ok(Self::Chunked),
            TransferCoding::Other => Ok(Self::UntilClose),
        }
    }

    fn length(length: u64) -> Self {
        if length == 0 { Self::None } else { Self::Length(length) }
    }
}

enum TransferCoding {
    None,
    /// Chunked is the last coding.
    Chunked,
    Other,
}

fn transfer_coding(fields: &[Header<'_>]) -> TransferCoding {
    let codings = values(fields, "transfer-encoding").flat_map(|value| value.split(|byte| *byte == b','));
    match codings.map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty()).last() {
        None => TransferCoding::None,
        Some(last) if last.eq_ignore_ascii_case(b"chunked") => TransferCoding::Chunked,
        Some(_) => TransferCoding::Other,
    }
}

/// Returns the declared length. The same length may be declared several times.
fn content_length(fields: &[Header<'_>]) -> Result<Option<u64>, WireStop> {
    let mut declared = None;
    for value in values(fields, "content-length").flat_map(|value| value.split(|byte| *byte == b',')) {
        let length = decimal(value.trim_ascii()).ok_or(WireStop::BodyFraming)?;
        if declared.is_some_and(|other| other != length) {
            return Err(WireStop::BodyFraming);
        }
        declared = Some(length);
    }
    Ok(declared)
}

fn decimal(text: &[u8]) -> Option<u64> {
    // `parse` alone would accept a plus sign.
    let is_decimal = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_decimal)?.parse().ok()
}

/// Returns the values of all fields with this name.
pub(super) fn values<'a>(fields: &'a [Header<'_>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(fields: &[(&'a str, &'a str)]) -> Vec<Header<'a>> {
        fields.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect()
    }

    #[test]
    fn bodies_of_requests_are_delimited_by_the_fields() {
        for (given, expected) in [
            (&[][..], Ok(BodyFraming::None)),
            (&[("Content-Length", "0")], Ok(BodyFraming::None)),
            (&[("content-length", "12")], Ok(BodyFraming::Length(12))),
            (&[("Content-Length", "12, 12"), ("Content-Length", "12")], Ok(BodyFraming::Length(12))),
            (&[("Content-Length", "12"), ("Content-Length", "13")], Err(WireStop::BodyFraming)),
            (&[("Content-Length", "+1")], Err(WireStop::BodyFraming)),
            (&[("Content-Length", "")], Err(WireStop::BodyFraming)),
            (&[("Content-Length", "99999999999999999999")], Err(WireStop::BodyFraming)),
            (&[("Transfer-Encoding", "chunked"), ("Content-Length", "12")], Ok(BodyFraming::Chunked)),
            (&[("Transfer-Encoding", "gzip, Chunked")], Ok(BodyFraming::Chunked)),
            (&[("Transfer-Encoding", "gzip"), ("Transfer-Encoding", "chunked,")], Ok(BodyFraming::Chunked)),
            (&[("Transfer-Encoding", "chunked, gzip")], Err(WireStop::BodyFraming)),
        ] {
            assert_eq!(BodyFraming::of_request(&fields(given)), expected, "{given:?}");
        }
    }

    #[test]
    fn bodies_of_responses_depend_on_the_request_and_the_status() {
        let length = &[("Content-Length", "12")][..];
        for (method, status, given, expected) in [
            (Method::GET, 200, length, BodyFraming::Length(12)),
            (Method::HEAD, 200, length, BodyFraming::None),
            (Method::GET, 204, length, BodyFraming::None),
            (Method::GET, 304, length, BodyFraming::None),
            (Method::GET, 200, &[], BodyFraming::UntilClose),
            (Method::GET, 200, &[("Transfer-Encoding", "gzip")], BodyFraming::UntilClose),
            (Method::GET, 200, &[("Transfer-Encoding", "chunked")], BodyFraming::Chunked),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(BodyFraming::of_response(&method, status, &fields(given)), Ok(expected));
        }
    }
}
