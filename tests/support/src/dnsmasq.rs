//! Debian's dnsmasq, as a nameserver that knows only the configured names and forwards no query.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use crate::lab::Ns;
use crate::process::{self, Daemon};

/// The configuration of a nameserver; see [`Dnsmasq::builder`].
pub struct Builder {
    ns: Ns,
    ip: IpAddr,
    port: u16,
    arguments: Vec<String>,
}

/// A running nameserver, for UDP and TCP.
pub struct Dnsmasq {
    pub addr: SocketAddr,
    daemon: Daemon,
}

impl Dnsmasq {
    /// A nameserver on a free port of 127.0.0.1. It refuses (REFUSED) what it does not know, also other
    /// types of a name that it knows, unless it is in charge of the name's [`domain`](Builder::domain).
    pub fn builder() -> Builder {
        Builder { ns: Ns::here(), ip: Ipv4Addr::LOCALHOST.into(), port: 0, arguments: Vec::new() }
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// The questions that came, in order, once there are at least `count`: `("A", "www.test")`.
    ///
    /// # Panics
    ///
    /// When there are fewer after 10 seconds.
    #[track_caller]
    pub fn queries(&self, count: usize) -> Vec<(String, String)> {
        let parse = |line: &String| {
            let (kind, name) = line.split_once(" query[")?.1.split_once("] ")?;
            Some((kind.to_owned(), name.split(' ').next()?.to_owned()))
        };
        let enough = |lines: &[String]| {
            let queries: Vec<_> = lines.iter().filter_map(parse).collect();
            (queries.len() >= count).then_some(queries)
        };
        let queries = self.daemon.wait(Duration::from_secs(10), enough);
        queries.unwrap_or_else(|log| panic!("not {count} queries: {log}"))
    }
}

impl Builder {
    /// Runs in a namespace of the lab, on this address and port (0 for a free one).
    #[must_use]
    pub fn in_ns(mut self, ns: &Ns, address: impl Into<SocketAddr>) -> Self {
        let address = address.into();
        (self.ns, self.ip, self.port) = (ns.clone(), address.ip(), address.port());
        self
    }

    /// The name has these addresses.
    #[must_use]
    pub fn host(self, name: &str, ips: &[IpAddr]) -> Self {
        let ips: String = ips.iter().map(|ip| format!(",{ip}")).collect();
        self.arg(&format!("--host-record={name}{ips}"))
    }

    /// `alias` is another name of `name`, which is known too.
    #[must_use]
    pub fn cname(self, alias: &str, name: &str) -> Self {
        self.arg(&format!("--cname={alias},{name}"))
    }

    /// The server is in charge of the domain: what it does not know there does not exist (NXDOMAIN, or an
    /// empty answer where the name has other types).
    #[must_use]
    pub fn domain(self, domain: &str) -> Self {
        self.arg(&format!("--local=/{domain}/"))
    }

    /// Any further option of dnsmasq.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts the server and waits until it serves.
    ///
    /// # Panics
    ///
    /// When it does not; with what dnsmasq said.
    #[track_caller]
    pub fn start(self) -> Dnsmasq {
        const TRIES: usize = 20; // between finding a free port and its use, another may take it
        let mut failure = String::new();
        for _ in 0..TRIES {
            let port = if self.port == 0 { self.free_port() } else { self.port };
            let daemon = self.spawn(port);
            match daemon.line(": started, version", process::READY) {
                Ok(_) => return Dnsmasq { addr: SocketAddr::new(self.ip, port), daemon },
                Err(log) => failure = log,
            }
            if self.port != 0 || !failure.contains("ddress already in use") {
                break;
            }
        }
        panic!("{failure}");
    }

    fn spawn(&self, port: u16) -> Daemon {
        let mut command = self.ns.command("dnsmasq");
        // --no-daemon also keeps the user: another would lose the promise to end with the test.
        command.args(["--no-daemon", "--log-facility=-", "--log-queries", "--conf-file=/dev/null"]);
        command.args(["--no-resolv", "--no-hosts", "--no-poll", "--bind-interfaces"]);
        command.arg(format!("--port={port}")).arg(format!("--listen-address={}", self.ip));
        command.args(&self.arguments);
        Daemon::spawn(command).expect("dnsmasq (require_tool! tells whether it is there)")
    }

    fn free_port(&self) -> u16 {
        self.ns.run(|| {
            let udp = UdpSocket::bind((self.ip, 0)).expect("a free port");
            let port = udp.local_addr().expect("bound").port();
            // Most likely free for TCP as well; if not, dnsmasq will say so.
            TcpListener::bind((self.ip, port)).map_or(port, |_| port)
        })
    }
}
