//! The body of a response.

use super::chunks::ChunkReader;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

/// The body of a response of a [`DebugPage`](super::DebugPage): a page, or a trace that is being written.
///
/// It fails if the trace cannot be written to its end, for example because the reader takes nothing for 30 seconds.
#[derive(Debug)]
pub struct DebugPageBody(Repr);

#[derive(Debug)]
enum Repr {
    /// Empty once it was read.
    Whole(Bytes),
    Chunks(ChunkReader),
}

impl DebugPageBody {
    pub(super) fn whole(content: impl Into<Bytes>) -> Self {
        DebugPageBody(Repr::Whole(content.into()))
    }

    pub(super) fn chunks(reader: ChunkReader) -> Self {
        DebugPageBody(Repr::Chunks(reader))
    }
}

impl Body for DebugPageBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut self.0 {
            Repr::Whole(content) if content.is_empty() => Poll::Ready(None),
            Repr::Whole(content) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(content))))),
            Repr::Chunks(reader) => reader.poll_chunk(cx).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Repr::Whole(content) if content.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Repr::Whole(content) => SizeHint::with_exact(content.len() as u64),
            Repr::Chunks(_) => SizeHint::default(),
        }
    }
}
