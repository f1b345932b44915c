//! Informational responses (1xx) over HTTP/1.
//!
//! hyper reads past them unless a request carries a callback, which costs four allocations per request. Here the stream
//! below hyper is scanned instead, from when a request is sent until its final response begins. In most cases that takes
//! a look at two bytes.

use crate::{client::send_body::Gate, sink::CurrentRequest, sync::IgnorePoison};
use http::StatusCode;
use std::{
    pin::Pin,
    sync::{
        Mutex, MutexGuard,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, ReadBuf};

/// The listener for informational responses on a connection.
#[derive(Default)]
pub(super) struct InformationalResponses {
    awaited: AtomicBool,
    listener: Mutex<Option<Listener>>,
}

struct Listener {
    request: CurrentRequest,
    gate: Option<Gate>,
}

impl InformationalResponses {
    /// Begins to listen for the current request, which is about to be sent.
    pub(super) fn listen(&self, gate: Option<&Gate>) {
        let request = CurrentRequest::get();
        if gate.is_some() || request.is_on() {
            *self.listener() = Some(Listener { request, gate: gate.cloned() });
            self.awaited.store(true, Release);
        }
    }

    #[inline]
    pub(super) fn are_awaited(&self) -> bool {
        self.awaited.load(Acquire)
    }

    fn received(&self, status: StatusCode) {
        let listener = self.listener();
        let Some(Listener { request, gate }) = &*listener else { return };
        request.informational(status);
        let gate = gate.clone().filter(|_| status == StatusCode::CONTINUE);
        drop(listener);
        if let Some(gate) = gate {
            gate.open();
        }
    }

    /// The final response has begun.
    fn finish(&self) {
        self.awaited.store(false, Relaxed);
        let listener = self.listener().take();
        drop(listener);
    }

    fn listener(&self) -> MutexGuard<'_, Option<Listener>> {
        self.listener.lock().ignore_poison()
    }
}

/// A stream that scans what is read from `inner`.
pub(super) struct ObservedRead<'a, T> {
    pub(super) inner: T,
    pub(super) scanner: &'a mut StatusLineScanner,
    pub(super) responses: &'a InformationalResponses,
}

impl<T: AsyncRead + Unpin> AsyncRead for ObservedRead<'_, T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if this.scanner.scan(&buf.filled()[before..], |status| this.responses.received(status)) {
            this.responses.finish();
        }
        Poll::Ready(Ok(()))
    }
}

/// Finds the status lines of informational responses in a stream that comes in parts (RFC 9112 section 2).
#[derive(Debug, Default)]
pub(super) struct StatusLineScanner {
    /// The beginning of a status line: as much of `HTTP/1.1 100` as was read.
    line: [u8; LINE],
    len: u8,
    rest: Option<HeadRemainder>,
}

const LINE: usize = b"HTTP/1.1 100".len();
/// The offset of the status's first digit in a status line.
const DIGIT: usize = b"HTTP/1.1 ".len();

/// The part of an informational response's head after its status.
#[derive(Debug)]
struct HeadRemainder {
    status: StatusCode,
    line_is_empty: bool,
}

impl StatusLineScanner {
    /// Returns `true` if the final response has begun, and starts over then.
    #[inline]
    fn scan(&mut self, bytes: &[u8], found: impl FnMut(StatusCode)) -> bool {
        let is_final = bytes.first() == Some(&b'H') && bytes.get(DIGIT).is_some_and(|digit| *digit != b'1');
        let is_over = self.len == 0 && self.rest.is_none() && is_final;
        is_over || self.scan_bytes(bytes, found)
    }

    #[cold]
    fn scan_bytes(&mut self, bytes: &[u8], mut found: impl FnMut(StatusCode)) -> bool {
        for byte in bytes {
            match (&mut self.rest, byte) {
                (Some(HeadRemainder { status, line_is_empty: true }), b'\n') => {
                    found(*status);
                    *self = StatusLineScanner::default();
                }
                (Some(rest), b'\n') => rest.line_is_empty = true,
                (Some(_), b'\r') => {}
                (Some(rest), _) => rest.line_is_empty = false,
                (None, b'\r' | b'\n') if self.len == 0 => {} // a server may begin with empty lines
                (None, _) => {
                    self.line[usize::from(self.len)] = *byte;
                    self.len += 1;
                    if usize::from(self.len) == LINE {
                        self.rest =
                            interim(&self.line).map(|status| HeadRemainder { status, line_is_empty: false });
                        if self.rest.is_none() {
                            *self = StatusLineScanner::default();
                            return true;
                        }
                    }
                }
            }
        }
        false
    }
}

/// Returns the status if it is informational. After 101 another protocol follows, so that is a final response.
fn interim(line: &[u8; LINE]) -> Option<StatusCode> {
    let status = StatusCode::from_bytes(&line[DIGIT..]).ok()?;
    (line.starts_with(b"HTTP/1.") && status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS)
        .then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the statuses in a text that arrives in parts of `part` bytes, and whether the final response has begun.
    fn scan(text: &str, part: usize) -> (Vec<u16>, bool) {
        let (mut scanner, mut statuses) = (StatusLineScanner::default(), Vec::new());
        let mut parts = text.as_bytes().chunks(part);
        let is_over = parts.any(|part| scanner.scan(part, |status| statuses.push(status.as_u16())));
        (statuses, is_over)
    }

    #[test]
    fn interim_responses_are_found_in_parts_of_any_length() {
        for (text, statuses, is_over) in [
            ("HTTP/1.1 200 OK\r\n\r\n", vec![], true),
            ("HTTP/1.1 100 Continue\r\n\r\n", vec![100], false),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", vec![100], true),
            (
                "HTTP/1.1 103 Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 102\n\nHTTP/1.0 404 Not",
                vec![103, 102],
                true,
            ),
            ("\r\nHTTP/1.1 100 Continue\r\nx: y\r\n\r\n\r\nHTTP/1.1 204 \r\n\r\n", vec![100], true),
            ("\r\r\nHTTP/1.1 100 Continue\r\n\r\n", vec![100], false),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", vec![], true),
            ("HTTP/1.1 103 Hints\r\nlink: </x>\r\n", vec![], false),
            ("HTTP/1.1 1xx what\r\n\r\n", vec![], true),
            ("no HTTP/1.1 100 at all", vec![], true),
            ("HTTP/1.1 1", vec![], false),
        ] {
            for part in 1..=text.len() {
                assert_eq!(scan(text, part), (statuses.clone(), is_over), "{text:?} in parts of {part}");
            }
        }
    }
}
