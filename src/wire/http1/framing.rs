//! How the body of an HTTP/1 message is delimited (RFC 9112 section 6.3).

use crate::{record::WireStop, wire::bytes::decimal};
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

/// What the fields of a head say about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BodyFields {
    transfer_coding: TransferCoding,
    /// The declared length.
    length: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransferCoding {
    None,
    /// Chunked is the last coding.
    Chunked,
    Other,
}

impl BodyFields {
    /// Collects the fields.
    pub(super) fn new(fields: &[Header<'_>]) -> Result<Self, WireStop> {
        let mut found = BodyFields { transfer_coding: TransferCoding::None, length: None };
        for field in fields {
            // Most fields are told apart by the length of their names.
            match field.name.len() {
                14 if field.name.eq_ignore_ascii_case("content-length") => found.add_length(field.value)?,
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => found.add_codings(field.value),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Adds a declared length. The same length may be declared several times.
    fn add_length(&mut self, value: &[u8]) -> Result<(), WireStop> {
        for value in value.split(|byte| *byte == b',') {
            let length = decimal(value.trim_ascii()).ok_or(WireStop::BodyFraming)?;
            if self.length.is_some_and(|other| other != length) {
                return Err(WireStop::BodyFraming);
            }
            self.length = Some(length);
        }
        Ok(())
    }

    fn add_codings(&mut self, value: &[u8]) {
        let mut codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        if let Some(last) = codings.rfind(|coding| !coding.is_empty()) {
            let is_chunked = last.eq_ignore_ascii_case(b"chunked");
            self.transfer_coding = if is_chunked { TransferCoding::Chunked } else { TransferCoding::Other };
        }
    }

    /// Returns how the body of a request is delimited.
    pub(super) fn of_request(self) -> Result<BodyFraming, WireStop> {
        match self.transfer_coding {
            TransferCoding::None => Ok(self.length.map_or(BodyFraming::None, BodyFraming::length)),
            TransferCoding::Chunked => Ok(BodyFraming::Chunked),
            TransferCoding::Other => Err(WireStop::BodyFraming),
        }
    }

    /// Returns how the body of a response is delimited that is final and does not switch to another protocol.
    pub(super) fn of_response(self, method: &Method, status: StatusCode) -> BodyFraming {
        if method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return BodyFraming::None;
        }
        match self.transfer_coding {
            TransferCoding::None => self.length.map_or(BodyFraming::UntilClose, BodyFraming::length),
            TransferCoding::Chunked => BodyFraming::Chunked,
            TransferCoding::Other => BodyFraming::UntilClose,
        }
    }
}

impl BodyFraming {
    fn length(length: u64) -> Self {
        if length == 0 { Self::None } else { Self::Length(length) }
    }
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
            assert_eq!(
                BodyFields::new(&fields(given)).and_then(BodyFields::of_request),
                expected,
                "{given:?}"
            );
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
            assert_eq!(BodyFields::new(&fields(given)).unwrap().of_response(&method, status), expected);
        }
    }
}
