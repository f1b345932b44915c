//! Lookups that fail.

use crate::{assert_nothing, client, explained, quoted, root, trace_of};
use hickory_proto::op::ResponseCode;
use nettrace::{
    Client, NetTrace, TraceSink,
    explain::{Finding, Severity},
    resolve::{IpStrategy, StubResolver, StubResolverBuilder},
};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use test_support::{
    dns::{Action, ClosedPort, DnsServer, ReceivedQuery, wire},
    lab::{Hook, Ns},
    raw::{Refused, Server},
    require::require_lab,
    wait,
    web::{Web, reply},
};

mod answers;
mod compared;
mod silence;

const LIMIT: Duration = Duration::from_millis(100);

fn with_nameservers(sink: &TraceSink, servers: &[&DnsServer]) -> Client {
    client(sink).nameservers(servers.iter().map(|server| server.addr())).build().unwrap()
}

/// Returns a builder of a resolver that asks each nameserver once, for a short time, and reads no configuration.
fn resolver(sink: &TraceSink, servers: &[SocketAddr]) -> StubResolverBuilder {
    let builder = StubResolver::builder(sink).nameservers(servers.iter().copied());
    builder.hosts_file(None).resolv_conf(None).timeout(LIMIT).attempts(1)
}

fn with_resolver(sink: &TraceSink, resolver: StubResolverBuilder) -> Client {
    client(sink).resolver(resolver.build().unwrap()).build().unwrap()
}

/// Requests `http://web.test/`, whose lookup fails.
async fn failed_lookup(server: &DnsServer) -> NetTrace {
    let sink = TraceSink::new();
    let client = with_resolver(&sink, resolver(&sink, &[server.addr()]));
    trace_of(&sink, &client, "http://web.test/").await
}

fn hello() -> Web {
    Web::start(async |_| reply("hello"))
}

fn url(host: &str, web: &Web) -> String {
    format!("http://{host}:{}/", web.addr().port())
}

/// Returns the finding with this code.
#[track_caller]
fn finding(trace: &NetTrace, code: &str) -> Finding {
    let explanation = explained(trace);
    let mut findings = explanation.verdicts.iter().flat_map(|verdict| &verdict.findings);
    let finding = findings.find(|finding| finding.code == code);
    finding.unwrap_or_else(|| panic!("no {code}: {explanation:#?}")).clone()
}
