//! [`WireReader`]: reads the HTTP of a connection, of whatever version.

use super::{
    context::{Side, WireContext},
    exchange::Exchange,
    http1::Http1Reader,
    http2::Http2Reader,
    section::MAX_SECTION_BYTES,
};
use crate::{
    error::{FailureDetail, classify::io_failure_detail},
    record::WireStop,
    sink::WireProtocol,
};
use std::io;

/// Reads the HTTP that passes over a connection, and records its requests.
#[derive(Debug)]
pub(super) struct WireReader {
    context: WireContext,
    protocol: Protocol,
    /// What broke the connection.
    fault: Option<FailureDetail>,
}

#[derive(Debug)]
enum Protocol {
    /// The client has not sent enough to tell. What either side has sent so far.
    Unknown {
        client: Vec<u8>,
        server: Vec<u8>,
    },
    Http1(Box<Http1Reader>),
    Http2(Box<Http2Reader>),
    /// Nothing is read any more. The exchanges are those of which it is not known yet whether a layer records them.
    Stopped(Vec<Exchange>),
}

/// The first bytes of a client that speaks HTTP/2 (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of a TLS connection: the content type of a handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;

impl WireReader {
    pub(super) fn new(context: WireContext) -> Self {
        context.conn.wire_read();
        let protocol = Protocol::Unknown { client: Vec::new(), server: Vec::new() };
        WireReader { context, protocol, fault: None }
    }

    /// Reads bytes that this side sent.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        match self.context.side {
            Side::Client => self.client_sent(bytes),
            Side::Server => self.server_sent(bytes),
        }
    }

    /// Reads bytes that this side received. An empty slice says that the peer sends nothing more.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        match (self.context.side, bytes) {
            (Side::Client, []) => self.server_closed(),
            (Side::Client, _) => self.server_sent(bytes),
            // A client that sends nothing more may still wait for its responses.
            (Side::Server, _) => self.client_sent(bytes),
        }
    }

    /// Records that this side sends nothing more.
    pub(super) fn shut_down(&mut self) {
        match self.context.side {
            Side::Client => {} // it may still wait for its responses
            Side::Server => {
                if let Protocol::Http1(reader) = &mut self.protocol {
                    reader.response_ends_with_close();
                }
            }
        }
    }

    fn client_sent(&mut self, bytes: &[u8]) {
        let result = match &mut self.protocol {
            Protocol::Http1(reader) => reader.requests(bytes, &self.context),
            Protocol::Http2(reader) => reader.requests(bytes, &self.context),
            Protocol::Unknown { client, .. } if client.is_empty() => self.client_begins(bytes),
            Protocol::Unknown { client, .. } => {
                client.extend_from_slice(bytes);
                let all = std::mem::take(client);
                self.client_begins(&all)
            }
            Protocol::Stopped(_) => Ok(()),
        };
        self.stop_after(result);
    }

    /// Finds out the protocol from the first bytes of the client, and reads them.
    fn client_begins(&mut self, bytes: &[u8]) -> Result<(), WireStop> {
        let Protocol::Unknown { client, server } = &mut self.protocol else { return Ok(()) };
        if HTTP2_PREFACE.starts_with(bytes) && bytes.len() < HTTP2_PREFACE.len() {
            client.extend_from_slice(bytes);
            return Ok(());
        }
        if bytes.first() == Some(&TLS_HANDSHAKE) {
            return Err(WireStop::Tls);
        }
        let server = std::mem::take(server);
        if let Some(frames) = bytes.strip_prefix(HTTP2_PREFACE) {
            self.context.conn.set_wire_protocol(WireProtocol::Http2);
            self.protocol = Protocol::Http2(Box::default());
            self.client_sent(frames);
        } else {
            self.protocol = Protocol::Http1(Box::default());
            self.client_sent(bytes);
        }
        self.server_sent(&server);
        Ok(())
    }

    fn server_sent(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let result = match &mut self.protocol {
            Protocol::Http1(reader) => reader.responses(bytes, &self.context),
            Protocol::Http2(reader) => reader.responses(bytes, &self.context),
            Protocol::Unknown { server, .. } if server.len() + bytes.len() > MAX_SECTION_BYTES => {
                Err(WireStop::NotHttp)
            }
            Protocol::Unknown { server, .. } => {
                server.extend_from_slice(bytes);
                Ok(())
            }
            Protocol::Stopped(_) => Ok(()),
        };
        self.stop_after(result);
    }

    fn server_closed(&mut self) {
        match &mut self.protocol {
            Protocol::Http1(reader) => reader.server_closed(&self.context),
            Protocol::Http2(reader) => reader.server_closed(&self.context),
            Protocol::Unknown { .. } | Protocol::Stopped(_) => {}
        }
    }

    /// Records that a read failed: no response can come any more.
    pub(super) fn read_failed(&mut self, error: &io::Error) {
        self.fault.get_or_insert_with(|| io_failure_detail(error));
        self.end_exchanges();
    }

    /// Records that a write failed. A response may still come.
    pub(super) fn write_failed(&mut self, error: &io::Error) {
        self.fault.get_or_insert_with(|| io_failure_detail(error));
    }

    /// Ends the exchanges: with what broke the connection, or else as given up by this side.
    fn end_exchanges(&mut self) {
        for mut exchange in self.take_exchanges() {
            exchange.decide(&self.context);
            if let Some(fault) = &self.fault {
                exchange.failed(fault.clone());
            }
        }
    }

    fn take_exchanges(&mut self) -> Vec<Exchange> {
        match &mut self.protocol {
            Protocol::Http1(reader) => reader.take_exchanges(),
            Protocol::Http2(reader) => reader.take_exchanges(&self.context),
            Protocol::Unknown { .. } | Protocol::Stopped(_) => Vec::new(),
        }
    }

    fn stop_after(&mut self, result: Result<(), WireStop>) {
        let Err(reason) = result else { return };
        self.context.conn.wire_stopped(reason);
        let exchanges = self.take_exchanges().into_iter();
        let (undecided, known): (Vec<_>, Vec<_>) = exchanges.partition(Exchange::is_undecided);
        end_unobserved(known.into_iter(), &self.context);
        self.protocol = Protocol::Stopped(undecided);
    }
}

/// Ends exchanges whose rest is not read.
fn end_unobserved(exchanges: impl Iterator<Item = Exchange>, context: &WireContext) {
    for mut exchange in exchanges {
        exchange.decide(context);
        exchange.unobserved();
    }
}

impl Drop for WireReader {
    fn drop(&mut self) {
        self.end_exchanges();
        if let Protocol::Stopped(undecided) = &mut self.protocol {
            end_unobserved(undecided.drain(..), &self.context);
        }
    }
}
