//! [`StallWatch`]: a thread that finds requests without progress, for the probes to look at their connections.
//!
//! It compares what each request in flight has counted since the last look. So requests do no extra work for it, and it
//! works on any runtime, and while that is blocked.

use super::{
    clock::Tick, probe::ProbeEvent, record_id::RecordId, registry::Pinned, request::record::RequestRecord,
};
use std::{
    collections::HashMap,
    sync::{
        atomic::Ordering::Relaxed,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

/// A handle of the thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct StallWatch(#[expect(dead_code, reason = "its drop is the message")] Sender<()>);

/// The bounds of the time between two looks, which is a quarter of the time after which a request is stalled.
const MIN_INTERVAL: Duration = Duration::from_millis(5);
const MAX_INTERVAL: Duration = Duration::from_secs(1);

impl StallWatch {
    /// Starts the thread. `requests` returns those that the sink keeps, and `None` once the sink is gone or closed.
    /// Returns `None` if the system has no thread left, which is logged.
    pub(super) fn start(
        after: Duration,
        requests: impl Fn() -> Option<Pinned<RequestRecord>> + Send + 'static,
    ) -> Option<Self> {
        let (alive, ended) = mpsc::channel();
        let interval = (after / 4).clamp(MIN_INTERVAL, MAX_INTERVAL);
        let watch = move || {
            let mut watched = WatchedRequests::default();
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(interval) {
                let Some(requests) = requests() else { return };
                watched.look(&requests, after, Instant::now());
            }
        };
        match thread::Builder::new().name("nettrace-stalls".into()).spawn(watch) {
            Ok(_) => Some(StallWatch(alive)),
            Err(error) => {
                let text = "cannot start the thread that finds stalled requests, none are reported";
                tracing::warn!(target: "nettrace", "{text}: {error}");
                None
            }
        }
    }
}

/// The requests in flight at the last look.
#[derive(Debug, Default)]
struct WatchedRequests(HashMap<RecordId, WatchedRequest>);

#[derive(Debug)]
struct WatchedRequest {
    progress: Progress,
    since: Instant,
    is_reported: bool,
}

/// How far a request has come.
#[derive(Debug, PartialEq)]
struct Progress {
    acquired: Option<Tick>,
    sent: u64,
    body_end: Option<Tick>,
    response: Option<Tick>,
    received: u64,
}

impl Progress {
    fn of(request: &RequestRecord) -> Self {
        Progress {
            acquired: request.conn_acquired.get(),
            sent: request.sent.load(Relaxed),
            body_end: request.body_end.get(),
            response: request.response_head.get(),
            received: request.received.load(Relaxed),
        }
    }
}

impl WatchedRequests {
    /// Has the probes look at the connection of each request that has made no progress for `after`, once until it makes
    /// some.
    fn look(&mut self, requests: &Pinned<RequestRecord>, after: Duration, now: Instant) {
        let mut in_flight = HashMap::new();
        for (id, request) in requests.iter().filter(|(_, request)| request.end.is_open()) {
            let progress = Progress::of(request);
            let known = self.0.remove(&id).filter(|known| known.progress == progress);
            let mut watched = known.unwrap_or(WatchedRequest { progress, since: now, is_reported: false });
            if !watched.is_reported && now.saturating_duration_since(watched.since) >= after {
                watched.is_reported = true;
                request.show_conn_to_probes(ProbeEvent::Stalled);
            }
            in_flight.insert(id, watched);
        }
        self.0 = in_flight;
    }
}
