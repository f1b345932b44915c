//! [`MessageReader`]: divides one direction of an HTTP/1 connection into messages.
//!
//! Bytes go in as they pass, in pieces of any size, and [`MessageEvent`]s come out. Bodies are counted, and never kept.

use super::framing::BodyFraming;
use crate::{
    record::WireStop,
    wire::{bytes::take_up_to, section::SectionBuffer},
};
use httparse::{Status, parse_chunk_size};
use memchr::{memchr, memchr_iter, memmem};

/// Divides one direction of a connection into messages.
#[derive(Debug, Default)]
pub(super) struct MessageReader {
    state: State,
    section: SectionBuffer,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first byte of a message.
    #[default]
    Between,
    Head,
    Body(u64),
    UntilClose,
    ChunkSize,
    Chunk(u64),
    /// At the end of the line behind the data of a chunk.
    ChunkEnd,
    Trailers,
    /// The message has ended, which the next call returns.
    Ended,
}

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageEvent<'a> {
    /// The first byte of a message arrived.
    Begin,
    /// The whole head. The message ends with it, unless [`MessageReader::set_framing`] says otherwise before the next
    /// part is read.
    Head(&'a [u8]),
    /// This many bytes of the body.
    Body(u64),
    /// The fields behind the body.
    Trailers(&'a [u8]),
    End,
}

impl MessageReader {
    /// Reads the next part of a message from the beginning of `bytes`, and takes it off. Returns `None` if more bytes
    /// are needed.
    ///
    /// # Errors
    ///
    /// After an error nothing more can be read.
    pub(super) fn next<'event, 'bytes: 'event>(
        &'event mut self,
        bytes: &mut &'bytes [u8],
    ) -> Result<Option<MessageEvent<'event>>, WireStop> {
        loop {
            match self.state {
                State::Ended => {
                    self.state = State::Between;
                    return Ok(Some(MessageEvent::End));
                }
                _ if bytes.is_empty() => return Ok(None),
                State::Between => {
                    // Empty lines before a message are ignored (RFC 9112 section 2.2).
                    while let [b'\r' | b'\n', rest @ ..] = *bytes {
                        *bytes = rest;
                    }
                    if !bytes.is_empty() {
                        self.state = State::Head;
                        return Ok(Some(MessageEvent::Begin));
                    }
                }
                State::Head => {
                    let mut is_plausible = true;
                    let head = self.section.take(bytes, |head, from| {
                        let end = section_end(head, from);
                        is_plausible = end.is_some() || may_be_head(head, from);
                        end
                    })?;
                    if !is_plausible {
                        return Err(WireStop::NotHttp);
                    }
                    if head.is_some() {
                        self.state = State::Ended;
                    }
                    return Ok(head.map(MessageEvent::Head));
                }
                State::Body(left) => {
                    let taken = take_up_to(bytes, left);
                    self.state = if taken == left { State::Ended } else { State::Body(left - taken) };
                    return Ok(Some(MessageEvent::Body(taken)));
                }
                State::UntilClose => return Ok(Some(MessageEvent::Body(take_up_to(bytes, u64::MAX)))),
                State::ChunkSize => {
                    let Some(line) = self.section.take(bytes, line_end)? else { return Ok(None) };
                    let size = chunk_size(line)?;
                    self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                }
                State::Chunk(left) => {
                    let taken = take_up_to(bytes, left);
                    self.state = if taken == left { State::ChunkEnd } else { State::Chunk(left - taken) };
                    return Ok(Some(MessageEvent::Body(taken)));
                }
                State::ChunkEnd => {
                    let Some(line) = self.section.take(bytes, line_end)? else { return Ok(None) };
                    if !line.trim_ascii().is_empty() {
                        return Err(WireStop::BodyFraming);
                    }
                    self.state = State::ChunkSize;
                }
                State::Trailers => {
                    let Some(section) = self.section.take(bytes, section_end)? else { return Ok(None) };
                    if section.trim_ascii().is_empty() {
                        self.state = State::Between;
                        return Ok(Some(MessageEvent::End));
                    }
                    self.state = State::Ended;
                    return Ok(Some(MessageEvent::Trailers(section)));
                }
            }
        }
    }

    /// Sets how the body behind the head is delimited that was returned last.
    pub(super) fn set_framing(&mut self, framing: BodyFraming) {
        self.state = match framing {
            BodyFraming::None => State::Ended,
            BodyFraming::Length(length) => State::Body(length),
            BodyFraming::Chunked => State::ChunkSize,
            BodyFraming::UntilClose => State::UntilClose,
        };
    }

    /// Returns `true` if the peer ends a message by closing the connection now.
    pub(super) fn ends_with_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Returns how many bytes of a body of a declared length are missing.
    pub(super) fn missing_bytes(&self) -> u64 {
        if let State::Body(left) = self.state { left } else { 0 }
    }
}

/// Returns the length of a chunk, from the line before it (RFC 9112 section 7.1).
fn chunk_size(line: &[u8]) -> Result<u64, WireStop> {
    // An empty line would be a length of zero.
    match parse_chunk_size(line) {
        Ok(Status::Complete((_, size))) if line[0].is_ascii_hexdigit() => Ok(size),
        _ => Err(WireStop::BodyFraming),
    }
}

fn line_end(bytes: &[u8], from: usize) -> Option<usize> {
    memchr(b'\n', &bytes[from..]).map(|at| from + at + 1)
}

/// Returns `false` if the first line of a head shows that another protocol is spoken, which may never have an empty line.
/// The bytes before `from` were looked at already.
fn may_be_head(bytes: &[u8], from: usize) -> bool {
    if !bytes[0].is_ascii_graphic() {
        return false;
    }
    let Some(end) = memchr(b'\n', &bytes[from..]) else { return true };
    let is_first = memchr(b'\n', &bytes[..from]).is_none();
    !is_first || memmem::find(&bytes[..from + end], b"HTTP/").is_some()
}

/// Returns where a section ends: behind its first empty line.
fn section_end(bytes: &[u8], from: usize) -> Option<usize> {
    let is_empty_line = |end: usize| {
        let before = &bytes[..end];
        let before = before.strip_suffix(b"\r").unwrap_or(before);
        before.last().is_none_or(|last| *last == b'\n')
    };
    memchr_iter(b'\n', &bytes[from..]).map(|at| from + at).find(|at| is_empty_line(*at)).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what is read if the bytes arrive in pieces of this size, with the counts of a body added up.
    fn read(all: &[u8], size: usize, framings: &[BodyFraming]) -> Vec<String> {
        let (mut reader, mut framings) = (MessageReader::default(), framings.iter());
        let mut events = Vec::new();
        let mut body = 0;
        for mut piece in all.chunks(size) {
            loop {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let event = match reader.next(&mut piece) {
                    Ok(None) => break,
                    Ok(Some(MessageEvent::Body(bytes))) => {
                        body += bytes;
                        continue;
                    }
                    Ok(Some(MessageEvent::Begin)) => "begin".into(),
                    Ok(Some(MessageEvent::Head(head))) => {
                        let head = text(head);
                        reader.set_framing(*framings.next().unwrap());
                        head
                    }
                    Ok(Some(MessageEvent::Trailers(section))) => text(section),
                    Ok(Some(MessageEvent::End)) => format!("end of {}", std::mem::take(&mut body)),
                    Err(reason) => {
                        events.push(format!("{reason:?}"));
                        return events;
                    }
                };
                events.push(event);
            }
        }
        events
    }

    fn assert_reads(all: &str, framings: &[BodyFraming], expected: &[&str]) {
        for size in 1..=all.len() {
            assert_eq!(read(all.as_bytes(), size, framings), expected, "in pieces of {size} bytes");
        }
    }

    #[test]
    fn messages_follow_each_other() {
        let head = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
        let all = format!("{head}{head}\r\n\nPOST / HTTP/1.1\n\n12345{head}");
        let framings = [BodyFraming::None, BodyFraming::None, BodyFraming::Length(5), BodyFraming::None];
        assert_reads(
            &all,
            &framings,
            &[
                "begin",
                head,
                "end of 0",
                "begin",
                head,
                "end of 0",
                "begin",
                "POST / HTTP/1.1\n\n",
                "end of 5",
                "begin",
                head,
                "end of 0",
            ],
        );
    }

    #[test]
    fn chunks_are_counted_without_their_lengths() {
        let all = "HTTP/1.1 200 OK\r\n\r\n5\r\n12345\r\nA;name=value\r\n1234567890\r\n0\r\n\r\nHTTP/1.1 204 \r\n\r\n";
        assert_reads(
            all,
            &[BodyFraming::Chunked, BodyFraming::None],
            &["begin", "HTTP/1.1 200 OK\r\n\r\n", "end of 15", "begin", "HTTP/1.1 204 \r\n\r\n", "end of 0"],
        );
    }

    #[test]
    fn trailers_are_returned() {
        let all = "HTTP/1.1 200 OK\r\n\r\n1\r\n1\r\n0\r\na: b\r\nc: d\r\n\r\n";
        assert_reads(
            all,
            &[BodyFraming::Chunked],
            &["begin", "HTTP/1.1 200 OK\r\n\r\n", "a: b\r\nc: d\r\n\r\n", "end of 1"],
        );
    }

    #[test]
    fn malformed_chunks_are_an_error() {
        for body in ["x\r\n", "\r\n", "fffffffffffffffff\r\n", "2\r\n123\r\n"] {
            let all = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
            let read = read(all.as_bytes(), all.len(), &[BodyFraming::Chunked]);
            assert_eq!(read.last().unwrap(), "BodyFraming", "{body:?}");
        }
    }

    #[test]
    fn what_is_missing_is_known() {
        let mut reader = MessageReader::default();
        let mut bytes = &b"HTTP/1.1 200 OK\r\n\r\n123"[..];
        while let Some(event) = reader.next(&mut bytes).unwrap() {
            if let MessageEvent::Head(_) = event {
                reader.set_framing(BodyFraming::Length(10));
            }
        }
        assert_eq!((reader.missing_bytes(), reader.ends_with_close()), (7, false));
        reader.set_framing(BodyFraming::UntilClose);
        assert_eq!((reader.missing_bytes(), reader.ends_with_close()), (0, true));
    }
}
