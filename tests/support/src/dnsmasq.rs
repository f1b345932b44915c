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
    /// Returns a builder for a nameserver on a free port of 127.0.0.1. Outside its [`domain`](Builder::domain) it
    /// answers REFUSED for unknown names, and for unknown types of known names.
    pub fn builder() -> Builder {
        Builder { ns: Ns::here(), ip: Ipv4Addr::LOCALHOST.into(), port: 0, arguments: Vec::new() }
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Waits until there were at least `count` queries, and returns the type and name of each, in order:
    /// `("A", "www.test")`.
    ///
    /// # Panics
    ///
    /// If there are fewer after 10 seconds.
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
        queries.unwrap_or_else(|log| panic!("fewer than {count} queries: {log}"))
    }
}

impl Builder {
    /// Runs the server in a namespace of the lab, on this address and port (0 for a free one).
    #[must_use]
    pub fn in_ns(mut self, ns: &Ns, address: impl Into<SocketAddr>) -> Self {
        let address = address.into();
        (self.ns, self.ip, self.port) = (ns.clone(), address.ip(), address.port());
        self
    }

    /// Adds a name with these addresses.
    #[must_use]
    pub fn host(self, name: &str, ips: &[IpAddr]) -> Self {
        let ips: String = ips.iter().map(|ip| format!(",{ip}")).collect();
        self.arg(&format!("--host-record={name}{ips}"))
    }

    /// Adds an alias of `name`, which must be added too.
    #[must_use]
    pub fn cname(self, alias: &str, name: &str) -> Self {
        self.arg(&format!("--cname={alias},{name}"))
    }

    /// Makes the server authoritative for the domain: it answers NXDOMAIN for unknown names, and an empty reply for
    /// unknown types of known names.
    #[must_use]
    pub fn domain(self, domain: &str) -> Self {
        self.arg(&format!("--local=/{domain}/"))
    }

    /// Adds an argument for dnsmasq.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts the server and waits until it serves.
    ///
    /// # Panics
    ///
    /// If it does not start. The message contains the output of dnsmasq.
    #[track_caller]
    pub fn start(self) -> Dnsmasq {
        const TRIES: usize = 20; // another process may take the port before dnsmasq does
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
        // With --no-daemon it also keeps its user: if it changed it, the kernel would no longer end it with the test.
        command.args(["--no-daemon", "--log-facility=-", "--log-queries", "--conf-file=/dev/null"]);
        command.args(["--no-resolv", "--no-hosts", "--no-poll", "--bind-interfaces"]);
        command.arg(format!("--port={port}")).arg(format!("--listen-address={}", self.ip));
        command.args(&self.arguments);
        Daemon::spawn(command).expect("dnsmasq (require_tool! tells whether it is there)")
    }

    /// Returns a port that is free for UDP and TCP.
    fn free_port(&self) -> u16 {
        self.ns.run(|| {
            loop {
                let udp = UdpSocket::bind((self.ip, 0)).expect("a free port");
                let port = udp.local_addr().expect("bound").port();
                // Another process may use the port for TCP.
                if TcpListener::bind((self.ip, port)).is_ok() {
                    return port;
                }
            }
        })
    }
}
