//! [`Direction`]: what one side sends, as events of streams.

use super::{
    field_block::{FieldBlocks, Fields},
    frame_reader::{FrameEvent, FrameHead, FrameReader, flag, kind},
};
use crate::{record::WireStop, wire::context::WireContext};

/// Reads what one side sends.
#[derive(Debug, Default)]
pub(super) struct Direction {
    frames: FrameReader,
    blocks: FieldBlocks,
}

/// Something that one side sent, and that concerns a stream.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// A head or trailers.
    Fields { stream: u32, fields: Fields, is_end: bool },
    /// This many bytes of a body.
    Data { stream: u32, bytes: u64 },
    /// The end of what this side sends on the stream.
    End { stream: u32 },
    /// The stream is given up, with this error code.
    Reset { stream: u32, code: u32 },
    /// Streams after the last one are not processed, because of this error code.
    GoAway { last_stream: u32, code: u32 },
}

impl Direction {
    /// Reads up to the next event from the beginning of `bytes`, and takes that off. Returns `None` if more bytes are
    /// needed.
    pub(super) fn next(
        &mut self,
        bytes: &mut &[u8],
        context: &WireContext,
    ) -> Result<Option<StreamEvent>, WireStop> {
        while let Some(event) = self.frames.next(bytes)? {
            let event = match event {
                FrameEvent::Data(stream, bytes) => Some(StreamEvent::Data { stream, bytes }),
                FrameEvent::DataEnd(head) => {
                    head.has(flag::END_STREAM).then_some(StreamEvent::End { stream: head.stream })
                }
                FrameEvent::Frame(head, payload) => frame(&mut self.blocks, head, payload, context)?,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }
}

fn frame(
    blocks: &mut FieldBlocks,
    head: FrameHead,
    payload: &[u8],
    context: &WireContext,
) -> Result<Option<StreamEvent>, WireStop> {
    Ok(match head.kind {
        kind::RST_STREAM => number(payload, 0).map(|code| StreamEvent::Reset { stream: head.stream, code }),
        kind::GOAWAY => {
            let (last_stream, code) =
                number(payload, 0).zip(number(payload, 4)).ok_or(WireStop::Http2Frame)?;
            Some(StreamEvent::GoAway { last_stream: last_stream & 0x7fff_ffff, code })
        }
        _ => {
            let block = blocks.frame(head, payload, context)?;
            // The stream of a promise is not read. Its fields were decoded, because later ones refer to them.
            block.filter(|(first, _)| first.kind == kind::HEADERS).map(|(first, fields)| {
                StreamEvent::Fields { stream: first.stream, fields, is_end: first.has(flag::END_STREAM) }
            })
        }
    })
}

fn number(payload: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(payload.get(at..at + 4)?.try_into().ok()?))
}
