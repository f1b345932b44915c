//! The stub resolver with nameservers that are asked over TLS and HTTPS.

#![cfg(all(feature = "encrypted-dns", feature = "ring"))]

mod bootstrap;
mod client;
mod connections;
mod https;
mod oracles;
mod tls;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hickory_proto::op::{Message, ResponseCode};
use nettrace::{
    NetTrace, TraceSink,
    record::{EndReason, Failure},
    resolve::{IpStrategy, Nameserver, ResolveError, StubResolver, StubResolverBuilder},
    tls::{Roots, TraceTlsLayer},
};
use test_support::{
    check,
    dns::{Action, ClosedPort, DnsServer, ReceivedQuery, framed, wire},
    encrypted_dns::{EncryptedDnsServer, HttpAction},
    pki::Authority,
    wait,
};

/// A timeout that expires only if something hangs.
const LONG: Duration = Duration::from_secs(60);
/// The name in the certificates of the nameservers.
const NAME: &str = "dns.test";

/// A sink with a resolver, and the authority that it trusts.
struct Fixture {
    sink: TraceSink,
    authority: Authority,
}

impl Fixture {
    fn new() -> Self {
        Fixture { sink: TraceSink::new(), authority: Authority::new("nameservers") }
    }

    fn builder(&self, servers: impl IntoIterator<Item = Nameserver>) -> StubResolverBuilder {
        let roots = Roots::from_pem(self.authority.pem()).unwrap();
        let config = TraceTlsLayer::builder(&self.sink).roots(roots).into_config().unwrap();
        StubResolver::builder(&self.sink)
            .nameservers(servers)
            .resolv_conf(None)
            .hosts_file(None)
            .search([""; 0])
            .attempts(1)
            .timeout(LONG)
            .tls_config(Arc::new(config))
    }

    fn resolver(&self, servers: impl IntoIterator<Item = Nameserver>) -> StubResolver {
        self.builder(servers).build().unwrap()
    }

    /// Closes what is open, and returns the trace.
    fn finish(&self) -> NetTrace {
        self.sink.close();
        let trace = self.sink.snapshot("lookup");
        check::finished(&trace);
        trace
    }
}

/// Starts a server for DNS over TLS that has a certificate for [`NAME`].
async fn tls_server<T: Into<Action>>(
    fixture: &Fixture,
    behaviour: impl Fn(&ReceivedQuery) -> T + Send + Sync + 'static,
) -> EncryptedDnsServer {
    EncryptedDnsServer::tls(&fixture.authority.issue(&[NAME]), behaviour).await
}

/// Returns the queries of the trace, in order, each with its failure; empty for none.
fn failures(trace: &NetTrace) -> Vec<&str> {
    trace
        .dns_queries
        .iter()
        .map(|query| query.failure.as_ref().map_or("", |failure| failure.as_str()))
        .collect()
}

/// Returns the server at this address, asked over TLS, with a certificate for [`NAME`].
fn tls(server: &EncryptedDnsServer) -> Nameserver {
    format!("tls://{}#{NAME}", server.addr()).parse().unwrap()
}

/// Lets this time pass for what is under way.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn ips(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}
