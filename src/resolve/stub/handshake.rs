//! The TCP handshake with a nameserver.

use super::exchange::fd;
use crate::{
    error::classify::is_under_way,
    sink::{AttemptRecorder, ConnRecorder, ProbeEvent},
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{IpAddr, SocketAddr},
};
use tokio::net::TcpStream;

/// A handshake under way; none when it is over. Dropped before that, it was given up.
pub(super) struct Handshake(Option<(TcpStream, AttemptRecorder)>);

impl Handshake {
    /// Sends the SYN.
    pub(super) fn begin(
        server: SocketAddr,
        source: Option<IpAddr>,
        attempt: AttemptRecorder,
    ) -> io::Result<Self> {
        match open(server, source, &attempt) {
            Ok(stream) => {
                attempt.local(|| stream.local_addr().ok());
                Ok(Self(Some((stream, attempt))))
            }
            Err(error) => {
                attempt.failed(&error);
                Err(error)
            }
        }
    }

    /// Waits for the server's answer.
    pub(super) async fn connect(&mut self) -> io::Result<(TcpStream, ConnRecorder)> {
        if let Some((stream, _)) = &self.0 {
            stream.writable().await?;
            stream.take_error()?.map_or(Ok(()), Err)?;
        }
        let (stream, attempt) = self.0.take().ok_or(io::ErrorKind::NotConnected)?;
        let conn = attempt.connected(|| stream.local_addr().ok());
        Ok((stream, conn))
    }

    pub(super) fn failed(mut self, error: &io::Error) {
        self.give_up(|attempt| attempt.failed(error));
    }

    pub(super) fn timed_out(mut self) {
        self.give_up(AttemptRecorder::timed_out);
    }

    fn give_up(&mut self, end: impl FnOnce(AttemptRecorder)) {
        if let Some((stream, attempt)) = self.0.take() {
            attempt.show(ProbeEvent::ConnectFailed, fd(&stream));
            end(attempt);
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.give_up(drop);
    }
}

fn open(server: SocketAddr, source: Option<IpAddr>, attempt: &AttemptRecorder) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    attempt.before_connect(fd(&socket));
    let begun = match socket.connect(&server.into()) {
        Err(error) if !is_under_way(&error) => Err(error),
        _ => Ok(()),
    };
    if begun.is_err() {
        attempt.show(ProbeEvent::ConnectFailed, fd(&socket));
    }
    begun.and_then(|()| TcpStream::from_std(socket.into()))
}
