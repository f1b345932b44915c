//! [`FieldBlocks`]: the blocks of fields of one direction, which one or more frames carry (RFC 9113 section 4.3).

use super::{
    frame_reader::{FrameHead, flag, kind},
    hpack::Decoder,
};
use crate::{
    record::WireStop,
    sink::TRACEPARENT,
    wire::{bytes::decimal, context::WireContext, section::MAX_SECTION_BYTES},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header::CONTENT_TYPE, uri::Scheme};

/// Puts blocks of fields together and decodes them.
#[derive(Debug, Default)]
pub(super) struct FieldBlocks {
    decoder: Decoder,
    /// A block that goes on in CONTINUATION frames, with its first frame.
    unfinished: Option<(FrameHead, Vec<u8>)>,
}

/// A decoded block.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) pseudo: PseudoFields,
    /// The other fields, as far as they are recorded.
    pub(super) headers: HeaderMap,
    /// The length that is declared for the body, in bytes; zero if none is.
    pub(super) content_length: u64,
}

/// The pseudo-header fields (RFC 9113 section 8.3), as far as they are there and valid.
#[derive(Debug, Default)]
pub(super) struct PseudoFields {
    pub(super) method: Option<Method>,
    pub(super) scheme: Option<Scheme>,
    pub(super) authority: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) status: Option<StatusCode>,
}

/// How many bytes of fields are kept of a block, with 32 bytes for each field. Servers usually accept less.
const MAX_FIELD_BYTES: usize = 128 << 10;

impl FieldBlocks {
    /// Reads a frame of a block. Returns the block's first frame and its fields if the block is complete.
    pub(super) fn frame(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        context: &WireContext,
    ) -> Result<Option<(FrameHead, Fields)>, WireStop> {
        if head.kind != kind::CONTINUATION {
            let block = fragment(head, payload).filter(|_| self.unfinished.is_none() && head.stream != 0);
            let block = block.ok_or(WireStop::Http2Frame)?;
            if head.has(flag::END_HEADERS) {
                return self.decode(block, context).map(|fields| Some((head, fields)));
            }
            self.unfinished = Some((head, block.into()));
            return Ok(None);
        }
        let (first, block) = self.unfinished.as_mut().ok_or(WireStop::Http2Frame)?;
        if first.stream != head.stream {
            return Err(WireStop::Http2Frame);
        }
        if block.len() + payload.len() > MAX_SECTION_BYTES {
            return Err(WireStop::SectionTooLarge);
        }
        block.extend_from_slice(payload);
        if !head.has(flag::END_HEADERS) {
            return Ok(None);
        }
        let Some((first, block)) = self.unfinished.take() else { return Ok(None) };
        self.decode(&block, context).map(|fields| Some((first, fields)))
    }

    fn decode(&mut self, block: &[u8], context: &WireContext) -> Result<Fields, WireStop> {
        let (mut fields, mut left) = (Fields::default(), MAX_FIELD_BYTES);
        let keeps_all = context.conn.records_headers();
        let keep = |name: &[u8], value: &[u8]| {
            let Some(rest) = left.checked_sub(name.len() + value.len() + 32) else { return };
            left = rest;
            fields.add(name, value, keeps_all);
        };
        self.decoder.decode(block, keep).map_err(|_| WireStop::HeaderCompression)?;
        Ok(fields)
    }
}

/// Returns the part of a block in the payload of HEADERS or PUSH_PROMISE, without padding, priority and promised
/// stream.
fn fragment(head: FrameHead, mut payload: &[u8]) -> Option<&[u8]> {
    if head.has(flag::PADDED) {
        let (padding, rest) = payload.split_first()?;
        payload = &rest[..rest.len().checked_sub(usize::from(*padding))?];
    }
    let skipped = match head.kind {
        kind::HEADERS if head.has(flag::PRIORITY) => 5,
        kind::PUSH_PROMISE => 4,
        _ => 0,
    };
    payload.get(skipped..)
}

impl Fields {
    fn add(&mut self, name: &[u8], value: &[u8], keeps_all: bool) {
        if name.first() == Some(&b':') {
            self.pseudo.set(name, value);
            return;
        }
        match name {
            b"content-length" => self.content_length = decimal(value).unwrap_or_default(),
            // HTTP/1 clients behind a proxy have their host here (RFC 9113 section 8.3.1).
            b"host" if self.pseudo.authority.is_empty() => self.pseudo.authority = value.into(),
            _ => {}
        }
        let is_request = self.pseudo.method.is_some();
        if keeps_all || is_always_recorded(is_request, name, value) {
            let name = HeaderName::from_bytes(name).ok();
            if let Some((name, value)) = name.zip(HeaderValue::from_bytes(value).ok()) {
                let _ = self.headers.try_append(name, value); // full at 24,576 fields
            }
        }
    }
}

/// Returns `true` for fields that are recorded under every policy: the distributed trace of a request, and how a gRPC
/// call went.
fn is_always_recorded(is_request: bool, name: &[u8], value: &[u8]) -> bool {
    let is_grpc = || name == CONTENT_TYPE.as_str().as_bytes() && value.starts_with(b"application/grpc");
    if is_request { name == TRACEPARENT.as_bytes() } else { name == b"grpc-status" || is_grpc() }
}

impl PseudoFields {
    fn set(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b":method" => self.method = Method::from_bytes(value).ok(),
            b":scheme" => self.scheme = Scheme::try_from(value).ok(),
            b":authority" => self.authority = value.into(),
            b":path" => self.path = value.into(),
            b":status" => self.status = StatusCode::from_bytes(value).ok(),
            _ => {}
        }
    }
}
