//! [`Streams`]: the open streams of a connection, each with its exchange.

use super::{direction::StreamEvent, field_block::Fields};
use crate::{
    error::{FailureDetail, http2_error_name},
    record::{Failure, WireStop},
    sink::OnWire,
    wire::{
        context::WireContext,
        exchange::{Exchange, WireRequest},
        request_url,
    },
};
use http::{Version, uri::Scheme};
use std::num::NonZeroU32;

/// The streams whose response is not complete.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// In the order of their numbers, which grow.
    open: Vec<(u32, Exchange)>,
}

/// How many streams may be open. Servers allow some hundreds as a rule.
const MAX_OPEN_STREAMS: usize = 4096;

/// The stream is not needed any more (RFC 9113 section 7).
const NO_ERROR: u32 = 0x0;
/// The stream is not needed any more (RFC 9113 section 7).
const CANCEL: u32 = 0x8;

impl Streams {
    /// Records what the client sent.
    pub(super) fn client_sent(&mut self, event: StreamEvent, context: &WireContext) -> Result<(), WireStop> {
        match event {
            StreamEvent::Fields { stream, fields, is_end } => {
                match self.get_mut(stream) {
                    Some(exchange) if is_end => exchange.request_end(context.conn.now()), // trailers
                    Some(_) => {}
                    None => self.begin(stream, fields, !is_end, context)?,
                }
            }
            StreamEvent::Data { stream, bytes } => {
                if let Some(exchange) = self.get_mut(stream) {
                    exchange.sent(bytes);
                }
            }
            StreamEvent::End { stream } => {
                if let Some(exchange) = self.get_mut(stream) {
                    exchange.request_end(context.conn.now());
                }
            }
            StreamEvent::Reset { stream, code } => {
                if let Some(exchange) = self.remove(stream, context) {
                    reset_by_client(exchange, code);
                }
            }
            StreamEvent::GoAway { .. } => {} // concerns streams of the server, which are not read
        }
        Ok(())
    }

    fn begin(
        &mut self,
        stream: u32,
        fields: Fields,
        has_body: bool,
        context: &WireContext,
    ) -> Result<(), WireStop> {
        if self.open.last().is_some_and(|(last, _)| stream <= *last) {
            return Ok(()); // what was reset already, or is no new stream
        }
        if self.open.len() == MAX_OPEN_STREAMS {
            return Err(WireStop::TooManyRequests);
        }
        let Fields { pseudo, headers } = fields;
        let method = pseudo.method.ok_or(WireStop::Http2Frame)?;
        let is_secure = pseudo.scheme.as_ref().map_or(context.is_secure, |scheme| *scheme == Scheme::HTTPS);
        let request = WireRequest {
            wire: OnWire { begin: context.conn.now(), stream: NonZeroU32::new(stream) },
            url: request_url::from_pseudo_fields(&method, is_secure, &pseudo.authority, &pseudo.path),
            method,
            version: Version::HTTP_2,
            headers,
            has_body,
        };
        self.open.push((stream, Exchange::begin(context, request)));
        Ok(())
    }

    /// Records what the server sent.
    pub(super) fn server_sent(&mut self, event: StreamEvent, context: &WireContext) {
        match event {
            StreamEvent::Fields { stream, fields, is_end } => {
                if let Some(exchange) = self.get_mut(stream) {
                    answered(exchange, fields, context);
                }
                if is_end {
                    self.response_complete(stream, context);
                }
            }
            StreamEvent::Data { stream, bytes } => {
                if let Some(exchange) = self.get_mut(stream) {
                    exchange.received(bytes);
                }
            }
            StreamEvent::End { stream } => self.response_complete(stream, context),
            StreamEvent::Reset { stream, code } => {
                if let Some(exchange) = self.remove(stream, context) {
                    let text = format!("the server reset the stream ({})", http2_error_name(code));
                    exchange.failed(fault(Failure::Http2StreamReset, code, text));
                }
            }
            StreamEvent::GoAway { last_stream, code } => {
                let first_refused = self.open.partition_point(|(stream, _)| *stream <= last_stream);
                for (_, exchange) in self.open.drain(first_refused..) {
                    let text = format!("the server shut the connection down ({})", http2_error_name(code));
                    exchange.failed(fault(Failure::Http2Goaway, code, text));
                }
            }
        }
    }

    fn response_complete(&mut self, stream: u32, context: &WireContext) {
        if let Some(exchange) = self.remove(stream, context) {
            exchange.complete();
        }
    }

    #[cfg(feature = "server")]
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Exchange> {
        self.open.iter_mut().map(|(_, exchange)| exchange)
    }

    /// Takes all exchanges.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Exchange> {
        self.open.drain(..).map(|(_, exchange)| exchange)
    }

    fn get_mut(&mut self, stream: u32) -> Option<&mut Exchange> {
        let at = self.position(stream)?;
        Some(&mut self.open[at].1)
    }

    fn remove(&mut self, stream: u32, context: &WireContext) -> Option<Exchange> {
        let at = self.position(stream)?;
        let (_, mut exchange) = self.open.remove(at);
        exchange.decide(context);
        Some(exchange)
    }

    fn position(&self, stream: u32) -> Option<usize> {
        self.open.binary_search_by_key(&stream, |(stream, _)| *stream).ok()
    }
}

/// Records a head or trailers of the server.
fn answered(exchange: &mut Exchange, fields: Fields, context: &WireContext) {
    exchange.decide(context);
    match fields.pseudo.status {
        Some(status) if status.is_informational() => {
            exchange.first_byte(context.conn.now());
            exchange.informational(status);
        }
        Some(status) => {
            exchange.first_byte(context.conn.now());
            exchange.response(status, Version::HTTP_2, &fields.headers);
        }
        None => exchange.trailers(&fields.headers),
    }
}

fn reset_by_client(exchange: Exchange, code: u32) {
    if matches!(code, NO_ERROR | CANCEL) {
        drop(exchange); // it was given up
    } else {
        let text = format!("the client reset the stream ({})", http2_error_name(code));
        exchange.failed(fault(Failure::Http2StreamReset, code, text));
    }
}

fn fault(failure: Failure, code: u32, text: String) -> FailureDetail {
    FailureDetail::new(failure, text).with_http2_error(code)
}
