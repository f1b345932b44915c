//! Reads HTTP/2 (RFC 9113) from both directions of a connection.
//!
//! [`frame_reader`] divides each direction into frames. [`field_block`] puts the blocks of fields together, which
//! [`hpack`] decodes. [`direction`] makes events of streams of them, and [`streams`] records those. [`Http2Reader`] is
//! what holds them together.

mod direction;
mod field_block;
mod frame_reader;
mod hpack;
mod static_table;
mod streams;

use self::{direction::Direction, streams::Streams};
use super::context::WireContext;
use crate::{error::FailureDetail, record::WireStop};

/// Reads the requests and the responses of a connection.
#[derive(Debug, Default)]
pub(super) struct Http2Reader {
    client: Direction,
    server: Direction,
    streams: Streams,
}

impl Http2Reader {
    /// Reads bytes that the client sent after its preface.
    pub(super) fn requests(&mut self, mut bytes: &[u8], context: &WireContext) -> Result<(), WireStop> {
        while let Some(event) = self.client.next(&mut bytes, context)? {
            self.streams.client_sent(event, context)?;
        }
        Ok(())
    }

    /// Reads bytes that the server sent.
    pub(super) fn responses(&mut self, mut bytes: &[u8], context: &WireContext) -> Result<(), WireStop> {
        while let Some(event) = self.server.next(&mut bytes, context)? {
            self.streams.server_sent(event, context);
        }
        Ok(())
    }

    /// Decides for each new exchange of an accepted connection whether it is recorded.
    #[cfg(feature = "server")]
    pub(super) fn decide(&mut self, context: &WireContext) {
        self.streams.iter_mut().for_each(|exchange| exchange.decide(context));
    }

    /// Records that the server sends nothing more.
    pub(super) fn server_closed(&mut self) {
        self.streams.drain().for_each(|exchange| exchange.cut_off(0));
    }

    /// Ends the exchanges, because of an error of the connection.
    pub(super) fn failed(&mut self, fault: &FailureDetail) {
        self.streams.drain().for_each(|exchange| exchange.failed(fault.clone()));
    }

    /// Ends the exchanges, because nothing more is read.
    pub(super) fn unobserved(&mut self) {
        self.streams.drain().for_each(|exchange| exchange.unobserved());
    }
}
