//! [`EvictedTraffic`]: counts of evicted requests, by host.

use crate::{
    record::{EndReason, Failure, Histogram, HostTraffic, Text, Timings},
    sync::IgnorePoison,
};
use std::{sync::Mutex, time::Duration};

/// Counts of the requests that a sink does not keep any more, for a bounded number of hosts.
#[derive(Debug, Default)]
pub(super) struct EvictedTraffic(Mutex<EvictedHosts>);

/// The host and port of a request's URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Host<'a> {
    pub(super) name: &'a str,
    /// Whether this program answered the request.
    pub(super) is_served: bool,
}

/// The hosts in the order in which they came. There are few, and mostly the same one is asked for again.
#[derive(Debug, Default)]
struct EvictedHosts {
    hosts: Vec<EvictedHost>,
    /// The index of the host that was last asked for.
    last: usize,
}

#[derive(Debug, Default)]
struct EvictedHost {
    name: Text,
    is_served: bool,
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
    pub(super) fn is_slow(&self, host: Host<'_>, duration: Duration) -> bool {
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
        host: Host<'_>,
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

    fn with_host<R>(&self, host: Host<'_>, f: impl FnOnce(&mut EvictedHost) -> R) -> R {
        f(self.0.lock().ignore_poison().host(host))
    }

    /// Returns the hosts with the most requests first.
    pub(super) fn by_host(&self) -> Vec<HostTraffic> {
        let hosts = self.0.lock().ignore_poison();
        let counted = hosts.hosts.iter().filter(|host| host.traffic.requests > 0);
        let mut traffic: Vec<_> = counted.map(EvictedHost::export).collect();
        traffic.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.host.cmp(&b.host)));
        traffic
    }

    pub(super) fn clear(&self) {
        *self.0.lock().ignore_poison() = EvictedHosts::default();
    }
}

impl EvictedHosts {
    /// Returns the counts of a host, or of all that came after the first [`MAX_HOSTS`].
    fn host(&mut self, wanted: Host<'_>) -> &mut EvictedHost {
        let is_wanted = |host: &EvictedHost| *host.name == *wanted.name && host.is_served == wanted.is_served;
        if !self.hosts.get(self.last).is_some_and(is_wanted) {
            let place = self.hosts.iter().position(is_wanted);
            self.last = place.unwrap_or_else(|| self.hosts.len().min(MAX_HOSTS));
        }
        if self.last == self.hosts.len() {
            let (name, is_served) = if self.last < MAX_HOSTS {
                (wanted.name.into(), wanted.is_served)
            } else {
                Default::default()
            };
            self.hosts.push(EvictedHost { name, is_served, ..EvictedHost::default() });
        }
        &mut self.hosts[self.last]
    }
}

impl EvictedHost {
    fn export(&self) -> HostTraffic {
        let name = &self.name;
        let host = if self.is_served { Text::concat(["served ", name]) } else { name.clone() };
        HostTraffic { host, ..self.traffic.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_beyond_the_limit_are_counted_together() {
        let traffic = EvictedTraffic::default();
        for turn in 0..2 {
            for port in 0..100 {
                let (name, is_served) = (format!("host:{port}"), port % 2 == 0);
                let host = Host { name: &name, is_served };
                traffic.add(host, &Timings::default(), &EndReason::Closed, None, 200, Some(turn > 0));
            }
        }
        let by_host = traffic.by_host();
        assert_eq!(by_host.len(), MAX_HOSTS + 1);
        assert_eq!((&*by_host[0].host, by_host[0].requests, by_host[0].new_conns), ("", 72, 36));
        assert!(by_host[1..].iter().all(|host| (host.requests, host.reused_conns) == (2, 1)));
        assert_eq!(by_host.iter().filter(|host| host.host.starts_with("served host:")).count(), 32);
        traffic.clear();
        assert_eq!(traffic.by_host(), []);
    }
}
