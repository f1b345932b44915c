//! [`Metrics`]: counts of all requests that have ended.

use crate::{
    record::{EndReason, Failure, HttpReqTrace, Text, Timings},
    sink::{FinishedRecord, FinishedRequest, RecordKind, Subscriber},
    sync::IgnorePoison,
    url_authority::url_authority,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// Counts of all requests that have ended, for `/metrics` of a [`DebugPage`](super::super::DebugPage). Clones share them.
///
/// It is a subscriber of the sink. For each host it counts requests, failures by their code, statuses, and how long each
/// phase took. 64 hosts are told apart, and 32 codes for each; what comes later is counted as `other`. CONNECT requests to
/// proxies are not counted.
///
/// It takes a few hundred nanoseconds for each request, and a few microseconds for one that made a connection.
///
/// ```
/// use nettrace::{TraceSink, debug_page::{DebugPage, Metrics}};
///
/// let metrics = Metrics::new();
/// let sink = TraceSink::builder().subscriber(metrics.clone()).build();
/// let page = DebugPage::new(&sink).metrics(&metrics);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Hosts>>);

/// The counts of each host, on this side and the other.
pub(super) type Hosts = BTreeMap<HostKey, HostCounts>;

/// A host, and whether this program answered its requests or sent them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostKey {
    pub(super) served: bool,
    pub(super) host: Text,
}

/// Counts of the requests of a host.
#[derive(Debug, Default)]
pub(super) struct HostCounts {
    pub(super) requests: u64,
    pub(super) new_conns: u64,
    pub(super) reused_conns: u64,
    pub(super) failures: BTreeMap<Text, u64>,
    /// The number of responses of each class: index `i` holds those with statuses of `i + 1` hundred.
    pub(super) statuses: [u64; 5],
    /// The durations of each phase, in the order of [`Timings::PHASES`].
    pub(super) phases: [Durations; Timings::PHASES.len()],
}

/// How often durations occurred.
#[derive(Clone, Debug, Default)]
pub(super) struct Durations {
    /// The number of durations up to the bound with the same index that are longer than the bound before.
    pub(super) buckets: [u64; BOUNDS.len()],
    pub(super) count: u64,
    pub(super) sum: Duration,
}

/// The upper bounds of buckets, in seconds.
pub(super) const BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

const MAX_HOSTS: usize = 64;
const MAX_CODES: usize = 32;
/// The name of what is not told apart.
const OTHER: Text = Text::from_static("other");

impl Metrics {
    /// Creates counts that are all zero.
    pub fn new() -> Self {
        Metrics::default()
    }

    pub(super) fn hosts(&self) -> MutexGuard<'_, Hosts> {
        self.0.lock().ignore_poison()
    }

    fn count(&self, request: &HttpReqTrace, timings: &Timings, is_conn_reused: Option<bool>) {
        if request.req_method == "CONNECT" && !request.network_proxy.is_empty() {
            return;
        }
        let host = url_authority(&request.req_url);
        let mut key = HostKey { served: request.accepted, host: host.into() };
        let mut hosts = self.hosts();
        if hosts.len() >= MAX_HOSTS && !hosts.contains_key(&key) {
            key.host = OTHER;
        }
        hosts.entry(key).or_default().count(request, timings, is_conn_reused);
    }
}

impl Subscriber for Metrics {
    fn finished_request(&self, _: &FinishedRecord, request: &FinishedRequest<'_>) {
        self.count(request.record(), &request.timings(), request.is_conn_reused());
    }

    fn finished(&self, record: &FinishedRecord) {
        // Another subscriber passes the record on, without the rest.
        if let FinishedRecord::HttpRequest(request) = record {
            self.count(request, &Timings::default(), None);
        }
    }

    fn is_interested(&self, kind: RecordKind, _: &EndReason) -> bool {
        kind == RecordKind::HttpRequest
    }
}

impl HostCounts {
    fn count(&mut self, request: &HttpReqTrace, timings: &Timings, is_conn_reused: Option<bool>) {
        self.requests += 1;
        match is_conn_reused {
            Some(true) => self.reused_conns += 1,
            Some(false) => self.new_conns += 1,
            None => {}
        }
        if request.end_reason.as_ref().is_some_and(EndReason::is_failure) {
            let code = request.failure.as_ref().map_or("failed", Failure::as_str);
            // The text after the colon of an unknown code differs from request to request.
            let code = code.split(':').next().unwrap_or_default();
            let is_known = self.failures.contains_key(code) || self.failures.len() < MAX_CODES;
            *self.failures.entry(if is_known { code.into() } else { OTHER }).or_default() += 1;
        }
        let class = usize::from(request.resp_status_code / 100).checked_sub(1);
        if let Some(count) = class.and_then(|class| self.statuses.get_mut(class)) {
            *count += 1;
        }
        for (durations, time) in self.phases.iter_mut().zip(timings.phases()) {
            time.into_iter().for_each(|time| durations.add(time));
        }
    }
}

impl Durations {
    fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket] += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str, json: serde_json::Value) -> HttpReqTrace {
        HttpReqTrace { req_url: url.into(), ..serde_json::from_value(json).unwrap() }
    }

    #[test]
    fn hosts_and_codes_are_bounded() {
        let metrics = Metrics::new();
        for number in 0..200 {
            let request = request(
                &format!("http://h{number}.test/"),
                serde_json::json!({"endReason": "failed", "failure": "connection_refused"}),
            );
            metrics.count(&request, &Timings::default(), None);
        }
        for number in 0..200 {
            let failure = format!("x_{number}");
            let json = serde_json::json!({"endReason": "failed", "failure": failure});
            metrics.count(&request("http://h0.test/", json), &Timings::default(), None);
        }
        let hosts = metrics.hosts();
        assert_eq!(hosts.len(), MAX_HOSTS + 1);
        assert_eq!(hosts.values().map(|counts| counts.requests).sum::<u64>(), 400);
        let first = &hosts[&HostKey { served: false, host: "h0.test".into() }];
        assert_eq!((first.failures.len(), first.failures["other"]), (MAX_CODES + 1, 169));
        assert_eq!(hosts[&HostKey { served: false, host: OTHER }].requests, 200 - MAX_HOSTS as u64);
    }

    #[test]
    fn durations_count_in_the_bucket_that_holds_them() {
        let mut durations = Durations::default();
        for millis in [1, 2, 10_000, 10_001] {
            durations.add(Duration::from_millis(millis));
        }
        assert_eq!((durations.buckets[1], durations.buckets[2], durations.buckets[13]), (1, 1, 1));
        assert_eq!((durations.count, durations.sum), (4, Duration::from_millis(20_004)));
    }

    #[test]
    fn a_connect_to_a_proxy_is_no_request() {
        let metrics = Metrics::new();
        let connect = serde_json::json!({"reqMethod": "CONNECT", "networkProxy": "http://p.test:80"});
        metrics.count(&request("h.test:443", connect), &Timings::default(), None);
        assert!(metrics.hosts().is_empty());
    }
}
