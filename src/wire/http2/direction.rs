//! [`Direction`]: what one side sends, as events of streams and of the connection.

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

/// Something that one side sent. `'a` is the payload of a frame.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// A head or trailers.
    Fields {
        stream: u32,
        fields: Fields,
        is_end: bool,
    },
    /// This many bytes of a body.
    Data {
        stream: u32,
        bytes: u64,
    },
    /// The end of a DATA frame. `flow` is how many bytes it takes of the windows.
    DataEnd {
        stream: u32,
        flow: u32,
        is_end: bool,
    },
    /// The stream is given up, with this error code.
    Reset {
        stream: u32,
        code: u32,
    },
    /// The other side may send `increment` more bytes: on a stream, or on all of them together if `stream` is zero.
    WindowUpdate {
        stream: u32,
        increment: u32,
    },
    /// Values of settings, each of six bytes.
    Settings(&'a [u8]),
    Ping {
        data: u64,
        is_ack: bool,
    },
    /// Streams after the last one are not processed, because of this error code.
    GoAway {
        last_stream: u32,
        code: u32,
        debug_data: &'a [u8],
    },
}

/// The bits of a stream identifier or of an increment. The highest bit is reserved.
const STREAM_BITS: u32 = 0x7fff_ffff;

impl Direction {
    /// Reads up to the next event from the beginning of `bytes`, passes it to `on_event`, and takes what it has read off.
    /// Returns `false` if more bytes are needed.
    pub(super) fn next(
        &mut self,
        bytes: &mut &[u8],
        context: &WireContext,
        on_event: impl FnOnce(Event<'_>) -> Result<(), WireStop>,
    ) -> Result<bool, WireStop> {
        let Some(event) = self.frames.next(bytes)? else { return Ok(false) };
        let event = match event {
            FrameEvent::Data(stream, bytes) => Some(Event::Data { stream, bytes }),
            FrameEvent::DataEnd(head) => Some(Event::DataEnd {
                stream: head.stream,
                flow: head.length,
                is_end: head.has(flag::END_STREAM),
            }),
            FrameEvent::Frame(head, payload) => frame(&mut self.blocks, head, payload, context)?,
        };
        event.map_or(Ok(()), on_event)?;
        Ok(true)
    }
}

fn frame<'a>(
    blocks: &mut FieldBlocks,
    head: FrameHead,
    payload: &'a [u8],
    context: &WireContext,
) -> Result<Option<Event<'a>>, WireStop> {
    let stream = head.stream;
    Ok(match head.kind {
        kind::RST_STREAM => Some(Event::Reset { stream, code: number(payload, 0)? }),
        kind::WINDOW_UPDATE => {
            Some(Event::WindowUpdate { stream, increment: number(payload, 0)? & STREAM_BITS })
        }
        kind::SETTINGS => (!head.has(flag::ACK)).then_some(Event::Settings(payload)),
        kind::PING => {
            let data = u64::from(number(payload, 0)?) << 32 | u64::from(number(payload, 4)?);
            Some(Event::Ping { data, is_ack: head.has(flag::ACK) })
        }
        kind::GOAWAY => Some(Event::GoAway {
            last_stream: number(payload, 0)? & STREAM_BITS,
            code: number(payload, 4)?,
            debug_data: &payload[8..],
        }),
        _ => {
            let block = blocks.frame(head, payload, context)?;
            // The stream of a promise is not read. Its fields were decoded, because later ones refer to them.
            block.filter(|(first, _)| first.kind == kind::HEADERS).map(|(first, fields)| Event::Fields {
                stream: first.stream,
                fields,
                is_end: first.has(flag::END_STREAM),
            })
        }
    })
}

fn number(payload: &[u8], at: usize) -> Result<u32, WireStop> {
    let bytes = payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u32::from_be_bytes).ok_or(WireStop::Http2Frame)
}
