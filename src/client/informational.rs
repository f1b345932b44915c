//! Interim responses (1xx) over HTTP/1, which hyper reads past. Its own callback for them takes four allocations a
//! request; here a look at the first bytes of each response does.

use crate::{client::send_body::Gate, sink::CurrentRequest};
use http::StatusCode;
use std::{
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, ReadBuf};

/// Who wants to hear of the interim responses on a connection.
#[derive(Default)]
pub(super) struct Interim {
    awaited: AtomicBool,
    listener: Mutex<Option<Listener>>,
}

struct Listener {
    request: CurrentRequest,
    gate: Option<Gate>,
}

impl Interim {
    /// The current request is about to be sent: what comes next is the response to it.
    pub(super) fn listen(&self, gate: Option<&Gate>) {
        let request = CurrentRequest::get();
        if gate.is_some() || request.is_on() {
            *self.listener() = Some(Listener { request, gate: gate.cloned() });
            self.awaited.store(true, Release);
        }
    }

    #[inline]
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Acquire)
    }

    fn came(&self, status: StatusCode) {
        let listener = self.listener();
        let Some(Listener { request, gate }) = &*listener else { return };
        request.informational(status);
        let gate = gate.clone().filter(|_| status == StatusCode::CONTINUE);
        drop(listener);
        if let Some(gate) = gate {
            gate.open();
        }
    }

    /// The final response begins.
    fn is_over(&self) {
        self.awaited.store(false, Relaxed);
        let listener = self.listener().take();
        drop(listener);
    }

    fn listener(&self) -> MutexGuard<'_, Option<Listener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows what is read from `inner` to the one who listens.
pub(super) struct Listening<'a, T> {
    pub(super) inner: T,
    pub(super) scanner: &'a mut StatusLineScanner,
    pub(super) interim: &'a Interim,
}

impl<T: AsyncRead + Unpin> AsyncRead for Listening<'_, T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if this.scanner.take(&buf.filled()[before..], |status| this.interim.came(status)) {
            this.interim.is_over();
        }
        Poll::Ready(Ok(()))
    }
}

/// How far the heads of interim responses have come, in however many parts (RFC 9112 section 2).
#[derive(Debug, Default)]
pub(super) struct StatusLineScanner {
    /// The begin of a status line: as much of `HTTP/1.1 100` as there is.
    line: [u8; LINE],
    len: u8,
    rest: Option<HeadRemainder>,
}

const LINE: usize = b"HTTP/1.1 100".len();
/// Where the first digit of the status is.
const DIGIT: usize = b"HTTP/1.1 ".len();

/// What comes after the status of an interim response, to the end of its head.
#[derive(Debug)]
struct HeadRemainder {
    status: StatusCode,
    line_is_empty: bool,
}

impl StatusLineScanner {
    /// True when the final response has begun. It starts anew then.
    #[inline]
    fn take(&mut self, bytes: &[u8], came: impl FnMut(StatusCode)) -> bool {
        let is_final = bytes.first() == Some(&b'H') && bytes.get(DIGIT).is_some_and(|digit| *digit != b'1');
        let is_over = self.len == 0 && self.rest.is_none() && is_final;
        is_over || self.take_each(bytes, came)
    }

    #[cold]
    fn take_each(&mut self, bytes: &[u8], mut came: impl FnMut(StatusCode)) -> bool {
        for byte in bytes {
            match (&mut self.rest, byte) {
                (Some(HeadRemainder { status, line_is_empty: true }), b'\n') => {
                    came(*status);
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

/// The status, if it is an interim one. After 101 another protocol follows.
fn interim(line: &[u8; LINE]) -> Option<StatusCode> {
    let status = StatusCode::from_bytes(&line[DIGIT..]).ok()?;
    (line.starts_with(b"HTTP/1.") && status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS)
        .then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen of it when it comes in parts of that length, and after how many of them it is over.
    fn seen(text: &str, part: usize) -> (Vec<u16>, bool) {
        let (mut scanner, mut statuses) = (StatusLineScanner::default(), Vec::new());
        let mut parts = text.as_bytes().chunks(part);
        let is_over = parts.any(|part| scanner.take(part, |status| statuses.push(status.as_u16())));
        (statuses, is_over)
    }

    #[test]
    fn interim_responses_are_seen_in_whatever_parts_they_come() {
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
                assert_eq!(seen(text, part), (statuses.clone(), is_over), "{text:?} in parts of {part}");
            }
        }
    }
}
