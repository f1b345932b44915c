//! Reads HTTP/1 (RFC 9112) from both directions of a connection.
//!
//! [`message_reader`] divides each direction into messages, with the rules of [`framing`]. [`head`] parses their heads.
//! [`Http1Reader`] puts requests and responses together: responses come in the order of their requests.

mod framing;
mod head;
mod message_reader;

use self::{
    framing::BodyFraming,
    message_reader::{MessageEvent, MessageReader},
};
use super::{context::WireContext, exchange::Exchange};
use crate::{
    record::WireStop,
    sink::{Tick, WireProtocol},
};
use http::{Method, StatusCode};
use std::collections::VecDeque;

/// Reads the requests and the responses of a connection.
#[derive(Debug, Default)]
pub(super) struct Http1Reader {
    requests: MessageReader,
    responses: MessageReader,
    /// The exchanges without a complete response, oldest first.
    exchanges: VecDeque<Exchange>,
    /// When the first byte of the current request passed.
    request_begin: Option<Tick>,
    /// Whether it is known by now that the connection speaks HTTP/1.
    is_known: bool,
    /// Whether the last exchange is the one whose request is passing.
    is_sending: bool,
    /// Whether the client has sent something after CONNECT, without waiting for the response.
    has_early_bytes: bool,
    /// Whether the current response is an interim one.
    is_interim: bool,
}

/// How many requests may be unanswered. A client that pipelines more is not read any more.
const MAX_PIPELINED: usize = 1024;

impl Http1Reader {
    /// Reads bytes that the client sent.
    pub(super) fn requests(&mut self, mut bytes: &[u8], context: &WireContext) -> Result<(), WireStop> {
        while !self.takes_early_bytes(bytes)
            && let Some(event) = self.requests.next(&mut bytes)?
        {
            match event {
                MessageEvent::Begin => self.request_begin = Some(context.conn.now()),
                MessageEvent::Head(head) => {
                    if self.exchanges.len() == MAX_PIPELINED {
                        return Err(WireStop::TooManyRequests);
                    }
                    let begin = self.request_begin.unwrap_or_else(|| context.conn.now());
                    let (request, framing) = head::parse_request(head, begin, context)?;
                    if !std::mem::replace(&mut self.is_known, true) {
                        context.conn.set_wire_protocol(WireProtocol::Http1);
                    }
                    self.exchanges.push_back(Exchange::begin(context, request));
                    self.is_sending = true;
                    self.requests.set_framing(framing);
                }
                MessageEvent::Body(bytes) => {
                    self.sending().into_iter().for_each(|sending| sending.sent(bytes))
                }
                MessageEvent::Trailers(_) => {}
                MessageEvent::End => {
                    if let Some(sending) = self.sending() {
                        sending.request_end(context.conn.now());
                    }
                    self.is_sending = false;
                }
            }
        }
        Ok(())
    }

    /// Returns `true`, and takes the bytes, if the last request is CONNECT. The client may already send what is to go
    /// through the tunnel, which is no HTTP.
    fn takes_early_bytes(&mut self, bytes: &[u8]) -> bool {
        let is_connect = self.exchanges.back().is_some_and(|last| last.method == Method::CONNECT);
        self.has_early_bytes |= is_connect && !self.is_sending && !bytes.is_empty();
        is_connect && !self.is_sending
    }

    /// Returns the exchange whose request is passing, unless its response is complete already.
    fn sending(&mut self) -> Option<&mut Exchange> {
        self.exchanges.back_mut().filter(|_| self.is_sending)
    }

    /// Reads bytes that the server sent.
    pub(super) fn responses(&mut self, mut bytes: &[u8], context: &WireContext) -> Result<(), WireStop> {
        while let Some(event) = self.responses.next(&mut bytes)? {
            let current = self.exchanges.front_mut().ok_or(WireStop::UnexpectedResponse)?;
            current.decide(context);
            match event {
                MessageEvent::Begin => current.first_byte(context.conn.now()),
                MessageEvent::Head(head) => {
                    let head = head::parse_response(head, &current.method, context)?;
                    let is_upgrade = head.status == StatusCode::SWITCHING_PROTOCOLS
                        || current.method == Method::CONNECT && head.status.is_success();
                    self.is_interim = head.status.is_informational() && !is_upgrade;
                    if self.is_interim {
                        current.informational(head.status);
                        self.responses.set_framing(BodyFraming::None);
                        continue;
                    }
                    current.response(head.status, head.version, &head.headers);
                    if is_upgrade {
                        self.response_complete();
                        return Err(WireStop::Upgraded);
                    }
                    if self.has_early_bytes && current.method == Method::CONNECT {
                        return Err(WireStop::NotHttp);
                    }
                    self.responses.set_framing(head.framing);
                }
                MessageEvent::Body(bytes) => current.received(bytes),
                MessageEvent::Trailers(section) => current.trailers(&head::parse_trailers(section, context)),
                MessageEvent::End if self.is_interim => self.is_interim = false,
                MessageEvent::End => self.response_complete(),
            }
        }
        Ok(())
    }

    fn response_complete(&mut self) {
        if let Some(exchange) = self.exchanges.pop_front() {
            exchange.complete();
        }
        // A server may answer before it has read the whole request.
        self.is_sending &= !self.exchanges.is_empty();
    }

    /// Completes a response that ends with the connection, if that is the current one.
    pub(super) fn response_ends_with_close(&mut self) {
        if self.responses.ends_with_close() {
            self.response_complete();
            self.responses = MessageReader::default();
        }
    }

    /// Records that the server sends nothing more.
    pub(super) fn server_closed(&mut self, context: &WireContext) {
        self.response_ends_with_close();
        let mut missing = self.responses.missing_bytes();
        for mut exchange in self.exchanges.drain(..) {
            exchange.decide(context);
            exchange.cut_off(std::mem::take(&mut missing));
        }
    }

    /// Takes the exchanges without a complete response.
    pub(super) fn take_exchanges(&mut self) -> Vec<Exchange> {
        self.exchanges.drain(..).collect()
    }
}
