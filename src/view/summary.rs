//! A summary of a trace: what happened with each host.

use super::style::{Line, Palette, Style};
use crate::{
    graph::{self, TraceGraph},
    readable,
    record::{EndReason, Failure, Histogram, HostTraffic, HttpReqTrace, NetTrace, Text, Timestamp, Timings},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    fmt,
};

/// Summarizes a trace: for each host how many requests were made and failed, how long each phase took, and how its
/// connections did. The work is linear in the number of records, except for sorting.
///
/// ```
/// # let trace = nettrace::NetTrace::default();
/// print!("{}", nettrace::view::summary(&trace));
/// ```
pub fn summary(trace: &NetTrace) -> Summary {
    let graph = TraceGraph::new(trace);
    Summary { color: false, ascii: false, coarse: graph.times.coarse, hosts: hosts(&graph) }
}

/// A summary of a trace, created by [`summary`]. Its [`Display`](fmt::Display) prints it for a terminal: the hosts with
/// failures first, then those with the most requests, twelve at most.
#[derive(Clone, Debug)]
#[must_use = "it is printed when it is displayed"]
pub struct Summary {
    color: bool,
    ascii: bool,
    /// Whether all times of the trace are whole milliseconds.
    coarse: bool,
    hosts: Vec<Host>,
}

impl Summary {
    /// Sets whether to use colors (ANSI escape sequences). Off by default.
    pub fn color(self, color: bool) -> Self {
        Summary { color, ..self }
    }

    /// Sets whether to print ASCII characters only. Off by default.
    pub fn ascii(self, ascii: bool) -> Self {
        Summary { ascii, ..self }
    }
}

/// What happened with a host.
#[derive(Clone, Debug, Default)]
struct Host {
    /// The host and port of URLs, with `served` before it if this program answered the requests.
    name: Text,
    requests: usize,
    failures: BTreeMap<String, usize>,
    server_errors: usize,
    /// The durations of each phase that requests had.
    phases: [Vec<Duration>; Timings::PHASES.len()],
    conns: usize,
    with_conn: usize,
    resets: usize,
    certificate_until: Option<Timestamp>,
}

/// A duration, or the upper bound of durations, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Duration {
    nanos: u64,
    count: u64,
}

fn hosts(graph: &TraceGraph<'_>) -> Vec<Host> {
    let trace = graph.trace;
    let mut hosts: Vec<Host> = Vec::new();
    let mut places: HashMap<Text, usize> = HashMap::new();
    let (mut host_of_conn, mut host_of_tunnel) = (HashMap::new(), HashMap::new());
    for traffic in trace.dropped.iter().flat_map(|dropped| &dropped.by_host) {
        let place = *places.entry(traffic.host.clone()).or_insert_with_key(|name| {
            let name = if name.is_empty() { OTHER_HOSTS } else { name.clone() };
            hosts.push(Host { name, ..Host::default() });
            hosts.len() - 1
        });
        hosts[place].add_evicted(traffic);
    }
    for request in trace.http_requests.iter().filter(|request| !graph.is_connect(request)) {
        let name = graph::host_of(request);
        let place = *places.entry(name).or_insert_with_key(|name| {
            hosts.push(Host { name: name.clone(), ..Host::default() });
            hosts.len() - 1
        });
        let host = &mut hosts[place];
        host.add(request, &request.timings(trace));
        if !request.tcp_conn.is_undefined() {
            host.with_conn += 1;
            if host_of_conn.insert(request.tcp_conn.as_str(), place).is_none() {
                host.conns += 1;
            }
        }
        host_of_tunnel.insert(request.tls_tunnel.as_str(), place);
    }
    for conn in &trace.tcp_conns {
        let is_reset = matches!(conn.failure, Some(Failure::ConnectionReset));
        if let Some(place) = host_of_conn.get(conn.trace_id.as_str()).filter(|_| is_reset) {
            hosts[*place].resets += 1;
        }
    }
    for tunnel in &trace.tls_tunnels {
        let place = host_of_tunnel.get(tunnel.trace_id.as_str());
        let place = place.or_else(|| host_of_conn.get(tunnel.tcp_conn.as_str()));
        let until = tunnel.peer_certs.first().map(|certificate| certificate.not_after);
        if let (Some(place), Some(until)) = (place, until.filter(|until| !until.is_undefined())) {
            let earliest = &mut hosts[*place].certificate_until;
            *earliest =
                Some(earliest.map_or(until, |earliest| if until < earliest { until } else { earliest }));
        }
    }
    hosts.iter_mut().flat_map(|host| &mut host.phases).for_each(|phase| phase.sort_unstable());
    hosts.sort_by_key(|host| (Reverse(host.failed()), Reverse(host.requests)));
    hosts
}

impl Host {
    fn add(&mut self, request: &HttpReqTrace, timings: &Timings) {
        self.requests += 1;
        let has_failed = request.end_reason.as_ref().is_some_and(EndReason::is_failure);
        if let Some(failure) = request.failure.as_ref().filter(|_| has_failed) {
            *self.failures.entry(readable::shortened(failure.as_str()).into_owned()).or_default() += 1;
        } else if has_failed {
            *self.failures.entry("failed".into()).or_default() += 1;
        }
        self.server_errors += usize::from(request.resp_status_code >= 500);
        for (durations, time) in self.phases.iter_mut().zip(timings.phases()) {
            let nanos = time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            durations.extend(nanos.map(|nanos| Duration { nanos, count: 1 }));
        }
    }

    /// Adds requests whose records were evicted.
    fn add_evicted(&mut self, traffic: &HostTraffic) {
        // A trace that was read may have any numbers, whose sums must not overflow.
        let number = |count: u64| usize::try_from(count.min(1 << 40)).unwrap_or(usize::MAX >> 16);
        self.requests += number(traffic.requests);
        self.server_errors += number(traffic.server_errors);
        for (code, count) in &traffic.failures {
            *self.failures.entry(readable::shortened(code).into_owned()).or_default() += number(*count);
        }
        self.conns += number(traffic.new_conns);
        self.with_conn += number(traffic.new_conns) + number(traffic.reused_conns);
        for (name, durations) in Timings::PHASES.iter().zip(&mut self.phases) {
            let buckets = traffic.phases.get(name).into_iter().flat_map(Histogram::buckets);
            durations.extend(buckets.map(|bucket| Duration { nanos: bucket.below_ns, count: bucket.count }));
        }
    }

    fn failed(&self) -> usize {
        self.failures.values().sum()
    }

    fn title(&self) -> Line {
        let mut line = Line::default();
        line.push(Style::Strong, self.name.as_str());
        line.item(Style::Plain, readable::count(self.requests, "request"));
        let failed = self.failed();
        if failed > 0 {
            line.item(Style::Bad, format!("{failed} failed"));
        }
        if self.server_errors > 0 {
            line.item(Style::Bad, format!("{} with a status of 5xx", self.server_errors));
        }
        if self.conns > 0 {
            let reused = (self.with_conn - self.conns) * 100 / self.with_conn;
            line.item(Style::Plain, readable::count(self.conns, "connection"));
            line.push(Style::Dim, format!(", reused by {reused} % of the requests"));
        }
        if self.resets > 0 {
            line.item(Style::Warn, format!("{} reset", self.resets));
        }
        if let Some(until) = self.certificate_until {
            let until = until.to_string();
            line.item(
                Style::Dim,
                format!("certificate until {}", until.split('T').next().unwrap_or_default()),
            );
        }
        line
    }

    /// Returns the failures by how often they happened.
    fn failure_line(&self) -> Line {
        let mut failures: Vec<_> = self.failures.iter().collect();
        failures.sort_by_key(|(_, count)| Reverse(**count));
        let mut line = Line::default();
        for (code, count) in failures.iter().take(MAX_FAILURES) {
            line.item(Style::Bad, format!("✗ {code}"));
            line.word(Style::Plain, count.to_string());
        }
        if failures.len() > MAX_FAILURES {
            line.item(Style::Dim, format!("{} more", failures.len() - MAX_FAILURES));
        }
        line
    }
}

/// The name of the hosts that a sink does not count separately.
const OTHER_HOSTS: Text = Text::from_static("other hosts");

/// The maximum number of hosts that are printed.
const MAX_HOSTS: usize = 12;
/// The maximum number of codes of failures that are printed for a host.
const MAX_FAILURES: usize = 5;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let palette = Palette { color: self.color, ascii: self.ascii };
        let print = |f: &mut fmt::Formatter<'_>, line: &Line| {
            palette.line(f, line)?;
            writeln!(f)
        };
        let requests = self.hosts.iter().map(|host| host.requests).sum();
        let failed: usize = self.hosts.iter().map(Host::failed).sum();
        let mut heading = Line::default();
        heading.push(Style::Strong, readable::count(requests, "request"));
        heading.word(Style::Strong, format!("to {}", readable::count(self.hosts.len(), "host")));
        if failed > 0 {
            heading.item(Style::Bad, format!("{failed} failed"));
        }
        print(f, &heading)?;
        for host in self.hosts.iter().take(MAX_HOSTS) {
            writeln!(f)?;
            print(f, &host.title())?;
            let failures = host.failure_line();
            if !failures.is_empty() {
                write!(f, "  ")?;
                print(f, &failures)?;
            }
            print_phases(f, palette, host, self.coarse)?;
        }
        if self.hosts.len() > MAX_HOSTS {
            writeln!(f)?;
            let rest = &self.hosts[MAX_HOSTS..];
            let requests = rest.iter().map(|host| host.requests).sum();
            let mut line = Line::default();
            let (hosts, requests) =
                (readable::count(rest.len(), "more host"), readable::count(requests, "request"));
            line.push(Style::Dim, format!("{hosts} with {requests}"));
            print(f, &line)?;
        }
        Ok(())
    }
}

/// Prints a table with a row for each phase and a column for each percentile.
fn print_phases(f: &mut fmt::Formatter<'_>, palette: Palette, host: &Host, coarse: bool) -> fmt::Result {
    const PERCENTILES: [u64; 3] = [50, 90, 99];
    if host.phases.iter().all(Vec::is_empty) {
        return Ok(());
    }
    palette.write(f, Style::Dim, "              p50       p90       p99   requests")?;
    writeln!(f)?;
    for (name, durations) in
        Timings::PHASES.iter().zip(&host.phases).filter(|(_, durations)| !durations.is_empty())
    {
        write!(f, "  {name:<8}")?;
        for percentile in PERCENTILES {
            let nanos = i64::try_from(at_percentile(durations, percentile)).unwrap_or(i64::MAX);
            let text = readable::duration(nanos, coarse);
            write!(f, "{:>width$}", "", width = 10_usize.saturating_sub(text.chars().count()))?;
            palette.write(f, Style::Plain, &text)?;
        }
        writeln!(f, "{:>11}", total(durations))?;
    }
    Ok(())
}

fn total(durations: &[Duration]) -> u64 {
    durations.iter().map(|duration| duration.count).sum()
}

/// Returns the smallest duration that is not smaller than `percentile` percent of the durations, which are sorted.
fn at_percentile(sorted: &[Duration], percentile: u64) -> u64 {
    let rank = (u128::from(total(sorted)) * u128::from(percentile)).div_ceil(100).max(1);
    let mut seen = 0;
    let found = sorted.iter().find(|duration| {
        seen += u128::from(duration.count);
        seen >= rank
    });
    found.map_or(0, |duration| duration.nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let once = |nanos| Duration { nanos, count: 1 };
        let hundred: Vec<_> = (1..=100).map(once).collect();
        assert_eq!(
            [50, 90, 99, 100].map(|percentile| at_percentile(&hundred, percentile)),
            [50, 90, 99, 100]
        );
        assert_eq!([50, 90, 99].map(|percentile| at_percentile(&[once(7)], percentile)), [7, 7, 7]);
        assert_eq!([50, 99].map(|percentile| at_percentile(&[once(1), once(2)], percentile)), [1, 2]);
        let evicted = [Duration { nanos: 1, count: 98 }, once(2), Duration { nanos: 3, count: 1 }];
        assert_eq!([50, 98, 99, 100].map(|percentile| at_percentile(&evicted, percentile)), [1, 1, 2, 3]);
        assert_eq!(at_percentile(&[], 50), 0);
    }
}
