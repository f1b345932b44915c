//! Reads HTTP/2 (RFC 9113) from both directions of a connection.
//!
//! [`frame_reader`] divides each direction into frames. [`field_block`] puts the blocks of fields together, which
//! [`hpack`] decodes. [`direction`] makes events of them. [`streams`] records those that concern a request, with the
//! [`windows`] that its body may wait for, and [`Http2Reader`] those that concern the connection.

mod direction;
mod field_block;
mod frame_reader;
mod hpack;
mod settings;
mod static_table;
mod streams;
mod windows;

use self::{
    direction::{Direction, Event},
    streams::Streams,
};
use super::{
    context::{Side, WireContext},
    exchange::Exchange,
};
use crate::{record::WireStop, sink::Tick};

/// Reads the requests and the responses of a connection.
#[derive(Debug, Default)]
pub(super) struct Http2Reader {
    client: Direction,
    server: Direction,
    streams: Streams,
    /// The last PING of this side that was not answered.
    ping: Option<(u64, Tick)>,
}

impl Http2Reader {
    /// Reads bytes that the client sent after its preface.
    pub(super) fn requests(&mut self, mut bytes: &[u8], context: &WireContext) -> Result<(), WireStop> {
        let (streams, ping) = (&mut self.streams, &mut self.ping);
        while self.client.next(&mut bytes, context, |event| {
            note(&event, false, ping, context);
            streams.client_sent(event, context)
        })? {}
        Ok(())
    }

    /// Reads bytes that the server sent.
    pub(super) fn responses(&mut self, mut bytes: &[u8], context: &WireContext) -> Result<(), WireStop> {
        let (streams, ping) = (&mut self.streams, &mut self.ping);
        while self.server.next(&mut bytes, context, |event| {
            note(&event, true, ping, context);
            streams.server_sent(event, context);
            Ok(())
        })? {}
        Ok(())
    }

    /// Records that the server sends nothing more.
    pub(super) fn server_closed(&mut self, context: &WireContext) {
        for mut exchange in self.streams.take_exchanges(context) {
            exchange.decide(context);
            exchange.cut_off(0);
        }
    }

    /// Takes the exchanges without a complete response.
    pub(super) fn take_exchanges(&mut self, context: &WireContext) -> Vec<Exchange> {
        self.streams.take_exchanges(context)
    }
}

/// Records what a side says of the connection as a whole.
fn note(event: &Event<'_>, by_server: bool, ping: &mut Option<(u64, Tick)>, context: &WireContext) {
    let is_own = by_server == (context.side == Side::Server);
    match *event {
        Event::Settings(payload) => context.conn.note_http2(|facts| {
            let side = if by_server { &mut facts.server } else { &mut facts.client };
            settings::apply(payload, &mut side.settings);
        }),
        Event::Reset { .. } => context.conn.note_http2(|facts| {
            let side = if by_server { &mut facts.server } else { &mut facts.client };
            side.resets += 1;
        }),
        Event::GoAway { last_stream, code, debug_data } => {
            let now = context.conn.now();
            context.conn.note_http2(|facts| facts.go_away(now, by_server, last_stream, code, debug_data));
        }
        Event::Ping { data, is_ack: false } if is_own => *ping = Some((data, context.conn.now())),
        Event::Ping { data, is_ack: true } if !is_own => {
            if let Some((_, since)) = ping.take_if(|(sent, _)| *sent == data) {
                let took = context.conn.between(since, context.conn.now());
                context.conn.note_http2(|facts| facts.ping(took));
            }
        }
        _ => {}
    }
}
