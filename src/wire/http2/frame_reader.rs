//! [`FrameReader`]: divides one direction of an HTTP/2 connection into frames (RFC 9113 section 4.1).
//!
//! Bytes go in as they pass, in pieces of any size. Frames that describe something are collected as far as they are
//! read at all; the payload of DATA is counted.

use crate::{
    record::WireStop,
    wire::{
        bytes::take_up_to,
        section::{MAX_SECTION_BYTES, SectionBuffer},
    },
};

/// Divides one direction of a connection into frames.
#[derive(Debug, Default)]
pub(super) struct FrameReader {
    state: State,
    section: SectionBuffer,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Head,
    /// In a frame that is returned whole.
    Payload(FrameHead),
    /// Before the length of the padding of a DATA frame.
    PadLength(FrameHead),
    Data {
        head: FrameHead,
        /// The bytes of data that have not come yet.
        data: u32,
        padding: u32,
    },
    /// In bytes that are not read.
    Skip(u32),
}

/// The first nine bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

/// The types of frames that are read (RFC 9113 section 6).
pub(super) mod kind {
    pub(in crate::wire::http2) const DATA: u8 = 0x0;
    pub(in crate::wire::http2) const HEADERS: u8 = 0x1;
    pub(in crate::wire::http2) const RST_STREAM: u8 = 0x3;
    pub(in crate::wire::http2) const SETTINGS: u8 = 0x4;
    pub(in crate::wire::http2) const PUSH_PROMISE: u8 = 0x5;
    pub(in crate::wire::http2) const PING: u8 = 0x6;
    pub(in crate::wire::http2) const GOAWAY: u8 = 0x7;
    pub(in crate::wire::http2) const WINDOW_UPDATE: u8 = 0x8;
    pub(in crate::wire::http2) const CONTINUATION: u8 = 0x9;
}

/// Flags of frames.
pub(super) mod flag {
    /// Acknowledges a SETTINGS or PING frame.
    pub(in crate::wire::http2) const ACK: u8 = 0x1;
    pub(in crate::wire::http2) const END_STREAM: u8 = 0x1;
    pub(in crate::wire::http2) const END_HEADERS: u8 = 0x4;
    pub(in crate::wire::http2) const PADDED: u8 = 0x8;
    pub(in crate::wire::http2) const PRIORITY: u8 = 0x20;
}

/// The length of a frame's head in bytes.
const HEAD_BYTES: usize = 9;

/// How many bytes of a GOAWAY frame are read: two numbers, and the beginning of the debug data. One byte more than is
/// kept, so that what is cut is known to be.
const MAX_GOAWAY_BYTES: u32 = 8 + 257;

/// How many bytes of a SETTINGS frame are read: 64 values.
const MAX_SETTINGS_BYTES: u32 = 64 * 6;

impl FrameHead {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let &[l0, l1, l2, kind, flags, s0, s1, s2, s3] = bytes else { return None };
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        // The highest bit is reserved.
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        Some(FrameHead { length, kind, flags, stream })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns how many bytes of the payload are returned; zero if the frame is not.
    fn read_bytes(&self) -> Result<u32, WireStop> {
        match self.kind {
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION => {
                // The rest of the connection cannot be decoded without this block.
                let fits = self.length as usize <= MAX_SECTION_BYTES;
                if fits { Ok(self.length) } else { Err(WireStop::SectionTooLarge) }
            }
            kind::RST_STREAM | kind::WINDOW_UPDATE if self.length != 4 => Err(WireStop::Http2Frame),
            kind::RST_STREAM | kind::WINDOW_UPDATE => Ok(4),
            kind::PING if self.length != 8 => Err(WireStop::Http2Frame),
            kind::PING => Ok(8),
            kind::GOAWAY if self.length < 8 => Err(WireStop::Http2Frame),
            kind::GOAWAY => Ok(self.length.min(MAX_GOAWAY_BYTES)),
            kind::SETTINGS if !self.length.is_multiple_of(6) || self.has(flag::ACK) && self.length > 0 => {
                Err(WireStop::Http2Frame)
            }
            kind::SETTINGS => Ok(self.length.min(MAX_SETTINGS_BYTES)),
            _ => Ok(0),
        }
    }
}

/// A frame, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameEvent<'a> {
    /// A frame with its payload, or the beginning of that.
    Frame(FrameHead, &'a [u8]),
    /// This many bytes of the data in a DATA frame, on this stream.
    Data(u32, u64),
    /// The end of the data in a DATA frame.
    DataEnd(FrameHead),
}

impl FrameReader {
    /// Reads the next frame or part of one from the beginning of `bytes`, and takes it off. Returns `None` if more
    /// bytes are needed.
    ///
    /// # Errors
    ///
    /// After an error nothing more can be read.
    pub(super) fn next<'event, 'bytes: 'event>(
        &'event mut self,
        bytes: &mut &'bytes [u8],
    ) -> Result<Option<FrameEvent<'event>>, WireStop> {
        loop {
            match self.state {
                State::Head => {
                    let head = self.section.take(bytes, at_length(HEAD_BYTES))?;
                    let Some(head) = head.and_then(FrameHead::parse) else { return Ok(None) };
                    self.state = Self::state_in(head)?;
                }
                State::Payload(head) => {
                    let length = head.read_bytes()?;
                    let payload = self.section.take(bytes, at_length(length as usize))?;
                    if payload.is_some() {
                        self.state = State::skip(head.length - length);
                    }
                    return Ok(payload.map(|payload| FrameEvent::Frame(head, payload)));
                }
                State::PadLength(head) => {
                    let [padding, rest @ ..] = *bytes else { return Ok(None) };
                    let padding = u32::from(*padding);
                    let data = head.length.checked_sub(1 + padding).ok_or(WireStop::Http2Frame)?;
                    *bytes = rest;
                    self.state = State::Data { head, data, padding };
                }
                State::Data { head, data: 0, padding } => {
                    self.state = State::skip(padding);
                    return Ok(Some(FrameEvent::DataEnd(head)));
                }
                _ if bytes.is_empty() => return Ok(None),
                State::Data { head, data, padding } => {
                    let taken = take_up_to(bytes, u64::from(data)) as u32;
                    self.state = State::Data { head, data: data - taken, padding };
                    return Ok(Some(FrameEvent::Data(head.stream, u64::from(taken))));
                }
                State::Skip(left) => {
                    self.state = State::skip(left - take_up_to(bytes, u64::from(left)) as u32)
                }
            }
        }
    }

    /// Returns the state behind this head.
    fn state_in(head: FrameHead) -> Result<State, WireStop> {
        Ok(match head.kind {
            kind::DATA if head.stream == 0 => return Err(WireStop::Http2Frame),
            kind::DATA if head.has(flag::PADDED) && head.length == 0 => return Err(WireStop::Http2Frame),
            kind::DATA if head.has(flag::PADDED) => State::PadLength(head),
            kind::DATA => State::Data { head, data: head.length, padding: 0 },
            _ if head.read_bytes()? > 0 => State::Payload(head),
            kind::HEADERS | kind::CONTINUATION => State::Payload(head),
            _ => State::skip(head.length),
        })
    }
}

impl State {
    fn skip(left: u32) -> Self {
        if left == 0 { State::Head } else { State::Skip(left) }
    }
}

fn at_length(length: usize) -> impl Fn(&[u8], usize) -> Option<usize> {
    move |bytes, _| (bytes.len() >= length).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        [&head[..], payload].concat()
    }

    /// Returns what is read if the bytes arrive in pieces of this size, with the counts of data added up.
    fn read(all: &[u8], size: usize) -> Vec<String> {
        let (mut reader, mut events, mut data) = (FrameReader::default(), Vec::new(), 0);
        for mut piece in all.chunks(size) {
            loop {
                events.push(match reader.next(&mut piece) {
                    Ok(None) => break,
                    Ok(Some(FrameEvent::Data(_, bytes))) => {
                        data += bytes;
                        continue;
                    }
                    Ok(Some(FrameEvent::DataEnd(head))) => {
                        format!("{} bytes on {}", std::mem::take(&mut data), head.stream)
                    }
                    Ok(Some(FrameEvent::Frame(head, payload))) => {
                        format!("{} of {} on {}: {payload:?}", head.kind, head.length, head.stream)
                    }
                    Err(reason) => {
                        events.push(format!("{reason:?}"));
                        return events;
                    }
                });
            }
        }
        events
    }

    #[test]
    fn frames_are_found_however_they_are_divided() {
        let all = [
            frame(0xf0, 0, 0, &[0, 3, 0, 0, 0, 100]), // of an unknown type, skipped
            frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
            frame(kind::SETTINGS, flag::ACK, 0, &[]),
            frame(kind::HEADERS, flag::END_HEADERS, 1, &[1, 2, 3]),
            frame(kind::DATA, 0, 1, &[0; 300]),
            frame(kind::DATA, flag::PADDED, 1, &[2, 7, 7, 7, 0, 0]),
            frame(kind::DATA, flag::END_STREAM, 1, &[]),
            frame(kind::RST_STREAM, 0, 3, &[0, 0, 0, 8]),
            frame(kind::GOAWAY, 0, 0, &[9; 300]),
            frame(kind::CONTINUATION, 0, 5, &[]),
            frame(kind::HEADERS, 0, 0x8000_0005, &[4]), // with the reserved bit
        ]
        .concat();
        let goaway = format!("7 of 300 on 0: {:?}", [9; MAX_GOAWAY_BYTES as usize]);
        let expected = [
            "4 of 6 on 0: [0, 3, 0, 0, 0, 100]",
            "1 of 3 on 1: [1, 2, 3]",
            "300 bytes on 1",
            "3 bytes on 1",
            "0 bytes on 1",
            "3 of 4 on 3: [0, 0, 0, 8]",
            &goaway,
            "9 of 0 on 5: []",
            "1 of 1 on 5: [4]",
        ];
        for size in (1..40).chain([all.len()]) {
            assert_eq!(read(&all, size), expected, "in pieces of {size} bytes");
        }
    }

    #[test]
    fn malformed_frames_are_an_error() {
        for (all, reason) in [
            (frame(kind::DATA, flag::PADDED, 1, &[3, 0]), "Http2Frame"),
            (frame(kind::DATA, flag::PADDED, 1, &[]), "Http2Frame"),
            (frame(kind::DATA, 0, 0, &[1]), "Http2Frame"),
            (frame(kind::RST_STREAM, 0, 1, &[1]), "Http2Frame"),
            (frame(kind::PING, 0, 0, &[1]), "Http2Frame"),
            (frame(kind::GOAWAY, 0, 0, &[]), "Http2Frame"),
            (frame(kind::SETTINGS, 0, 0, &[1; 5]), "Http2Frame"),
            (frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]), "Http2Frame"),
            (frame(kind::WINDOW_UPDATE, 0, 0, &[1; 5]), "Http2Frame"),
            (frame(kind::HEADERS, 0, 1, &[0; MAX_SECTION_BYTES + 1]), "SectionTooLarge"),
        ] {
            assert_eq!(read(&all, all.len() + 1), [reason]);
        }
    }
}
