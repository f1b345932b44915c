//! One TCP handshake with one address.

use super::tcp::SocketOptions;
use crate::{
    error::classify::is_under_way,
    sink::{AttemptRecorder, ConnRecorder, DialRecorder, ProbeEvent},
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::SocketAddr,
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    net::TcpStream,
    time::{Sleep, sleep},
};

/// A handshake under way. Resolves to the stream, or to the address with the error it met.
pub(super) struct Attempt {
    addr: SocketAddr,
    stream: Option<TcpStream>,
    recorder: Option<AttemptRecorder>,
    timeout: Option<Pin<Box<Sleep>>>,
}

impl Attempt {
    /// Sends the SYN.
    pub(super) fn begin(addr: SocketAddr, options: &SocketOptions, dial: &DialRecorder) -> io::Result<Self> {
        let recorder = dial.attempt(addr);
        match open(addr, options, &recorder) {
            Ok(stream) => {
                recorder.local(|| stream.local_addr().ok());
                let timeout = options.handshake_timeout.map(|timeout| Box::pin(sleep(timeout)));
                Ok(Attempt { addr, stream: Some(stream), recorder: Some(recorder), timeout })
            }
            Err(error) => {
                recorder.failed(&error);
                Err(error)
            }
        }
    }

    /// Another one was faster.
    pub(super) fn lost_race(&mut self) {
        self.give_up(AttemptRecorder::lost_race);
    }

    fn give_up(&mut self, end: impl FnOnce(AttemptRecorder)) {
        let Some(recorder) = self.recorder.take() else { return };
        if let Some(stream) = &self.stream {
            recorder.show(ProbeEvent::ConnectFailed, stream.as_fd());
        }
        end(recorder);
        self.stream = None;
    }
}

impl Future for Attempt {
    type Output = Result<(TcpStream, ConnRecorder), (SocketAddr, io::Error)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(stream) = &this.stream else {
            return Poll::Ready(Err((this.addr, io::ErrorKind::NotConnected.into())));
        };
        let result = match stream.poll_write_ready(cx) {
            Poll::Ready(ready) => ready.and_then(|()| stream.take_error()?.map_or(Ok(()), Err)),
            Poll::Pending => {
                let Some(timeout) = &mut this.timeout else { return Poll::Pending };
                ready!(timeout.as_mut().poll(cx));
                this.give_up(AttemptRecorder::timed_out);
                let error = io::Error::new(io::ErrorKind::TimedOut, "the TCP handshake timed out");
                return Poll::Ready(Err((this.addr, error)));
            }
        };
        Poll::Ready(match result {
            Ok(()) => match (this.stream.take(), this.recorder.take()) {
                (Some(stream), Some(recorder)) => {
                    let conn = recorder.connected(|| stream.local_addr().ok());
                    conn.show(ProbeEvent::Connected, stream.as_fd());
                    Ok((stream, conn))
                }
                _ => Err((this.addr, io::ErrorKind::NotConnected.into())),
            },
            Err(error) => {
                this.give_up(|recorder| recorder.failed(&error));
                Err((this.addr, error))
            }
        })
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.give_up(drop);
    }
}

fn open(addr: SocketAddr, options: &SocketOptions, recorder: &AttemptRecorder) -> io::Result<TcpStream> {
    let socket = nonblocking(Domain::for_address(addr))?;
    options.apply(&socket)?;
    recorder.before_connect(socket.as_fd());
    let begun = match socket.connect(&addr.into()) {
        Err(error) if !is_under_way(&error) => Err(error),
        _ => Ok(()),
    };
    if begun.is_err() {
        recorder.show(ProbeEvent::ConnectFailed, socket.as_fd());
    }
    begun.and_then(|()| TcpStream::from_std(socket.into()))
}

/// In one call where the system has one for it.
fn nonblocking(domain: Domain) -> io::Result<Socket> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    return Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP));
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}
