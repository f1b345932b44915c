//! [`Streams`]: the open streams of a connection, each with its exchange.

use super::{
    direction::Event,
    field_block::Fields,
    settings,
    windows::{INITIAL_WINDOW, SendWindow},
};
use crate::{
    error::{FailureDetail, http2_error_name},
    record::{Failure, Http2Settings, WireStop},
    sink::OnWire,
    wire::{
        context::WireContext,
        exchange::{Exchange, WireRequest},
        request_url,
    },
};
use http::{Version, uri::Scheme};
use std::{collections::VecDeque, num::NonZeroU32};

/// The streams whose response is not complete.
#[derive(Debug)]
pub(super) struct Streams {
    /// In the order of their identifiers, which grow.
    open: VecDeque<OpenStream>,
    /// The last stream that the client has opened.
    last: u32,
    /// What the client may send on a new stream.
    initial_window: i64,
    /// What the client may send on all streams together.
    conn_window: i64,
    /// The last stream that the server has not refused with GOAWAY, and the error code of that.
    go_away: Option<(u32, u32)>,
}

#[derive(Debug)]
struct OpenStream {
    id: u32,
    exchange: Exchange,
    /// `None` if the request has no body, or all of it has passed.
    window: Option<SendWindow>,
}

/// How many streams may be open. Servers allow some hundreds as a rule.
const MAX_OPEN_STREAMS: usize = 4096;

/// The stream ends without an error (RFC 9113 section 7).
const NO_ERROR: u32 = 0x0;
/// The stream is not needed any more (RFC 9113 section 7).
const CANCEL: u32 = 0x8;

impl Default for Streams {
    fn default() -> Self {
        Streams {
            open: VecDeque::new(),
            last: 0,
            initial_window: INITIAL_WINDOW,
            conn_window: INITIAL_WINDOW,
            go_away: None,
        }
    }
}

impl Streams {
    /// Records what the client sent.
    pub(super) fn client_sent(&mut self, event: Event<'_>, context: &WireContext) -> Result<(), WireStop> {
        match event {
            Event::Fields { stream, fields, is_end } if stream > self.last => {
                self.begin(stream, fields, !is_end, context)?;
            }
            Event::Fields { stream, is_end, .. } => {
                if is_end {
                    self.request_end(stream, context); // trailers
                }
            }
            Event::Data { stream, bytes } => {
                if let Some(stream) = self.get_mut(stream) {
                    stream.exchange.sent(bytes);
                }
            }
            Event::DataEnd { stream, flow, is_end } => {
                self.data_sent(stream, flow, context);
                if is_end {
                    self.request_end(stream, context);
                }
            }
            Event::Reset { stream, code } => {
                if let Some(exchange) = self.remove(stream, context) {
                    reset_by_client(exchange, code);
                }
            }
            // These are about what the server sends.
            Event::WindowUpdate { .. } | Event::Settings(_) | Event::GoAway { .. } => {}
            Event::Ping { .. } => {}
        }
        Ok(())
    }

    fn begin(
        &mut self,
        id: u32,
        fields: Fields,
        has_body: bool,
        context: &WireContext,
    ) -> Result<(), WireStop> {
        if self.open.len() == MAX_OPEN_STREAMS {
            return Err(WireStop::TooManyRequests);
        }
        self.last = id;
        let Fields { pseudo, headers, content_length: _ } = fields;
        // Without a method the server resets the stream (RFC 9113 section 8.1.1).
        let Some(method) = pseudo.method else { return Ok(()) };
        let is_secure = pseudo.scheme.as_ref().map_or(context.is_secure, |scheme| *scheme == Scheme::HTTPS);
        let request = WireRequest {
            wire: OnWire { begin: context.conn.now(), stream: NonZeroU32::new(id) },
            url: request_url::from_pseudo_fields(
                &method,
                is_secure,
                &pseudo.authority,
                &pseudo.path,
                context,
            ),
            method,
            version: Version::HTTP_2,
            headers,
            has_body,
        };
        let mut exchange = Exchange::begin(context, request);
        if let Some((last, code)) = self.go_away
            && id > last
        {
            exchange.decide(context);
            exchange.failed(shut_down(code));
            return Ok(());
        }
        let window = has_body.then(|| SendWindow::new(self.initial_window, self.conn_window, context));
        self.open.push_back(OpenStream { id, exchange, window });
        Ok(())
    }

    fn request_end(&mut self, stream: u32, context: &WireContext) {
        if let Some(stream) = self.get_mut(stream) {
            stream.window = None;
            stream.exchange.request_end(context.conn.now());
        }
    }

    /// Takes what was sent from both windows.
    fn data_sent(&mut self, stream: u32, flow: u32, context: &WireContext) {
        let (flow, was_open) = (i64::from(flow), self.conn_window > 0);
        self.conn_window -= flow;
        let conn_window = self.conn_window;
        if let Some(stream) = self.get_mut(stream)
            && let Some(waited) =
                stream.window.as_mut().and_then(|window| window.sent(flow, conn_window, context))
        {
            stream.exchange.window_wait(waited);
        }
        if was_open && conn_window <= 0 {
            let now = context.conn.now();
            let windows = self.open.iter_mut().filter_map(|stream| stream.window.as_mut());
            windows.for_each(|window| window.conn_used_up(now));
        }
    }

    /// Changes the window of each stream.
    fn change_windows(&mut self, by: i64, context: &WireContext) {
        for stream in &mut self.open {
            stream.change_window(by, self.conn_window, context);
        }
    }

    /// Records what the server sent.
    pub(super) fn server_sent(&mut self, event: Event<'_>, context: &WireContext) {
        match event {
            Event::Fields { stream, fields, is_end } => {
                if let Some(stream) = self.get_mut(stream) {
                    answered(&mut stream.exchange, fields, context);
                }
                if is_end {
                    self.response_complete(stream, context);
                }
            }
            Event::Data { stream, bytes } => {
                if let Some(stream) = self.get_mut(stream) {
                    stream.exchange.received(bytes);
                }
            }
            Event::DataEnd { stream, is_end, .. } => {
                if is_end {
                    self.response_complete(stream, context);
                }
            }
            Event::Reset { stream, code } => {
                if let Some(exchange) = self.remove(stream, context) {
                    let text = format!("the server reset the stream ({})", http2_error_name(code));
                    exchange.failed(fault(Failure::Http2StreamReset, code, text));
                }
            }
            Event::WindowUpdate { stream: 0, increment } => {
                let was_closed = self.conn_window <= 0;
                self.conn_window = self.conn_window.saturating_add(i64::from(increment));
                if was_closed {
                    self.change_windows(0, context);
                }
            }
            Event::WindowUpdate { stream, increment } => {
                let conn_window = self.conn_window;
                if let Some(stream) = self.get_mut(stream) {
                    stream.change_window(i64::from(increment), conn_window, context);
                }
            }
            Event::Settings(payload) => self.server_settings(payload, context),
            Event::GoAway { last_stream, code, .. } => {
                self.go_away = Some((last_stream, code));
                let first_refused = self.open.partition_point(|stream| stream.id <= last_stream);
                for stream in self.open.drain(first_refused..) {
                    let mut exchange = stream.into_exchange(context);
                    exchange.decide(context);
                    exchange.failed(shut_down(code));
                }
            }
            Event::Ping { .. } => {}
        }
    }

    /// Changes the windows if the server sets another initial one (RFC 9113 section 6.9.2).
    fn server_settings(&mut self, payload: &[u8], context: &WireContext) {
        let mut settings = Http2Settings::default();
        settings::apply(payload, &mut settings);
        if let Some(initial) = settings.initial_window_size.map(i64::from) {
            let by = initial - self.initial_window;
            self.initial_window = initial;
            self.change_windows(by, context);
        }
    }

    fn response_complete(&mut self, stream: u32, context: &WireContext) {
        if let Some(exchange) = self.remove(stream, context) {
            exchange.complete();
        }
    }

    /// Takes all exchanges.
    pub(super) fn take_exchanges(&mut self, context: &WireContext) -> Vec<Exchange> {
        self.open.drain(..).map(|stream| stream.into_exchange(context)).collect()
    }

    fn get_mut(&mut self, stream: u32) -> Option<&mut OpenStream> {
        let at = self.position(stream)?;
        Some(&mut self.open[at])
    }

    fn remove(&mut self, stream: u32, context: &WireContext) -> Option<Exchange> {
        let at = self.position(stream)?;
        let mut exchange = self.open.remove(at)?.into_exchange(context);
        exchange.decide(context);
        Some(exchange)
    }

    fn position(&self, stream: u32) -> Option<usize> {
        self.open.binary_search_by_key(&stream, |stream| stream.id).ok()
    }
}

impl OpenStream {
    /// Returns the exchange. A wait for the window ends with the stream.
    fn into_exchange(mut self, context: &WireContext) -> Exchange {
        if let Some(waited) = self.window.and_then(|window| window.end(context)) {
            self.exchange.window_wait(waited);
        }
        self.exchange
    }

    /// Changes the window, and records the wait for it that has ended with that.
    fn change_window(&mut self, by: i64, conn_window: i64, context: &WireContext) {
        let window = self.window.as_mut();
        if let Some(waited) = window.and_then(|window| window.change(by, conn_window, context)) {
            self.exchange.window_wait(waited);
        }
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
            exchange.declares(fields.content_length);
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

fn shut_down(code: u32) -> FailureDetail {
    let text = format!("the server shut the connection down ({})", http2_error_name(code));
    fault(Failure::Http2Goaway, code, text)
}

fn fault(failure: Failure, code: u32, text: String) -> FailureDetail {
    FailureDetail::new(failure, text).with_http2_error(code)
}
