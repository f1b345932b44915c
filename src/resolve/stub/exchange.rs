//! One query to one nameserver, and the reply.
//!
//! In plain DNS each exchange opens a socket of its own, so that the query has an unpredictable port and the trace a
//! connection with its reads and writes. Over TLS and HTTPS, exchanges share the connections of `encrypted`.
//! `policy.rs` decides which exchange comes next; this module does the I/O.

#[cfg(feature = "encrypted-dns")]
use std::sync::Arc;
use std::{
    io, mem,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_proto::ProtoError;
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::{Instant, sleep_until, timeout_at},
};

#[cfg(feature = "encrypted-dns")]
use super::encrypted::EncryptedDns;
use super::{
    message::{Query, Question, Reply, TC_BIT},
    options::source_for,
    policy::{QueryAttempt, Transport, Verdict, classify_reply},
    to_record,
};
use crate::{
    error::{FailureDetail, ResolveErrorKind as Kind},
    nameserver::NameserverKind,
    net::{ProbedSocket, SocketOptions, TcpAttempt},
    record::{EndReason, Failure},
    sink::{ConnRecorder, DialRef, DnsRecorder, ProbeEvent},
};
#[cfg(feature = "encrypted-dns")]
use crate::{nameserver::EncryptedNameserver, sink::RequestHandle};

/// Capacity for a reply over UDP, in bytes. Longer datagrams than were offered are accepted up to here.
const MIN_UDP_BUFFER: usize = 4096;
/// Initial capacity for a reply over TCP, in bytes.
const MIN_TCP_BUFFER: usize = 2048;

/// The state that all exchanges of a lookup share.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) dial: DialRef,
    /// How long to wait for each transport: a query that is repeated over TCP has this time again.
    pub(super) timeout: Duration,
    /// The local address to ask from.
    pub(super) source_ip: Option<IpAddr>,
    /// The UDP payload size to offer, in bytes; `None` without EDNS.
    pub(super) udp_payload_size: Option<u16>,
    /// Queries set the AD bit (option `trust-ad`).
    pub(super) trust_ad: bool,
    /// The connections to nameservers that are asked over TLS or HTTPS; `None` if none is configured.
    #[cfg(feature = "encrypted-dns")]
    pub(super) encrypted: Option<Arc<EncryptedDns>>,
}

impl Exchange {
    /// Asks `question` with a new ID and from a new port. Returns what the reply means.
    pub(super) async fn run(&self, attempt: &QueryAttempt, question: &Question) -> Result<Verdict, Kind> {
        let deadline = Instant::now() + self.timeout;
        let edns = self.udp_payload_size.filter(|_| attempt.edns);
        let server = match &attempt.server.0 {
            NameserverKind::Plain(server) => *server,
            #[cfg(feature = "encrypted-dns")]
            NameserverKind::Encrypted(server) => {
                let Some(encrypted) = &self.encrypted else { return Err(Kind::NoNameservers) };
                return Box::pin(self.over_encrypted(encrypted, server, attempt, question, edns, deadline))
                    .await;
            }
        };
        let query = Query::new(question, edns, self.trust_ad).map_err(unencodable)?;
        let context = QueryContext { server, attempt, question, query };
        match attempt.transport {
            Transport::Tcp => self.over_tcp(&context, deadline).await,
            _ => self.over_udp(&context, deadline).await,
        }
    }

    /// Asks over a connection that other lookups may use at the same time.
    #[cfg(feature = "encrypted-dns")]
    async fn over_encrypted(
        &self,
        encrypted: &EncryptedDns,
        server: &Arc<EncryptedNameserver>,
        attempt: &QueryAttempt,
        question: &Question,
        edns: Option<u16>,
        deadline: Instant,
    ) -> Result<Verdict, Kind> {
        let connection = encrypted.checkout(server, &self.dial, deadline).await?;
        let mut dns = self.dial.dns_over(connection.conn());
        let id = match connection.reserve_id(deadline).await {
            Ok(id) => id,
            Err(error) => {
                let outcome = Err(error);
                finish_dns(dns, &outcome);
                return outcome;
            }
        };
        let query = Query::padded(question, edns, self.trust_ad, id.id()).map_err(unencodable)?;
        let on_sent = |request: Option<&RequestHandle>| {
            dns.query(|| to_record::query(&query, question));
            if let Some(request) = request {
                dns.carried_by(request);
            }
        };
        let outcome = match connection.exchange(id, query.wire.clone(), deadline, on_sent).await {
            Ok(message) => on_message(&message, &query, question, attempt, &mut dns).map_err(Kind::BadReply),
            Err(error) => Err(error),
        };
        finish_dns(dns, &outcome);
        outcome
    }

    async fn over_udp(&self, context: &QueryContext<'_>, deadline: Instant) -> Result<Verdict, Kind> {
        let dial = self.dial.resolver_dial(&context.attempt.server);
        let (socket, local) = match self.connect_udp(context.server) {
            Ok(connected) => connected,
            Err(error) => {
                dial.failed(&error);
                return Err(Kind::Io(error));
            }
        };
        let mut conn = NameserverConn::new(socket, dial.udp(local, context.server));
        conn.recorder.show(ProbeEvent::Connected, conn.socket.probe_socket());
        let mut ignored = None;
        let outcome =
            match timeout_at(deadline, conn.datagrams(context, self.udp_payload_size, &mut ignored)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Kind::Timeout { ignored }),
            };
        conn.finish(&outcome);
        outcome
    }

    async fn over_tcp(&self, context: &QueryContext<'_>, deadline: Instant) -> Result<Verdict, Kind> {
        let mut conn = self.connect_tcp(context, deadline).await?;
        let outcome = match timeout_at(deadline, conn.frames(context)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Kind::Timeout { ignored: None }),
        };
        conn.finish(&outcome);
        outcome
    }

    /// Opens a UDP socket connected to the nameserver.
    ///
    /// A connected socket reports ICMP errors and receives datagrams only from that nameserver. It gets its port when
    /// it is connected, so no datagram of another sender can arrive before.
    fn connect_udp(&self, server: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
        let socket = Socket::new(Domain::for_address(server), Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        self.socket_options(server).bind(&socket)?;
        socket.connect(&server.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let local = socket.local_addr()?;
        Ok((socket, local))
    }

    async fn connect_tcp(
        &self,
        context: &QueryContext<'_>,
        deadline: Instant,
    ) -> Result<NameserverConn<TcpStream>, Kind> {
        let server = context.server;
        let dial = self.dial.resolver_dial(&context.attempt.server);
        let timeout = Box::pin(sleep_until(deadline));
        let attempt =
            TcpAttempt::start(server, dial.tcp(server), Some(timeout), &self.socket_options(server));
        let connected = match attempt {
            Ok(attempt) => attempt.await,
            Err(failed) => Err(failed),
        };
        match connected {
            Ok((stream, conn)) => {
                dial.connected(&conn);
                Ok(NameserverConn::new(stream, conn))
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

    fn socket_options(&self, server: SocketAddr) -> SocketOptions {
        SocketOptions { source_ip: source_for(self.source_ip, server), ..SocketOptions::default() }
    }
}

/// The parts of a query by which its reply is recognised.
struct QueryContext<'a> {
    /// The address that the query is sent to.
    server: SocketAddr,
    attempt: &'a QueryAttempt,
    question: &'a Question,
    query: Query,
}

impl QueryContext<'_> {
    /// Records a message that came and returns what it means. The error says why it is not the reply.
    fn on_message(&self, message: &[u8], dns: &mut DnsRecorder) -> Result<Verdict, String> {
        on_message(message, &self.query, self.question, self.attempt, dns)
    }
}

fn on_message(
    message: &[u8],
    query: &Query,
    question: &Question,
    attempt: &QueryAttempt,
    dns: &mut DnsRecorder,
) -> Result<Verdict, String> {
    let reply = Reply::decode(message);
    let verdict = match reply.mismatch(query, question) {
        Some(why) => Err(why),
        None => Ok(classify_reply(&reply, question, attempt)),
    };
    let ignored = || match &verdict {
        Err(why) => why.clone().into(),
        Ok(Verdict::Truncated) => "truncated".into(),
        Ok(_) => "".into(),
    };
    dns.reply(ignored, |answers, ignored| to_record::reply(&reply, answers, ignored));
    verdict
}

/// Records the outcome of an exchange.
fn finish_dns(mut dns: DnsRecorder, outcome: &Result<Verdict, Kind>) {
    let verdict_error = outcome.as_ref().ok().and_then(Verdict::error_kind);
    match verdict_error.as_ref().or(outcome.as_ref().err()) {
        None => dns.done(),
        Some(error) => {
            let timed_out = matches!(error, Kind::Timeout { .. });
            let reason = if timed_out { EndReason::Timeout } else { EndReason::Failed };
            dns.failed(reason, || FailureDetail::new(error.failure(), error.to_string()));
        }
    }
}

fn unencodable(error: ProtoError) -> Kind {
    Kind::Io(io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// A socket connected to a nameserver, with its recorders. Fields are dropped in this order: the query ends first, then
/// the socket is closed, then the connection ends.
struct NameserverConn<S: ProbedSocket> {
    dns: DnsRecorder,
    socket: S,
    recorder: ConnRecorder,
    /// [`finish`](Self::finish) was called. Otherwise the lookup was dropped.
    finished: bool,
}

impl<S: ProbedSocket> NameserverConn<S> {
    fn new(socket: S, recorder: ConnRecorder) -> Self {
        Self { dns: recorder.dns(), socket, recorder, finished: false }
    }

    /// Records the outcome and closes the socket.
    fn finish(mut self, outcome: &Result<Verdict, Kind>) {
        self.finished = true;
        if let Err(Kind::Timeout { .. }) = outcome {
            self.recorder
                .will_end(EndReason::Timeout, Some((Failure::GenericTimeoutError, "no reply in time")));
        }
        finish_dns(mem::replace(&mut self.dns, DnsRecorder::off()), outcome);
    }
}

impl<S: ProbedSocket> Drop for NameserverConn<S> {
    fn drop(&mut self) {
        if !self.finished {
            let detail = (Failure::Interrupted, "the lookup was given up");
            self.recorder.will_end(EndReason::Cancelled, Some(detail));
        }
        self.recorder.show(ProbeEvent::Closing, self.socket.probe_socket());
    }
}

impl NameserverConn<UdpSocket> {
    /// Sends the query and receives datagrams until one is the reply. `ignored` is set to why the last one was not.
    async fn datagrams(
        &mut self,
        context: &QueryContext<'_>,
        udp_payload_size: Option<u16>,
        ignored: &mut Option<String>,
    ) -> Result<Verdict, Kind> {
        let call = self.recorder.start();
        let sent = self.socket.send(&context.query.wire).await;
        self.recorder.write(call, sent.as_ref().copied());
        sent.map_err(Kind::Io)?;
        self.dns.query(|| to_record::query(&context.query, context.question));

        let capacity = MIN_UDP_BUFFER
            .max(udp_payload_size.map_or(0, |udp_payload_size| usize::from(udp_payload_size) + 1));
        let mut buffer = Vec::with_capacity(capacity);
        loop {
            buffer.clear();
            let call = self.recorder.start();
            // `recv` wakes on ICMP errors; `poll_recv` does not.
            let received = self.socket.recv_buf(&mut buffer).await;
            let first = self.recorder.read(call, received.as_ref().copied());
            received.map_err(Kind::Io)?;
            if first {
                self.recorder.show(ProbeEvent::FirstByte, self.socket.probe_socket());
            }
            if buffer.len() >= capacity {
                // The kernel cut off what did not fit: treated as if the server had set the TC bit.
                buffer[2] |= TC_BIT;
            }
            match context.on_message(&buffer, &mut self.dns) {
                Ok(verdict) => return Ok(verdict),
                Err(why) => *ignored = Some(why),
            }
        }
    }
}

impl NameserverConn<TcpStream> {
    /// Sends the query and reads one reply. Each is preceded by its length (RFC 1035 section 4.2.2).
    async fn frames(&mut self, context: &QueryContext<'_>) -> Result<Verdict, Kind> {
        let mut frame = Vec::with_capacity(2 + context.query.wire.len());
        // The length fits: a query has one name of at most 255 octets.
        frame.extend((context.query.wire.len() as u16).to_be_bytes());
        frame.extend(&context.query.wire);
        self.write_all(&frame).await.map_err(Kind::Io)?;
        self.dns.query(|| to_record::query(&context.query, context.question));

        let mut buffer = Vec::with_capacity(MIN_TCP_BUFFER);
        let message = loop {
            if let Some(message) = first_frame(&buffer) {
                break message;
            }
            self.read_some(&mut buffer).await.map_err(Kind::Io)?;
        };
        // Only the nameserver can have sent this, so there is no other reply to wait for.
        context.on_message(message, &mut self.dns).map_err(Kind::BadReply)
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let call = self.recorder.start();
            let written = self.socket.write(bytes).await;
            self.recorder.write(call, written.as_ref().copied());
            match written? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => bytes = &bytes[n..],
            }
        }
        Ok(())
    }

    async fn read_some(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.reserve(bytes_missing(buffer));
        let call = self.recorder.start();
        let read = self.socket.read_buf(buffer).await;
        let first = self.recorder.read(call, read.as_ref().copied());
        if read? == 0 {
            self.recorder.peer_closed();
            let text = "the nameserver closed the connection before the end of its reply";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        if first {
            self.recorder.show(ProbeEvent::FirstByte, self.socket.probe_socket());
        }
        Ok(())
    }
}

/// Returns the first message of a stream, without its length, once it is complete.
fn first_frame(stream: &[u8]) -> Option<&[u8]> {
    let (len, rest) = stream.split_first_chunk()?;
    rest.get(..u16::from_be_bytes(*len).into())
}

/// Returns how many more bytes the first message needs, at least one.
fn bytes_missing(stream: &[u8]) -> usize {
    let whole = match stream.first_chunk() {
        Some(len) => 2 + usize::from(u16::from_be_bytes(*len)),
        None => 2,
    };
    whole.saturating_sub(stream.len()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_split_off_a_stream() {
        let stream = [0, 3, b'a', b'b', b'c', 0, 1, b'd'];
        assert_eq!(first_frame(&stream), Some(&b"abc"[..]));
        for cut in 0..5 {
            assert_eq!(first_frame(&stream[..cut]), None, "{cut}");
            assert!(bytes_missing(&stream[..cut]) >= 1);
        }
        assert_eq!(bytes_missing(&[]), 2);
        assert_eq!(bytes_missing(&[0xff, 0xff]), 0xffff);
        assert_eq!(first_frame(&[0, 0]), Some(&b""[..]));
    }
}
