//! One TCP handshake with one address.

use crate::{
    error::{ConnectAttempt, classify::is_connect_in_progress},
    record::IcmpError,
    sink::{AttemptRecorder, ConnRecorder, ProbeEvent},
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::SocketAddr,
    os::fd::AsFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{net::TcpStream, time::Sleep};

/// A handshake under way.
pub(crate) struct TcpAttempt {
    addr: SocketAddr,
    stream: Option<TcpStream>,
    recorder: Option<AttemptRecorder>,
    timeout: Option<Pin<Box<Sleep>>>,
}

/// What came of one that failed.
#[derive(Debug)]
pub(crate) struct FailedAttempt {
    addr: SocketAddr,
    pub(crate) error: io::Error,
    /// It took too long, by our own clock.
    pub(crate) timed_out: bool,
    icmp_error: Option<IcmpError>,
}

impl From<FailedAttempt> for ConnectAttempt {
    fn from(failed: FailedAttempt) -> Self {
        ConnectAttempt {
            addr: failed.addr,
            error: Arc::new(failed.error),
            icmp_error: failed.icmp_error.map(Box::new),
        }
    }
}

impl TcpAttempt {
    /// Sends the SYN from a socket that was set up with `configure`.
    pub(crate) fn start(
        addr: SocketAddr,
        recorder: AttemptRecorder,
        timeout: Option<Pin<Box<Sleep>>>,
        configure: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> Result<Self, FailedAttempt> {
        match open(addr, configure, &recorder) {
            Ok(stream) => {
                recorder.local(|| stream.local_addr().ok());
                Ok(TcpAttempt { addr, stream: Some(stream), recorder: Some(recorder), timeout })
            }
            Err(error) => {
                let icmp_error = recorder.icmp_error();
                recorder.failed(&error);
                Err(FailedAttempt { addr, error, timed_out: false, icmp_error })
            }
        }
    }

    /// Another one was faster.
    pub(crate) fn lost_race(&mut self) {
        let _ = self.end_with(AttemptRecorder::lost_race);
    }

    /// Polled again after its end.
    fn polled_after_end(&self) -> FailedAttempt {
        self.failed(io::ErrorKind::NotConnected.into(), None)
    }

    fn failed(&self, error: io::Error, icmp_error: Option<IcmpError>) -> FailedAttempt {
        FailedAttempt { addr: self.addr, error, timed_out: false, icmp_error }
    }

    /// Gives what the network said of it.
    fn end_with(&mut self, end: impl FnOnce(AttemptRecorder)) -> Option<IcmpError> {
        let recorder = self.recorder.take()?;
        if let Some(stream) = &self.stream {
            recorder.show(ProbeEvent::ConnectFailed, stream.as_fd());
        }
        let icmp_error = recorder.icmp_error();
        end(recorder);
        self.stream = None;
        icmp_error
    }
}

impl Future for TcpAttempt {
    type Output = Result<(TcpStream, ConnRecorder), FailedAttempt>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(stream) = &this.stream else {
            return Poll::Ready(Err(this.polled_after_end()));
        };
        let result = match stream.poll_write_ready(cx) {
            Poll::Ready(ready) => ready.and_then(|()| stream.take_error()?.map_or(Ok(()), Err)),
            Poll::Pending => {
                let Some(timeout) = &mut this.timeout else { return Poll::Pending };
                ready!(timeout.as_mut().poll(cx));
                let icmp_error = this.end_with(AttemptRecorder::timed_out);
                let error = io::Error::new(io::ErrorKind::TimedOut, "the TCP handshake timed out");
                return Poll::Ready(Err(FailedAttempt { timed_out: true, ..this.failed(error, icmp_error) }));
            }
        };
        Poll::Ready(match result {
            Ok(()) => match (this.stream.take(), this.recorder.take()) {
                (Some(stream), Some(recorder)) => {
                    let conn = recorder.connected(|| stream.local_addr().ok());
                    conn.show(ProbeEvent::Connected, stream.as_fd());
                    Ok((stream, conn))
                }
                _ => Err(this.polled_after_end()),
            },
            Err(error) => {
                let icmp_error = this.end_with(|recorder| recorder.failed(&error));
                Err(this.failed(error, icmp_error))
            }
        })
    }
}

impl Drop for TcpAttempt {
    fn drop(&mut self) {
        let _ = self.end_with(drop);
    }
}

fn open(
    addr: SocketAddr,
    configure: impl FnOnce(&Socket) -> io::Result<()>,
    recorder: &AttemptRecorder,
) -> io::Result<TcpStream> {
    let socket = nonblocking(Domain::for_address(addr))?;
    configure(&socket)?;
    recorder.before_connect(socket.as_fd());
    let begun = match socket.connect(&addr.into()) {
        Err(error) if !is_connect_in_progress(&error) => Err(error),
        _ => Ok(()),
    };
    match begun {
        Ok(()) => recorder.connecting(socket.as_fd()),
        Err(_) => recorder.show(ProbeEvent::ConnectFailed, socket.as_fd()),
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
