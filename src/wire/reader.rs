//! [`WireReader`]: reads the HTTP of a connection, of whatever version.

use super::{context::WireContext, http1::Http1Reader, http2::Http2Reader, section::MAX_SECTION_BYTES};
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
    #[cfg(feature = "server")]
    undecided: Undecided,
}

/// Whether there are requests that a layer around the service may record, and when it will have.
///
/// Servers of HTTP/1 give a request to the service before they use the connection again. Those of HTTP/2 read until
/// there is nothing to read first, write, and then give all requests to the service before they read again.
#[cfg(feature = "server")]
#[derive(Clone, Copy, Debug)]
enum Undecided {
    Nothing,
    /// Requests have come with the last read.
    SinceRead,
    /// Requests have come, and then there was nothing to read.
    SincePending,
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
    /// Nothing is read any more.
    Stopped,
}

/// The first bytes of a client that speaks HTTP/2 (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of a TLS connection: the content type of a handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;

impl WireReader {
    pub(super) fn new(context: WireContext) -> Self {
        context.conn.wire_read();
        let protocol = Protocol::Unknown { client: Vec::new(), server: Vec::new() };
        WireReader {
            context,
            protocol,
            fault: None,
            #[cfg(feature = "server")]
            undecided: Undecided::Nothing,
        }
    }

    /// Prepares for a read.
    #[cfg(feature = "server")]
    pub(super) fn before_read(&mut self) {
        match (&self.protocol, self.undecided) {
            (_, Undecided::Nothing) | (Protocol::Http2(_), Undecided::SinceRead) => {}
            _ => self.decide(),
        }
    }

    /// Prepares for a write.
    #[cfg(feature = "server")]
    pub(super) fn before_write(&mut self) {
        match (&self.protocol, self.undecided) {
            (_, Undecided::Nothing) | (Protocol::Http2(_), _) => {}
            _ => self.decide(),
        }
    }

    /// Notes that nothing more can be read for now.
    #[cfg(feature = "server")]
    pub(super) fn read_pending(&mut self) {
        if let Undecided::SinceRead = self.undecided {
            self.undecided = Undecided::SincePending;
        }
    }

    /// Decides which exchanges are recorded: their requests have been given to the service.
    #[cfg(feature = "server")]
    fn decide(&mut self) {
        self.undecided = Undecided::Nothing;
        match &mut self.protocol {
            Protocol::Http1(reader) => reader.decide(&self.context),
            Protocol::Http2(reader) => reader.decide(&self.context),
            Protocol::Unknown { .. } | Protocol::Stopped => {}
        }
    }

    /// Reads bytes that this side sent.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        if self.context.side.is_server() { self.server_sent(bytes) } else { self.client_sent(bytes) }
    }

    /// Reads bytes that this side received. None means that the peer sends nothing more.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        match (self.context.side.is_server(), bytes) {
            // None from the client end nothing: it may still wait for a response.
            #[cfg(feature = "server")]
            (true, _) => {
                self.client_sent(bytes);
                self.undecided = Undecided::SinceRead;
            }
            #[cfg(not(feature = "server"))]
            (true, _) => {}
            (false, []) => self.server_closed(),
            (false, _) => self.server_sent(bytes),
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
            Protocol::Stopped => Ok(()),
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
            Protocol::Stopped => Ok(()),
        };
        self.stop_after(result);
    }

    fn server_closed(&mut self) {
        match &mut self.protocol {
            Protocol::Http1(reader) => reader.server_closed(),
            Protocol::Http2(reader) => reader.server_closed(),
            Protocol::Unknown { .. } | Protocol::Stopped => {}
        }
    }

    /// Records that a read failed: no response can come any more.
    pub(super) fn read_failed(&mut self, error: &io::Error) {
        self.fault.get_or_insert_with(|| io_failure_detail(error));
        self.fail();
    }

    /// Records that a write failed. A response may still come.
    pub(super) fn write_failed(&mut self, error: &io::Error) {
        self.fault.get_or_insert_with(|| io_failure_detail(error));
    }

    /// Ends the exchanges, if the connection is broken.
    fn fail(&mut self) {
        let Some(fault) = &self.fault else { return };
        match &mut self.protocol {
            Protocol::Http1(reader) => reader.failed(fault),
            Protocol::Http2(reader) => reader.failed(fault),
            Protocol::Unknown { .. } | Protocol::Stopped => {}
        }
    }

    fn stop_after(&mut self, result: Result<(), WireStop>) {
        let Err(reason) = result else { return };
        self.context.conn.wire_stopped(reason);
        #[cfg(feature = "server")]
        self.decide();
        match std::mem::replace(&mut self.protocol, Protocol::Stopped) {
            Protocol::Http1(mut reader) => reader.unobserved(),
            Protocol::Http2(mut reader) => reader.unobserved(),
            Protocol::Unknown { .. } | Protocol::Stopped => {}
        }
    }
}

impl Drop for WireReader {
    /// Ends the exchanges: with what broke the connection, or else as given up by this side.
    fn drop(&mut self) {
        #[cfg(feature = "server")]
        self.decide();
        self.fail();
    }
}
