//! One TCP handshake with one address.
//!
//! A dial may try several addresses, some of them at the same time. Each attempt is a record of its own, with its own
//! end and error and the ICMP message that refused it. Its socket is shown to the probes before it connects, once the
//! SYN is sent, and when the handshake has ended.

use super::{ProbedSocket, SocketOptions};
use crate::{
    error::{ConnectAttempt, classify::is_connect_in_progress},
    record::IcmpError,
    sink::{AttemptRecorder, ConnRecorder, ProbeEvent},
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{net::TcpStream, time::Sleep};

/// A TCP handshake in progress: resolves to the connected stream and its recorder.
///
/// Dropped before it has resolved, the socket is closed and the attempt recorded as given up.
pub(crate) struct TcpAttempt {
    addr: SocketAddr,
    /// `None` once the attempt has ended.
    handshake: Option<Handshake>,
    timeout: Option<Pin<Box<Sleep>>>,
}

struct Handshake {
    stream: TcpStream,
    recorder: AttemptRecorder,
}

/// The outcome of an attempt that failed.
#[derive(Debug)]
pub(crate) struct FailedAttempt {
    addr: SocketAddr,
    pub(crate) error: io::Error,
    /// The timeout given to [`TcpAttempt::start`] elapsed; the kernel would have gone on.
    pub(crate) timed_out: bool,
    /// The ICMP message that refused the attempt, if a probe has seen one.
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
    /// Opens a socket with these options and sends the SYN.
    pub(crate) fn start(
        addr: SocketAddr,
        recorder: AttemptRecorder,
        timeout: Option<Pin<Box<Sleep>>>,
        options: &SocketOptions,
    ) -> Result<Self, FailedAttempt> {
        match open(addr, options, &recorder) {
            Ok(stream) => {
                recorder.local(|| stream.local_addr().ok());
                Ok(TcpAttempt { addr, handshake: Some(Handshake { stream, recorder }), timeout })
            }
            Err(error) => {
                let icmp_error = recorder.icmp_error();
                recorder.failed(&error);
                Err(FailedAttempt { addr, error, timed_out: false, icmp_error })
            }
        }
    }

    /// Gives the attempt up because another one was faster.
    pub(crate) fn lost_race(&mut self) {
        let _ = self.end_with(AttemptRecorder::lost_race);
    }

    /// Ends the record, unless it has ended, and closes the socket. Returns the ICMP error that refused the attempt.
    fn end_with(&mut self, end: impl FnOnce(AttemptRecorder)) -> Option<IcmpError> {
        let Handshake { stream, recorder } = self.handshake.take()?;
        recorder.show(ProbeEvent::ConnectFailed, stream.probe_socket());
        let icmp_error = recorder.icmp_error();
        end(recorder);
        icmp_error
    }

    fn failed(&self, error: io::Error, icmp_error: Option<IcmpError>) -> FailedAttempt {
        FailedAttempt { addr: self.addr, error, timed_out: false, icmp_error }
    }

    fn polled_after_end(&self) -> FailedAttempt {
        self.failed(io::ErrorKind::NotConnected.into(), None)
    }
}

impl Future for TcpAttempt {
    type Output = Result<(TcpStream, ConnRecorder), FailedAttempt>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(Handshake { stream, .. }) = &this.handshake else {
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
            Ok(()) => match this.handshake.take() {
                Some(Handshake { stream, recorder }) => {
                    let conn = recorder.connected(|| stream.local_addr().ok());
                    conn.show(ProbeEvent::Connected, stream.probe_socket());
                    Ok((stream, conn))
                }
                None => Err(this.polled_after_end()),
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

/// Opens a socket and begins to connect it.
fn open(addr: SocketAddr, options: &SocketOptions, recorder: &AttemptRecorder) -> io::Result<TcpStream> {
    let socket = nonblocking_socket(Domain::for_address(addr))?;
    options.apply_to_tcp(&socket)?;
    recorder.before_connect(socket.probe_socket());
    let begun = match socket.connect(&addr.into()) {
        Err(error) if !is_connect_in_progress(&error) => Err(error),
        _ => Ok(()),
    };
    match begun {
        Ok(()) => recorder.connecting(socket.probe_socket()),
        Err(_) => recorder.show(ProbeEvent::ConnectFailed, socket.probe_socket()),
    }
    begun.and_then(|()| TcpStream::from_std(socket.into()))
}

/// Opens a non-blocking TCP socket, with one system call where the system has one for it.
fn nonblocking_socket(domain: Domain) -> io::Result<Socket> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    return Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP));
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}
