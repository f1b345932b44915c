//! A site for the tests here: nginx, dnsmasq, and a certificate of a test authority.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nettrace::client::{Client, ClientBuilder};
use nettrace::tls::Roots;
use nettrace::{NetTrace, TraceSink};

use crate::facts;
use test_support::check;
use test_support::dnsmasq::{self, Dnsmasq};
use test_support::nginx::{self, Nginx};
use test_support::pki::Authority;

pub struct Site {
    pub nginx: Nginx,
    pub dns: Dnsmasq,
    pub authority: Authority,
    pub sink: TraceSink,
    /// The number of requests in nginx's log that were already compared.
    agreed: Cell<usize>,
}

impl Site {
    pub const HOST: &str = "web.test";

    #[track_caller]
    pub fn start() -> Self {
        Self::with(|nginx| nginx)
    }

    /// Starts a site whose nginx is changed by `change`.
    #[track_caller]
    pub fn with(change: impl FnOnce(nginx::Builder) -> nginx::Builder) -> Self {
        Self::with_names(change, |dns| dns)
    }

    /// Starts a site whose nginx is changed by `change`, and whose nameserver is changed by `more`.
    #[track_caller]
    pub fn with_names(
        change: impl FnOnce(nginx::Builder) -> nginx::Builder,
        more: impl FnOnce(dnsmasq::Builder) -> dnsmasq::Builder,
    ) -> Self {
        let authority = Authority::new("nettrace test CA");
        let leaf = authority.issue(&[Self::HOST, "127.0.0.1"]);
        let nginx = change(Nginx::builder().tls(&leaf.pem, &leaf.key_pem())).start();
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let dns = more(Dnsmasq::builder().host(Self::HOST, &[ip]).domain("test")).start();
        Self { nginx, dns, authority, sink: TraceSink::new(), agreed: Cell::new(0) }
    }

    /// Returns a builder of a client that trusts the authority and uses the site's nameserver.
    pub fn client(&self) -> ClientBuilder {
        let roots = Roots::from_pem(self.authority.pem()).expect("a good certificate");
        Client::builder(&self.sink).roots(roots).nameservers([self.dns.addr])
    }

    /// Closes the client and returns the sink's trace, after checking it by itself and against nginx's log. Between two
    /// calls, the sink must be cleared.
    pub async fn trace_after(&self, client: &Client) -> NetTrace {
        client.close().await;
        let trace = self.sink.snapshot("real");
        check::finished(&trace);
        self.agree(&trace);
        trace
    }

    /// Asserts that the next requests in nginx's log are those of the trace, with the same facts.
    #[track_caller]
    pub fn agree(&self, trace: &NetTrace) {
        let before = self.agreed.get();
        let log = self.nginx.requests(before + trace.http_requests.len());
        facts::agree(trace, &log[before..]);
        self.agreed.set(log.len());
    }
}

/// Returns `http://web.test:PORT/path`.
pub fn http(address: SocketAddr, path: &str) -> String {
    format!("http://{}:{}{path}", Site::HOST, address.port())
}

/// Returns `https://web.test:PORT/path`.
pub fn https(address: SocketAddr, path: &str) -> String {
    format!("https://{}:{}{path}", Site::HOST, address.port())
}
