//! A bounded pipe from a thread that writes to a body that is polled.
//!
//! The writer waits while the pipe is full, and gives up if nothing is taken for [`PATIENCE`] or the reader is gone.
//! Channels of tokio have no wait with a time limit for a thread outside a runtime.

use crate::sync::IgnorePoison;
use bytes::Bytes;
use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    sync::{Arc, Condvar, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

const CHUNK_BYTES: usize = 64 << 10;
const MAX_CHUNKS: usize = 4;
/// How long the writer waits for a reader who takes nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Creates a pipe.
pub(super) fn pipe() -> (ChunkWriter, ChunkReader) {
    pipe_with(PATIENCE)
}

fn pipe_with(patience: Duration) -> (ChunkWriter, ChunkReader) {
    let shared = Arc::new(Shared::default());
    let writer = ChunkWriter { shared: shared.clone(), chunk: Vec::new(), patience };
    (writer, ChunkReader { shared })
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    has_room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    reader: Option<Waker>,
    end: Option<End>,
    is_reader_gone: bool,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Complete,
    /// The writer was dropped before it had written everything.
    CutOff,
}

/// The end that is written to. Dropping it before [`finish`](Self::finish) cuts the body off.
#[derive(Debug)]
pub(super) struct ChunkWriter {
    shared: Arc<Shared>,
    chunk: Vec<u8>,
    patience: Duration,
}

impl ChunkWriter {
    /// Hands over the rest, after which the body ends.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.hand_over()?;
        self.end(End::Complete);
        Ok(())
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let state = self.shared.state.lock().ignore_poison();
        let is_full = |state: &mut State| state.chunks.len() >= MAX_CHUNKS && !state.is_reader_gone;
        let waited = self.shared.has_room.wait_timeout_while(state, self.patience, is_full);
        let (mut state, waited) = waited.ignore_poison();
        if state.is_reader_gone {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if waited.timed_out() {
            return Err(ErrorKind::TimedOut.into());
        }
        state.chunks.push_back(std::mem::take(&mut self.chunk).into());
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn end(&self, end: End) {
        let mut state = self.shared.state.lock().ignore_poison();
        state.end.get_or_insert(end);
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }
}

impl io::Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() + bytes.len() > CHUNK_BYTES {
            self.hand_over()?;
        }
        self.chunk.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()
    }
}

impl Drop for ChunkWriter {
    fn drop(&mut self) {
        self.end(End::CutOff);
    }
}

/// The end that is polled.
#[derive(Debug)]
pub(super) struct ChunkReader {
    shared: Arc<Shared>,
}

impl ChunkReader {
    /// Returns the next chunk; `None` after the last one.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut state = self.shared.state.lock().ignore_poison();
        if let Some(chunk) = state.chunks.pop_front() {
            drop(state);
            self.shared.has_room.notify_one();
            return Poll::Ready(Some(Ok(chunk)));
        }
        match state.end {
            Some(End::Complete) => Poll::Ready(None),
            Some(End::CutOff) => {
                state.end = Some(End::Complete);
                let text = "the page was cut off: nothing was read for too long, or it could not be written";
                Poll::Ready(Some(Err(io::Error::new(ErrorKind::TimedOut, text))))
            }
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for ChunkReader {
    fn drop(&mut self) {
        self.shared.state.lock().ignore_poison().is_reader_gone = true;
        self.shared.has_room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, io::Write, thread};

    async fn read(mut reader: ChunkReader) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(chunk) = poll_fn(|cx| reader.poll_chunk(cx)).await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn everything_arrives_in_order() {
        let (mut writer, reader) = pipe();
        let content: Vec<u8> = (0..3 << 20).map(|n: u32| (n % 251) as u8).collect();
        let written = content.clone();
        let thread = thread::spawn(move || {
            written.chunks(1000).try_for_each(|part| writer.write_all(part)).and_then(|()| writer.finish())
        });
        assert_eq!(read(reader).await.unwrap(), content);
        thread.join().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_writer_that_is_dropped_cuts_the_body_off() {
        let (mut writer, reader) = pipe();
        writer.write_all(b"begin").unwrap();
        writer.flush().unwrap();
        drop(writer);
        assert!(read(reader).await.is_err());
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let (mut writer, reader) = pipe_with(Duration::from_millis(1));
        let full = vec![0; CHUNK_BYTES];
        let error = (0..).find_map(|_| writer.write_all(&full).err()).unwrap();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(writer);
        assert!(read(reader).await.is_err());
    }

    #[test]
    fn a_writer_does_not_wait_for_a_reader_that_is_gone() {
        let (mut writer, reader) = pipe();
        let full = vec![0; CHUNK_BYTES];
        let thread = thread::spawn(move || (0..).find_map(|_| writer.write_all(&full).err()).unwrap());
        drop(reader);
        assert_eq!(thread.join().unwrap().kind(), ErrorKind::BrokenPipe);
    }
}
