//! [`EvictedTraffic`]: counts of evicted requests, by host.

use crate::{
    record::{EndReason, Failure, Histogram, HostTraffic, Text, Timings},
    sync::IgnorePoison,
};
use std::{collections::HashMap, sync::Mutex, time::Duration};

/// Counts of the requests that a sink does not keep any more, for a bounded number of hosts.
#[derive(Debug, Default)]
pub(super) struct EvictedTraffic(Mutex<HashMap<Text, EvictedHost>>);

#[derive(Debug, Default)]
struct EvictedHost {
    traffic: HostTraffic,
    /// How long requests took, those included that are kept because they took long.
    durations: Histogram,
    /// The number of `durations`.
    seen: u64,
    /// What 99 % of the requests took at most when `seen` was last a multiple of [`SLOWEST_INTERVAL`].
    p99: Option<Duration>,
}

/// The maximum number of hosts. Those that come later are counted together.
const MAX_HOSTS: usize = 64;

/// The number of requests after which it is determined again which are slow.
const SLOWEST_INTERVAL: u64 = 128;

impl EvictedTraffic {
    /// Returns `true` if a request took longer than 99 % of those to the same host before it.
    pub(super) fn is_slow(&self, host: &str, duration: Duration) -> bool {
        self.with_host(host, |host| {
            let is_slow = host.p99.is_some_and(|p99| duration > p99);
            host.durations.add(duration);
            host.seen += 1;
            if host.seen.is_multiple_of(SLOWEST_INTERVAL) {
                host.p99 = host.durations.percentile(99);
            }
            is_slow
        })
    }

    /// Counts a request that is evicted.
    pub(super) fn add(
        &self,
        host: &str,
        timings: &Timings,
        reason: &EndReason,
        failure: Option<&Failure>,
        status: u16,
        is_conn_reused: Option<bool>,
    ) {
        self.with_host(host, |host| {
            host.traffic.add(timings, reason, failure, status);
            match is_conn_reused {
                Some(true) => host.traffic.reused_conns += 1,
                Some(false) => host.traffic.new_conns += 1,
                None => {}
            }
        });
    }

    fn with_host<R>(&self, name: &str, f: impl FnOnce(&mut EvictedHost) -> R) -> R {
        let mut hosts = self.0.lock().ignore_poison();
        let name = if hosts.len() < MAX_HOSTS || hosts.contains_key(name) { name } else { "" };
        match hosts.get_mut(name) {
            Some(host) => f(host),
            None => f(hosts.entry(name.into()).or_default()),
        }
    }

    /// Returns the hosts with the most requests first.
    pub(super) fn by_host(&self) -> Vec<HostTraffic> {
        let hosts = self.0.lock().ignore_poison();
        let counted = hosts.iter().filter(|(_, host)| host.traffic.requests > 0);
        let mut traffic: Vec<_> =
            counted.map(|(name, host)| HostTraffic { host: name.clone(), ..host.traffic.clone() }).collect();
        traffic.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.host.cmp(&b.host)));
        traffic
    }

    pub(super) fn clear(&self) {
        self.0.lock().ignore_poison().clear();
    }
}
