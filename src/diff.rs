//! Compares two traces of the same work, such as one of yesterday and one of today.
//!
//! [`diff`] says for each host what changed: addresses, DNS answers, certificates, protocols, the reuse of connections, how
//! long each phase takes, failures and their causes.
//!
//! ```
//! # let (yesterday, today) = (nettrace::NetTrace::default(), nettrace::NetTrace::default());
//! for change in nettrace::diff::diff(&yesterday, &today) {
//!     println!("{change}"); // shop.test: addresses: 192.0.2.1 → 192.0.2.7
//! }
//! ```
//!
//! A phase has changed if it takes longer or shorter than the repeats within each trace differ among themselves. With
//! fewer than three requests that had the phase, nothing is said about it.

use crate::{
    explain,
    graph::{self, TraceGraph},
    readable,
    record::{DnsResType, EndReason, HttpReqTrace, NetTrace, Text, Timings},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

/// A difference between two traces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Change {
    /// The host and port of URLs, with `served` before it if the program answered the requests.
    pub host: Text,
    /// The aspect that changed: `requests`, `addresses`, `DNS answers`, `certificate`, `protocol`, `reuse`, `failures`,
    /// `statuses`, `causes`, or the name of a phase, such as `tls`.
    pub what: Text,
    /// How it was in the first trace; empty if there was none.
    pub before: Text,
    /// How it is in the second trace; empty if there is none.
    pub after: Text,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &Text| match text.is_empty() {
            true => "none".into(),
            false => readable::escape_controls(text).into_owned(),
        };
        let host = readable::escape_controls(&self.host);
        write!(f, "{host}: {}: {} → {}", self.what, shown(&self.before), shown(&self.after))
    }
}

/// Returns what changed from one trace to another, ordered by host. The work is linear in the number of records, except
/// for sorting.
pub fn diff(before: &NetTrace, after: &NetTrace) -> Vec<Change> {
    let (mut before, mut after) = (hosts(before), hosts(after));
    let names: BTreeSet<Text> = before.keys().chain(after.keys()).cloned().collect();
    let mut changes = Vec::new();
    for name in names {
        let (before, after) =
            (before.remove(&name).unwrap_or_default(), after.remove(&name).unwrap_or_default());
        compare(&name, before, after, &mut changes);
    }
    changes
}

/// The facts about a host in one trace.
#[derive(Default)]
struct Host {
    requests: usize,
    on_used_conn: usize,
    addresses: BTreeSet<Text>,
    answers: BTreeSet<Text>,
    certificates: BTreeSet<String>,
    protocols: BTreeSet<String>,
    failures: BTreeMap<String, usize>,
    statuses: BTreeMap<String, usize>,
    causes: BTreeSet<Text>,
    phases: [Vec<u64>; Timings::PHASES.len()],
}

/// A phase is compared if so many requests had it in each trace.
const MIN_REPEATS: usize = 3;

fn hosts(trace: &NetTrace) -> BTreeMap<Text, Host> {
    let graph = TraceGraph::new(trace);
    let (mut hosts, mut seen) = (BTreeMap::<Text, Host>::new(), HashMap::new());
    let mut host_of_request = HashMap::new();
    for (at, request) in trace.http_requests.iter().enumerate() {
        if graph.is_connect(request) {
            continue;
        }
        let name = graph::host_of(request);
        let host = hosts.entry(name.clone()).or_default();
        host.add(request, &request.timings(trace));
        let conn = trace.tcp_conns.get(&request.tcp_conn);
        if let Some(conn) = conn.filter(|conn| !conn.addr_tuple.dst_ip.is_empty()) {
            host.addresses.insert(conn.addr_tuple.dst_ip.clone());
        }
        if !request.tcp_conn.is_undefined() && seen.insert(request.tcp_conn.as_str(), ()).is_some() {
            host.on_used_conn += 1;
        }
        if let Some(tunnel) = trace.tls_tunnels.get(&request.tls_tunnel) {
            host.protocols.insert(tunnel.tls_version.to_string());
            if let Some(certificate) = tunnel.peer_certs.first() {
                host.certificates.insert(format!("{} until {}", certificate.issuer, certificate.not_after));
            }
        }
        for source in graph.own_sources(at).iter().filter_map(|source| source.dial()) {
            let replies = graph.queries_of(source).iter().flat_map(|query| &query.dns_reply_msgs);
            let answers = replies.filter(|reply| reply.ignored.is_empty()).flat_map(|reply| &reply.answers);
            let addresses =
                answers.filter(|answer| matches!(answer.r#type, DnsResType::A | DnsResType::Aaaa));
            host.answers.extend(addresses.map(|answer| answer.resolved_val.clone()));
        }
        host_of_request.insert(request.trace_id.as_str(), name);
    }
    for verdict in explain::explain(trace).verdicts {
        let host = host_of_request.get(verdict.subject.as_str()).and_then(|name| hosts.get_mut(name));
        if let (Some(host), Some(root)) = (host, verdict.root()) {
            host.causes.insert(root.code.clone());
        }
    }
    hosts
}

impl Host {
    fn add(&mut self, request: &HttpReqTrace, timings: &Timings) {
        self.requests += 1;
        if request.end_reason.as_ref().is_some_and(EndReason::is_failure) {
            let code = request.failure.as_ref().map_or("failed", |failure| failure.as_str());
            *self.failures.entry(readable::shortened(code).into_owned()).or_default() += 1;
        }
        if request.resp_status_code != 0 {
            *self.statuses.entry(request.resp_status_code.to_string()).or_default() += 1;
        }
        if request.resp_status_code != 0 && request.proto_major > 0 {
            self.protocols.insert(format!("HTTP/{}", request.proto_major));
        }
        for (durations, time) in self.phases.iter_mut().zip(timings.phases()) {
            durations.extend(time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)));
        }
    }

    /// Returns the share of requests that used a connection which had served another one, in percent.
    fn reuse(&self) -> usize {
        self.on_used_conn * 100 / self.requests.max(1)
    }

    /// Returns what was counted with its share of the requests, in percent.
    fn shares<'a>(&self, counts: &'a BTreeMap<String, usize>) -> BTreeMap<&'a str, usize> {
        let share = |count: &usize| (count * 100).div_ceil(self.requests.max(1));
        counts.iter().map(|(name, count)| (name.as_str(), share(count))).collect()
    }
}

/// Shares that differ by fewer points than this differ by chance.
const MIN_POINTS: usize = 20;

/// Returns `true` if the share of one of the names differs by more than chance.
fn differ(before: &BTreeMap<&str, usize>, after: &BTreeMap<&str, usize>) -> bool {
    let share = |shares: &BTreeMap<&str, usize>, name| shares.get(name).copied().unwrap_or(0);
    let names = before.keys().chain(after.keys());
    names.into_iter().any(|name| share(before, *name).abs_diff(share(after, *name)) >= MIN_POINTS)
}

fn listed_shares(shares: &BTreeMap<&str, usize>) -> String {
    shares.iter().map(|(name, share)| format!("{name} {share} %")).collect::<Vec<_>>().join(", ")
}

fn compare(name: &Text, mut before: Host, mut after: Host, changes: &mut Vec<Change>) {
    let mut change = |what: &str, before: String, after: String| {
        if before != after {
            let (host, what) = (name.clone(), what.into());
            changes.push(Change { host, what, before: before.into(), after: after.into() });
        }
    };
    let requests = |host: &Host| if host.requests == 0 { String::new() } else { "some".to_owned() };
    if before.requests == 0 || after.requests == 0 {
        change("requests", requests(&before), requests(&after));
        return;
    }
    change("addresses", listed(&before.addresses), listed(&after.addresses));
    // Without a lookup of its own, a trace says nothing about the answers.
    if !before.answers.is_empty() && !after.answers.is_empty() {
        change("DNS answers", listed(&before.answers), listed(&after.answers));
    }
    change("certificate", listed(&before.certificates), listed(&after.certificates));
    change("protocol", listed(&before.protocols), listed(&after.protocols));
    // Single requests more or less on a new connection are chance.
    if before.reuse().abs_diff(after.reuse()) * before.requests.min(after.requests) > 200 {
        change("reuse", format!("{} %", before.reuse()), format!("{} %", after.reuse()));
    }
    // A code that is new counts, however few requests have it.
    let failures = [&before, &after].map(|host| host.shares(&host.failures));
    let [failed_before, failed_after] = &failures;
    if !failed_before.keys().eq(failed_after.keys()) || differ(failed_before, failed_after) {
        change("failures", listed_shares(failed_before), listed_shares(failed_after));
    }
    let statuses = [&before, &after].map(|host| host.shares(&host.statuses));
    let [answered_before, answered_after] = &statuses;
    // Without an answer, the failures say more.
    if !answered_before.is_empty() && !answered_after.is_empty() && differ(answered_before, answered_after) {
        change("statuses", listed_shares(answered_before), listed_shares(answered_after));
    }
    change("causes", listed(&before.causes), listed(&after.causes));
    for (at, phase) in Timings::PHASES.into_iter().enumerate() {
        let (before, after) = (Spread::of(&mut before.phases[at]), Spread::of(&mut after.phases[at]));
        if let (Some(before), Some(after)) = (before, after)
            && before.differs_from(after)
        {
            let text =
                |spread: Spread| readable::duration(i64::try_from(spread.median).unwrap_or(i64::MAX), false);
            change(phase, text(before), text(after));
        }
    }
}

fn listed<T: AsRef<str>>(items: &BTreeSet<T>) -> String {
    items.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}

/// How long a phase takes, and how much that varies among requests.
#[derive(Clone, Copy)]
struct Spread {
    median: u64,
    /// The distance between the quarter that is shortest and the quarter that is longest.
    width: u64,
}

impl Spread {
    fn of(times: &mut [u64]) -> Option<Self> {
        if times.len() < MIN_REPEATS {
            return None;
        }
        times.sort_unstable();
        let at = |quarter: usize| times[(times.len() - 1) * quarter / 4];
        Some(Spread { median: at(2), width: at(3) - at(1) })
    }

    /// Returns `true` if the medians are further apart than requests of one trace are, and by a fourth at least.
    fn differs_from(self, other: Self) -> bool {
        let distance = self.median.abs_diff(other.median);
        let noise = 2 * self.width.max(other.width);
        distance > noise && distance > self.median.min(other.median) / 4
    }
}
