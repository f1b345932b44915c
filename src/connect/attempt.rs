//! One TCP handshake with one address.

use super::tcp::SocketOptions;
use crate::{
    error::ConnectAttempt,
    record::IcmpError,
    sink::{AttemptRecorder, ConnRecorder, DialRecorder, ProbeEvent},
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, ErrorKind::WouldBlock},
    net::SocketAddr,
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    net::TcpStream,
    time::{Sleep, sleep},
};

/// A handshake under way. Resolves to the stream, or to the error that it met.
pub(super) struct Attempt {
    addr: SocketAddr,
    stream: Option<TcpStream>,
    recorder: Option<AttemptRecorder>,
    timeout: Option<Pin<Box<Sleep>>>,
}

impl Attempt {
    /// Sends the SYN.
    pub(super) fn begin(
        addr: SocketAddr,
        options: &SocketOptions,
        dial: &DialRecorder,
    ) -> Result<Self, ConnectAttempt> {
        let recorder = dial.attempt(addr);
        match open(addr, options, &recorder) {
            Ok(stream) => {
                recorder.local(|| stream.local_addr().ok());
                let timeout = options.handshake_timeout.map(|timeout| Box::pin(sleep(timeout)));
                Ok(Attempt { addr, stream: Some(stream), recorder: Some(recorder), timeout })
            }
            Err(error) => {
                let failed = ConnectAttempt::new(addr, error, recorder.icmp_error());
                recorder.failed(&failed.error);
                Err(failed)
            }
        }
    }

    /// Another one was faster.
    pub(super) fn lost_race(&mut self) {
        let _ = self.give_up(AttemptRecorder::lost_race);
    }

    /// Polled again after its end.
    fn taken(&self) -> ConnectAttempt {
        ConnectAttempt::new(self.addr, io::ErrorKind::NotConnected.into(), None)
    }

    /// Gives what the network said of it.
    fn give_up(&mut self, end: impl FnOnce(AttemptRecorder)) -> Option<IcmpError> {
        let recorder = self.recorder.take()?;
        if let Some(stream) = &self.stream {
            recorder.show(ProbeEvent::ConnectFailed, stream.as_fd());
        }
        let said = recorder.icmp_error();
        end(recorder);
        self.stream = None;
        said
    }
}

impl Future for Attempt {
    type Output = Result<(TcpStream, ConnRecorder), ConnectAttempt>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(stream) = &this.stream else {
            return Poll::Ready(Err(this.taken()));
        };
        let result = match stream.poll_write_ready(cx) {
            Poll::Ready(ready) => ready.and_then(|()| stream.take_error()?.map_or(Ok(()), Err)),
            Poll::Pending => {
                let Some(timeout) = &mut this.timeout else { return Poll::Pending };
                ready!(timeout.as_mut().poll(cx));
                let said = this.give_up(AttemptRecorder::timed_out);
                let error = io::Error::new(io::ErrorKind::TimedOut, "the TCP handshake timed out");
                return Poll::Ready(Err(ConnectAttempt::new(this.addr, error, said)));
            }
        };
        Poll::Ready(match result {
            Ok(()) => match (this.stream.take(), this.recorder.take()) {
                (Some(stream), Some(recorder)) => {
                    let conn = recorder.connected(|| stream.local_addr().ok());
                    conn.show(ProbeEvent::Connected, stream.as_fd());
                    Ok((stream, conn))
                }
                _ => Err(this.taken()),
            },
            Err(error) => {
                let said = this.give_up(|recorder| recorder.failed(&error));
                Err(ConnectAttempt::new(this.addr, error, said))
            }
        })
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let _ = self.give_up(drop);
    }
}

fn open(addr: SocketAddr, options: &SocketOptions, recorder: &AttemptRecorder) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    options.apply(&socket)?;
    recorder.before_connect(socket.as_fd());
    let begun = match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() != Some(IN_PROGRESS) && error.kind() != WouldBlock => Err(error),
        _ => Ok(()),
    };
    match begun {
        Ok(()) => recorder.connecting(socket.as_fd()),
        Err(_) => recorder.show(ProbeEvent::ConnectFailed, socket.as_fd()),
    }
    begun.and_then(|()| TcpStream::from_std(socket.into()))
}

/// `EINPROGRESS` of `connect(2)` on a non-blocking socket, which std has no kind for.
#[cfg(any(target_os = "linux", target_os = "android"))]
const IN_PROGRESS: i32 = 115;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const IN_PROGRESS: i32 = 36;
