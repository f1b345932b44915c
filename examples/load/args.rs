//! What is asked of the load generator.

use clap::{Parser, ValueEnum, value_parser};
use std::{net::SocketAddr, path::PathBuf};

/// Makes requests and says what they cost.
///
/// Without --url it starts a server of its own in another process and asks that.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Serve instead: /1k and /big?n=BYTES over HTTP/1, TLS with HTTP/1, TLS with HTTP/2; and names over DNS
    #[arg(long)]
    pub serve: bool,

    /// What to get: a URL, or `http`, `https` or `h2` for the server of its own
    #[arg(long, default_value = "http")]
    pub url: String,

    /// What to get of the server of its own
    #[arg(long, default_value = "/1k")]
    pub path: String,

    /// Ask the server of its own by name, so that every connection looks it up
    #[arg(long)]
    pub names: bool,

    /// The authority to trust, PEM
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,

    /// Whom to ask for names instead of the system's nameservers
    #[arg(long, value_name = "ADDR:PORT")]
    pub nameserver: Option<SocketAddr>,

    /// Which client
    #[arg(long, value_enum, default_value = "traced")]
    pub mode: Mode,

    #[arg(long, default_value_t = 20_000)]
    pub requests: u64,

    /// Requests that are made before and not measured; by default a tenth, at most 2,000
    #[arg(long, value_name = "REQUESTS")]
    pub warm_up: Option<u64>,

    /// Requests at the same time
    #[arg(long, default_value_t = 1)]
    pub concurrency: u64,

    /// A new connection for every request
    #[arg(long)]
    pub fresh_connections: bool,

    /// HTTP/2 with prior knowledge, or by ALPN over TLS
    #[arg(long)]
    pub http2: bool,

    /// Header fields to send with every request
    #[arg(long, default_value_t = 0)]
    pub headers: usize,

    /// Where `captured` captures: the interface that leads to the server
    #[arg(long, value_name = "IFACE", default_value = "lo")]
    pub interface: String,

    /// Keep every record and operation
    #[arg(long)]
    pub unbounded: bool,

    /// Keep so many requests, and so many connections, instead of the default bounds
    #[arg(long, value_name = "RECORDS", conflicts_with = "unbounded")]
    pub keep: Option<usize>,

    /// Take snapshots all the while
    #[arg(long, value_name = "MILLISECONDS")]
    pub snapshot_every: Option<u64>,

    /// How many snapshots to time at the end; with none of them operations are not counted either
    #[arg(long, default_value_t = 9)]
    pub snapshots: usize,

    /// Leave it to the system which processors server and client run on
    #[arg(long)]
    pub unpinned: bool,

    /// Run the modes in turn, so many times, and compare them with `untraced`
    #[arg(long, value_name = "ROUNDS", group = "in_turn")]
    pub compare: Option<usize>,

    /// Print the comparison as a row of the table in benches/README.md, too
    #[arg(long, value_name = "TITLE", requires = "in_turn")]
    pub row: Option<String>,

    /// Compare clients within one process, some requests of each in turn, so many times: for small differences
    #[arg(long, value_name = "ROUNDS", group = "in_turn")]
    pub turns: Option<usize>,

    /// With --turns: how many requests a turn has
    #[arg(long, value_name = "REQUESTS", default_value_t = 100, value_parser = value_parser!(u64).range(1..), requires = "turns")]
    pub slice: u64,

    /// With --turns: how many requests each client has made before; of several numbers each gets a client of its own
    #[arg(long, value_name = "REQUESTS,…", value_delimiter = ',', default_value = "300", requires = "turns")]
    pub behind: Vec<u64>,

    /// With --turns: in how many passes, for each of which all clients are made anew
    #[arg(long, value_name = "PASSES", default_value_t = 12, value_parser = value_parser!(u64).range(1..), requires = "turns")]
    pub anew: u64,

    /// The modes to compare
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Mode::USUAL)]
    pub modes: Vec<Mode>,
}

/// Which client makes the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// hyper-util's client over a connector that does no more than it must and adds no extras
    Bare,
    /// hyper-util's client with HttpConnector, hyper-rustls and hickory-resolver
    Untraced,
    /// The preset with a disabled sink
    Off,
    /// The preset with everything recorded
    Traced,
    /// The same with the kernel's connection tracking and TCP_INFO (Linux)
    Full,
    /// As `traced`, with the packets of its connections captured
    Captured,
}

impl Mode {
    /// Those that are compared unless it is said otherwise.
    pub const USUAL: [Mode; 4] = [Mode::Bare, Mode::Untraced, Mode::Off, Mode::Traced];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Bare => "bare",
            Mode::Untraced => "untraced",
            Mode::Off => "off",
            Mode::Traced => "traced",
            Mode::Full => "full",
            Mode::Captured => "captured",
        }
    }
}

impl Args {
    pub fn needs_server(&self) -> bool {
        ["http", "https", "h2"].contains(&self.url.as_str())
    }
}
