//! [`WireFacts`]: the HTTP that was read from the bytes of a connection.

use crate::{
    error::http2_error_name,
    record::{
        GoAway, Http2Settings, Http2Trace, Text, WireStop, WireTrace,
        limits::{LimitedText, MAX_DEBUG_DATA_BYTES},
    },
    sink::{clock::Tick, snapshot::timeline::Timeline},
    sync::IgnorePoison,
};
use std::{
    sync::{Mutex, MutexGuard, OnceLock},
    time::Duration,
};

/// The HTTP that was read from the bytes of a connection. Allocated when they are read.
#[derive(Debug, Default)]
pub(crate) struct WireFacts {
    protocol: OnceLock<WireProtocol>,
    stop: OnceLock<(Tick, WireStop)>,
    http2: Mutex<Http2Facts>,
}

/// A protocol that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireProtocol {
    Http1,
    Http2,
}

/// The frames of both sides that concern an HTTP/2 connection as a whole.
#[derive(Debug, Default)]
pub(crate) struct Http2Facts {
    pub(crate) client: Http2Side,
    pub(crate) server: Http2Side,
    pings: u64,
    min_ping: Option<Duration>,
    max_ping: Option<Duration>,
    go_aways: Vec<(Tick, GoAway)>,
}

/// The frames of one side.
#[derive(Debug, Default)]
pub(crate) struct Http2Side {
    pub(crate) settings: Http2Settings,
    /// The number of streams that it reset.
    pub(crate) resets: u64,
}

/// How many GOAWAY frames are kept. An orderly shutdown takes two.
const MAX_GO_AWAYS: usize = 8;

impl WireFacts {
    pub(super) fn set_protocol(&self, protocol: WireProtocol) {
        let _ = self.protocol.set(protocol);
    }

    pub(super) fn stopped(&self, at: Tick, reason: WireStop) {
        let _ = self.stop.set((at, reason));
    }

    pub(super) fn http2(&self) -> MutexGuard<'_, Http2Facts> {
        self.http2.lock().ignore_poison()
    }

    /// Returns the memory that the facts take, themselves included.
    pub(super) fn heap_bytes(&self) -> usize {
        let http2 = self.http2();
        let text = |(_, frame): &(Tick, GoAway)| frame.debug_data.len();
        let texts = http2.go_aways.iter().map(text).sum::<usize>();
        size_of::<WireFacts>() + http2.go_aways.capacity() * size_of::<(Tick, GoAway)>() + texts
    }

    pub(in crate::sink) fn export(&self, times: &Timeline) -> WireTrace {
        let protocol = self.protocol.get();
        let stop = self.stop.get();
        WireTrace {
            protocol: protocol.map_or("", |protocol| protocol.alpn_name()).into(),
            http2: (protocol == Some(&WireProtocol::Http2)).then(|| Box::new(self.http2().export(times))),
            stopped_at: times.at(stop.map(|(at, _)| *at)),
            stop_reason: stop.map(|(_, reason)| reason.clone()),
        }
    }
}

impl WireProtocol {
    fn alpn_name(self) -> &'static str {
        match self {
            WireProtocol::Http1 => "http/1.1",
            WireProtocol::Http2 => "h2",
        }
    }
}

impl Http2Facts {
    /// Records how long a PING of this side took to be answered.
    pub(crate) fn ping(&mut self, took: Duration) {
        self.pings += 1;
        self.min_ping = Some(self.min_ping.map_or(took, |least| least.min(took)));
        self.max_ping = Some(self.max_ping.map_or(took, |most| most.max(took)));
    }

    pub(crate) fn go_away(
        &mut self,
        at: Tick,
        by_server: bool,
        last_stream_id: u32,
        code: u32,
        debug_data: &[u8],
    ) {
        if self.go_aways.len() == MAX_GO_AWAYS {
            return;
        }
        let debug_data =
            LimitedText::new(String::from_utf8_lossy(debug_data).into_owned(), MAX_DEBUG_DATA_BYTES);
        let frame = GoAway {
            by_server,
            last_stream_id,
            error: Text::from(http2_error_name(code).as_ref()),
            debug_data: debug_data.text().clone().into(),
            ..GoAway::default()
        };
        self.go_aways.push((at, frame));
    }

    fn export(&self, times: &Timeline) -> Http2Trace {
        let micros = |took: Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let go_away = |(at, frame): &(Tick, GoAway)| GoAway { at: times.at(*at), ..frame.clone() };
        Http2Trace {
            client_settings: self.client.settings.clone(),
            server_settings: self.server.settings.clone(),
            client_resets: self.client.resets,
            server_resets: self.server.resets,
            pings: self.pings,
            min_ping_us: self.min_ping.map(micros),
            max_ping_us: self.max_ping.map(micros),
            go_aways: self.go_aways.iter().map(go_away).collect(),
        }
    }
}
