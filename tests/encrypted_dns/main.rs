//! The stub resolver with nameservers that are asked over TLS and HTTPS.

#![cfg(all(feature = "encrypted-dns", feature = "ring"))]

mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use nettrace::{
    NetTrace, TraceSink,
    record::{DnsQueryTrace, EndReason},
    resolve::{Nameserver, ResolveError, StubResolver, StubResolverBuilder},
    tls::{Roots, TraceTlsLayer},
};
use test_support::{check, encrypted_dns::EncryptedDnsServer, pki::Authority};

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

/// Returns the server at this address, asked over TLS, with a certificate for [`NAME`].
fn tls(server: &EncryptedDnsServer) -> Nameserver {
    format!("tls://{}#{NAME}", server.addr()).parse().unwrap()
}

fn ips(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}
