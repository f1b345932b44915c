//! Writes metrics in the text format of Prometheus, version 0.0.4.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use super::counters::{BOUNDS, Durations, HostCounts, HostKey, Metrics};
use crate::{
    record::{NetTrace, Timings},
    sink::TraceSink,
};
use std::fmt::{Display, Write as _};

/// Returns the counts, and what is open and kept now.
pub(in super::super) fn exposition(sink: &TraceSink, metrics: Option<&Metrics>) -> String {
    let mut out = Exposition::default();
    match metrics {
        Some(metrics) => counts(&mut out, metrics),
        None => out.0.push_str("# Requests are not counted: give a Metrics to the sink and to the page.\n"),
    }
    state(&mut out, &sink.snapshot(""), sink.is_enabled());
    out.0
}

fn counts(out: &mut Exposition, metrics: &Metrics) {
    let hosts = metrics.hosts();
    out.family("nettrace_requests_total", "counter", "Requests that have ended.");
    for (key, counts) in hosts.iter() {
        out.sample("nettrace_requests_total", &host_labels(key), counts.requests);
    }
    out.family("nettrace_request_failures_total", "counter", "Requests that failed or timed out, by code.");
    for (key, counts) in hosts.iter() {
        let [side, host] = host_labels(key);
        for (code, count) in &counts.failures {
            out.sample("nettrace_request_failures_total", &[side, host, ("code", code)], count);
        }
    }
    out.family("nettrace_responses_total", "counter", "Responses, by the class of their status.");
    for (key, counts) in hosts.iter() {
        let [side, host] = host_labels(key);
        for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(counts.statuses) {
            if count > 0 {
                out.sample("nettrace_responses_total", &[side, host, ("class", class)], count);
            }
        }
    }
    out.family(
        "nettrace_request_connections_total",
        "counter",
        "Requests that were sent over a connection, by whether they made it.",
    );
    for (key, HostCounts { new_conns, reused_conns, .. }) in hosts.iter() {
        let [side, host] = host_labels(key);
        for (is_reused, count) in [("false", *new_conns), ("true", *reused_conns)] {
            if count > 0 {
                out.sample("nettrace_request_connections_total", &[side, host, ("reused", is_reused)], count);
            }
        }
    }
    out.family(
        "nettrace_request_phase_seconds",
        "histogram",
        "Durations of the phases of requests; total is the whole request.",
    );
    for (key, counts) in hosts.iter() {
        let [side, host] = host_labels(key);
        for (phase, durations) in Timings::PHASES.into_iter().zip(&counts.phases) {
            if durations.count > 0 {
                out.histogram("nettrace_request_phase_seconds", &[side, host, ("phase", phase)], durations);
            }
        }
    }
}

/// Writes the state of the sink.
fn state(out: &mut Exposition, trace: &NetTrace, is_recording: bool) {
    out.family("nettrace_recording", "gauge", "Whether what begins now is recorded.");
    out.sample("nettrace_recording", &[], u8::from(is_recording));

    let open = trace.tcp_conns.iter().filter(|conn| conn.connected && conn.end_reason.is_none());
    let (accepted, made): (Vec<_>, Vec<_>) = open.partition(|conn| conn.accepted);
    out.family("nettrace_open_connections", "gauge", "TCP connections that are open.");
    out.by_side("nettrace_open_connections", made.len(), accepted.len());

    let running = trace.http_requests.iter().filter(|request| request.end_reason.is_none());
    let (served, sent): (Vec<_>, Vec<_>) = running.partition(|request| request.accepted);
    out.family("nettrace_requests_in_flight", "gauge", "Requests that have not ended.");
    out.by_side("nettrace_requests_in_flight", sent.len(), served.len());

    out.family("nettrace_kept_records", "gauge", "Records that are kept.");
    for (kind, count) in [
        ("http_request", trace.http_requests.len()),
        ("dial", trace.dials.len()),
        ("tcp_conn", trace.tcp_conns.len()),
        ("udp_conn", trace.udp_conns.len()),
        ("dns_query", trace.dns_queries.len()),
        ("tls_tunnel", trace.tls_tunnels.len()),
    ] {
        out.sample("nettrace_kept_records", &[("kind", kind)], count);
    }
    // A gauge, because it begins anew when the sink is cleared.
    let dropped = trace.dropped.clone().unwrap_or_default();
    out.family("nettrace_dropped_records", "gauge", "Records that were evicted since the trace began.");
    for (kind, count) in [
        ("http_request", dropped.http_requests),
        ("dial", dropped.dials),
        ("tcp_conn", dropped.tcp_conns),
        ("udp_conn", dropped.udp_conns),
        ("socket_op", dropped.socket_ops),
    ] {
        out.sample("nettrace_dropped_records", &[("kind", kind)], count);
    }
}

type Label<'a> = (&'static str, &'a str);

fn host_labels(key: &HostKey) -> [Label<'_>; 2] {
    [("side", if key.served { SERVER } else { CLIENT }), ("host", &key.host)]
}

const CLIENT: &str = "client";
const SERVER: &str = "server";

#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn by_side(&mut self, name: &str, client: usize, server: usize) {
        self.sample(name, &[("side", CLIENT)], client);
        self.sample(name, &[("side", SERVER)], server);
    }

    fn histogram(&mut self, name: &str, labels: &[Label<'_>], durations: &Durations) {
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (bound, count) in BOUNDS.iter().zip(durations.buckets) {
            below += count;
            self.sample(&bucket, &[labels, &[("le", &bound.to_string())]].concat(), below);
        }
        self.sample(&bucket, &[labels, &[("le", "+Inf")]].concat(), durations.count);
        self.sample(&format!("{name}_sum"), labels, durations.sum.as_secs_f64());
        self.sample(&format!("{name}_count"), labels, durations.count);
    }

    fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl Display) {
        self.0.push_str(name);
        let mut separator = "{";
        for (label, text) in labels {
            self.line(format_args!("{separator}{label}=\"{}\"", escaped(text)));
            separator = ",";
        }
        self.line(format_args!("{} {value}\n", if labels.is_empty() { "" } else { "}" }));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.0.write_fmt(line);
    }
}

/// Escapes the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_escaped_labels() {
        let mut out = Exposition::default();
        out.sample("a", &[], 1);
        out.sample("b", &[("x", "1"), ("y", "q\"\\\n")], 2.5);
        assert_eq!(out.0, "a 1\nb{x=\"1\",y=\"q\\\"\\\\\\n\"} 2.5\n");
    }

    #[test]
    fn buckets_are_cumulative() {
        let mut durations = Durations { count: 5, ..Durations::default() };
        durations.buckets[0] = 1;
        durations.buckets[13] = 2;
        let mut out = Exposition::default();
        out.histogram("h", &[], &durations);
        let lines: Vec<_> = out.0.lines().collect();
        assert_eq!((lines[0], lines[12]), ("h_bucket{le=\"0.0005\"} 1", "h_bucket{le=\"5\"} 1"));
        assert_eq!(lines[13..], ["h_bucket{le=\"10\"} 3", "h_bucket{le=\"+Inf\"} 5", "h_sum 0", "h_count 5"]);
    }
}
