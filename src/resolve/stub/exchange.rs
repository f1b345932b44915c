//! One query to one nameserver over a socket of its own, and the reply.

use std::{
    io, mem,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    message::{Query, Question, Reply, TRUNCATED},
    policy::{Ask, Transport, Verdict, judge},
    trace,
};
use crate::{
    connect::Attempt,
    error::{FailureDetail, ResolveErrorKind as Kind},
    record::{EndReason, Failure},
    sink::{ConnRecorder, DialRef, DnsRecorder, ProbeEvent, ProbeSocket},
};

/// Datagrams longer than what was offered are taken up to here.
const MIN_UDP_BUFFER: usize = 4096;
const MIN_TCP_BUFFER: usize = 2048;

/// What all exchanges of a lookup have in common.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) dial: DialRef,
    /// For each transport: a query that goes on over TCP has as long again.
    pub(super) timeout: Duration,
    pub(super) source_ip: Option<IpAddr>,
    /// The UDP payload size to offer, `None` without EDNS.
    pub(super) payload: Option<u16>,
    pub(super) trust_ad: bool,
}

impl Exchange {
    /// Asks `question` with a fresh ID and from a fresh port, and judges the reply.
    pub(super) async fn run(&self, ask: Ask, question: &Question) -> Result<Verdict, Kind> {
        let query = Query::new(question, self.payload.filter(|_| ask.edns), self.trust_ad)
            .map_err(|error| Kind::Io(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let talk = Talk { ask, question, query };
        let deadline = Instant::now() + self.timeout;
        match ask.transport {
            Transport::Udp => self.over_udp(&talk, deadline).await,
            Transport::Tcp => self.over_tcp(&talk, deadline).await,
        }
    }

    async fn over_udp(&self, talk: &Talk<'_>, deadline: Instant) -> Result<Verdict, Kind> {
        let dial = self.dial.resolver_dial(talk.ask.server);
        let (socket, local) = match self.connect_udp(talk.ask.server) {
            Ok(connected) => connected,
            Err(error) => {
                dial.failed(&error);
                return Err(Kind::Io(error));
            }
        };
        let mut link = Link::new(socket, dial.udp(local));
        link.conn.show(ProbeEvent::Connected, fd(&link.socket));
        let mut ignored = None;
        let outcome = match timeout_at(deadline, link.datagrams(talk, self.payload, &mut ignored)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Kind::Timeout { ignored }),
        };
        link.finish(&outcome);
        outcome
    }

    async fn over_tcp(&self, talk: &Talk<'_>, deadline: Instant) -> Result<Verdict, Kind> {
        let mut link = self.connect_tcp(talk.ask.server, deadline).await?;
        let outcome = match timeout_at(deadline, link.frames(talk)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Kind::Timeout { ignored: None }),
        };
        link.finish(&outcome);
        outcome
    }

    /// A connected socket hears of refusals (ICMP), and of replies from that server alone. The kernel gives it
    /// its port only when it is connected, so that no stranger's datagram can come before.
    fn connect_udp(&self, server: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
        let socket = Socket::new(Domain::for_address(server), Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        self.bind(&socket, server)?;
        socket.connect(&server.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let local = socket.local_addr()?;
        Ok((socket, local))
    }

    async fn connect_tcp(&self, server: SocketAddr, deadline: Instant) -> Result<Link<TcpStream>, Kind> {
        let dial = self.dial.resolver_dial(server);
        let timeout = Box::pin(sleep_until(deadline));
        let attempt = Attempt::begin(server, dial.tcp(), Some(timeout), |socket| self.bind(socket, server));
        let connected = match attempt {
            Ok(attempt) => attempt.await,
            Err(failed) => Err(failed),
        };
        match connected {
            Ok((stream, conn)) => {
                dial.connected(&conn);
                Ok(Link::new(stream, conn))
            }
            Err(failed) if failed.timed_out => {
                dial.timed_out();
                Err(Kind::Timeout { ignored: None })
            }
            Err(failed) => {
                dial.failed(&failed.error);
                Err(Kind::Io(failed.error))
            }
        }
    }

    fn bind(&self, socket: &Socket, server: SocketAddr) -> io::Result<()> {
        self.source_for(server).map_or(Ok(()), |source| socket.bind(&SocketAddr::new(source, 0).into()))
    }

    /// The address to bind to: a nameserver on this very host is not reachable from every one of them.
    fn source_for(&self, server: SocketAddr) -> Option<IpAddr> {
        let applies = |source: &IpAddr| source.is_ipv4() == server.is_ipv4() && !server.ip().is_loopback();
        self.source_ip.filter(applies)
    }
}

struct Talk<'a> {
    ask: Ask,
    question: &'a Question,
    query: Query,
}

impl Talk<'_> {
    /// Takes a message that came; an error says why it is not used.
    fn take(&self, message: &[u8], dns: &mut DnsRecorder) -> Result<Verdict, String> {
        let reply = Reply::decode(message);
        let taken = match reply.mismatch(&self.query, self.question) {
            Some(why) => Err(why),
            None => Ok(judge(&reply, self.question, self.ask)),
        };
        let ignored = || match &taken {
            Err(why) => why.clone().into(),
            Ok(Verdict::Truncated) => "truncated".into(),
            Ok(_) => "".into(),
        };
        dns.reply(ignored, |answers, ignored| trace::reply(&reply, answers, ignored));
        taken
    }
}

/// A socket with its recorders, closed in this order.
struct Link<S: Lend> {
    dns: DnsRecorder,
    socket: S,
    conn: ConnRecorder,
    finished: bool,
}

impl<S: Lend> Link<S> {
    fn new(socket: S, conn: ConnRecorder) -> Self {
        Self { dns: conn.dns(), socket, conn, finished: false }
    }

    /// Says how it went and closes.
    fn finish(mut self, outcome: &Result<Verdict, Kind>) {
        self.finished = true;
        if let Err(Kind::Timeout { .. }) = outcome {
            self.conn.will_end(EndReason::Timeout, Some((Failure::GenericTimeoutError, "no reply in time")));
        }
        let of_verdict = outcome.as_ref().ok().and_then(Verdict::fault);
        let mut dns = mem::replace(&mut self.dns, DnsRecorder::off());
        match of_verdict.as_ref().or(outcome.as_ref().err()) {
            None => dns.done(),
            Some(fault) => {
                let timed_out = matches!(fault, Kind::Timeout { .. });
                let reason = if timed_out { EndReason::Timeout } else { EndReason::Failed };
                dns.failed(reason, || FailureDetail::new(fault.failure(), fault.to_string()));
            }
        }
    }
}

impl<S: Lend> Drop for Link<S> {
    fn drop(&mut self) {
        if !self.finished {
            let fault = (Failure::Interrupted, "the lookup was given up");
            self.conn.will_end(EndReason::Cancelled, Some(fault));
        }
        self.conn.show(ProbeEvent::Closing, fd(&self.socket));
    }
}

impl Link<UdpSocket> {
    /// Sends the query and takes datagrams until one is the reply.
    async fn datagrams(
        &mut self,
        talk: &Talk<'_>,
        payload: Option<u16>,
        ignored: &mut Option<String>,
    ) -> Result<Verdict, Kind> {
        let call = self.conn.start();
        let sent = self.socket.send(&talk.query.wire).await;
        self.conn.write(call, sent.as_ref().copied());
        sent.map_err(Kind::Io)?;
        self.dns.query(|| trace::query(&talk.query, talk.question));

        let capacity = MIN_UDP_BUFFER.max(payload.map_or(0, |payload| usize::from(payload) + 1));
        let mut buffer = Vec::with_capacity(capacity);
        loop {
            buffer.clear();
            let call = self.conn.start();
            // An async `recv` wakes on ICMP errors, which polling does not.
            let received = self.socket.recv_buf(&mut buffer).await;
            let first = self.conn.read(call, received.as_ref().copied());
            received.map_err(Kind::Io)?;
            if first {
                self.conn.show(ProbeEvent::FirstByte, fd(&self.socket));
            }
            if buffer.len() >= capacity {
                // The kernel cuts off what does not fit: that is as if the server had said so.
                buffer[2] |= TRUNCATED;
            }
            match talk.take(&buffer, &mut self.dns) {
                Ok(verdict) => return Ok(verdict),
                Err(why) => *ignored = Some(why),
            }
        }
    }
}

impl Link<TcpStream> {
    /// Sends the query and reads one reply, each after its length (RFC 1035 section 4.2.2).
    async fn frames(&mut self, talk: &Talk<'_>) -> Result<Verdict, Kind> {
        let mut frame = Vec::with_capacity(2 + talk.query.wire.len());
        // A query has one name of at most 255 octets.
        frame.extend((talk.query.wire.len() as u16).to_be_bytes());
        frame.extend(&talk.query.wire);
        self.write_all(&frame).await.map_err(Kind::Io)?;
        self.dns.query(|| trace::query(&talk.query, talk.question));

        let mut buffer = Vec::with_capacity(MIN_TCP_BUFFER);
        let message = loop {
            if let Some(message) = first_frame(&buffer) {
                break message;
            }
            self.read_some(&mut buffer).await.map_err(Kind::Io)?;
        };
        // Nobody but the server can have sent this, and it sends no other.
        talk.take(message, &mut self.dns).map_err(Kind::BadReply)
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let call = self.conn.start();
            let written = self.socket.write(bytes).await;
            self.conn.write(call, written.as_ref().copied());
            match written? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => bytes = &bytes[n..],
            }
        }
        Ok(())
    }

    async fn read_some(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.reserve(missing(buffer));
        let call = self.conn.start();
        let read = self.socket.read_buf(buffer).await;
        let first = self.conn.read(call, read.as_ref().copied());
        if read? == 0 {
            self.conn.peer_closed();
            let text = "the nameserver closed the connection before the end of its reply";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        if first {
            self.conn.show(ProbeEvent::FirstByte, fd(&self.socket));
        }
        Ok(())
    }
}

/// The first message of a stream without its length, once it is complete.
fn first_frame(stream: &[u8]) -> Option<&[u8]> {
    let (len, rest) = stream.split_first_chunk()?;
    rest.get(..u16::from_be_bytes(*len).into())
}

/// How many bytes the first message needs at least until it is complete.
fn missing(stream: &[u8]) -> usize {
    let whole = match stream.first_chunk() {
        Some(len) => 2 + usize::from(u16::from_be_bytes(*len)),
        None => 2,
    };
    whole.saturating_sub(stream.len()).max(1)
}

#[cfg(unix)]
use std::os::fd::AsFd as Lend;
#[cfg(windows)]
use std::os::windows::io::AsSocket as Lend;

#[cfg(unix)]
pub(super) fn fd(socket: &impl Lend) -> ProbeSocket<'_> {
    socket.as_fd()
}

#[cfg(windows)]
pub(super) fn fd(socket: &impl Lend) -> ProbeSocket<'_> {
    socket.as_socket()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_address_is_for_its_family_and_not_for_this_host() {
        let source: IpAddr = [192, 0, 2, 9].into();
        let exchange = Exchange {
            dial: DialRef::default(),
            timeout: Duration::ZERO,
            source_ip: Some(source),
            payload: None,
            trust_ad: false,
        };
        let towards = |server: &str| exchange.source_for(server.parse().unwrap());
        assert_eq!(towards("192.0.2.1:53"), Some(source));
        assert_eq!(towards("127.0.0.53:53"), None);
        assert_eq!(towards("[2001:db8::1]:53"), None);
    }

    #[test]
    fn frames_are_taken_off_a_stream() {
        let stream = [0, 3, b'a', b'b', b'c', 0, 1, b'd'];
        assert_eq!(first_frame(&stream), Some(&b"abc"[..]));
        for cut in 0..5 {
            assert_eq!(first_frame(&stream[..cut]), None, "{cut}");
            assert!(missing(&stream[..cut]) >= 1);
        }
        assert_eq!(missing(&[]), 2);
        assert_eq!(missing(&[0xff, 0xff]), 0xffff);
        assert_eq!(first_frame(&[0, 0]), Some(&b""[..]));
    }
}
