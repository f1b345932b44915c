//! The command line of the load generator.

use clap::{Parser, ValueEnum, value_parser};
use std::{net::SocketAddr, path::PathBuf};

/// Makes requests and measures what they cost.
///
/// Without --url the requests go to a server of its own in another process.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Serve instead: /1k and /big?n=BYTES over HTTP/1, TLS with HTTP/1, TLS with HTTP/2; and names over DNS
    #[arg(long)]
    pub serve: bool,

    /// What to request: a URL, or `http`, `https` or `h2` for its own server
    #[arg(long, default_value = "http")]
    pub url: String,

    /// The path to request from its own server
    #[arg(long, default_value = "/1k")]
    pub path: String,

    /// Use a name for its own server, so that every connection looks it up
    #[arg(long)]
    pub names: bool,

    /// The certificate authority to trust (PEM file)
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,

    /// The nameserver to ask instead of the system's
    #[arg(long, value_name = "ADDR:PORT")]
    pub nameserver: Option<SocketAddr>,

    /// The client to measure
    #[arg(long, value_enum, default_value = "traced")]
    pub mode: Mode,

    #[arg(long, default_value_t = 20_000)]
    pub requests: u64,

    /// Requests to make before the measurement; by default a tenth, at most 2,000
    #[arg(long, value_name = "REQUESTS")]
    pub warm_up: Option<u64>,

    /// Concurrent requests
    #[arg(long, default_value_t = 1)]
    pub concurrency: u64,

    /// Use a new connection for every request
    #[arg(long)]
    pub fresh_connections: bool,

    /// Speak HTTP/2, with prior knowledge or by ALPN over TLS
    #[arg(long)]
    pub http2: bool,

    /// Header fields to send with every request
    #[arg(long, default_value_t = 0)]
    pub headers: usize,

    /// The interface on which `captured` captures, which must lead to the server
    #[arg(long, value_name = "IFACE", default_value = "lo")]
    pub interface: String,

    /// Keep every record and operation
    #[arg(long)]
    pub unbounded: bool,

    /// Keep this many requests, and this many connections, instead of the default bounds
    #[arg(long, value_name = "RECORDS", conflicts_with = "unbounded")]
    pub keep: Option<usize>,

    /// Take snapshots during the measurement
    #[arg(long, value_name = "MILLISECONDS")]
    pub snapshot_every: Option<u64>,

    /// How many snapshots to time at the end; with 0, operations are not counted either
    #[arg(long, default_value_t = 9)]
    pub snapshots: usize,

    /// Let the system choose the processors of server and client
    #[arg(long)]
    pub unpinned: bool,

    /// Run the modes in turn, this many times, and compare them with `untraced`
    #[arg(long, value_name = "ROUNDS", group = "in_turn")]
    pub compare: Option<usize>,

    /// Also print the comparison as a row of the table in benches/README.md
    #[arg(long, value_name = "TITLE", requires = "in_turn")]
    pub row: Option<String>,

    /// Compare clients in one process that take turns of a few requests, this many times: shows small differences
    #[arg(long, value_name = "ROUNDS", group = "in_turn")]
    pub turns: Option<usize>,

    /// With --turns: requests in a turn
    #[arg(long, value_name = "REQUESTS", default_value_t = 100, value_parser = value_parser!(u64).range(1..), requires = "turns")]
    pub slice: u64,

    /// With --turns: requests that a client makes before the measurement; several numbers create a client for each
    #[arg(long, value_name = "REQUESTS,…", value_delimiter = ',', default_value = "300", requires = "turns")]
    pub behind: Vec<u64>,

    /// With --turns: the number of passes, each with new clients
    #[arg(long, value_name = "PASSES", default_value_t = 12, value_parser = value_parser!(u64).range(1..), requires = "turns")]
    pub anew: u64,

    /// The modes to compare
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Mode::USUAL)]
    pub modes: Vec<Mode>,
}

/// The client that makes the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// hyper-util's client over a minimal connector without extras
    Bare,
    /// hyper-util's client with HttpConnector, hyper-rustls and hickory-resolver
    Untraced,
    /// This crate's client with a disabled sink
    Off,
    /// This crate's client with everything recorded
    Traced,
    /// Like `traced`, with the kernel's connection tracking and TCP_INFO (Linux)
    Full,
    /// Like `traced`, with the packets of its connections captured
    Captured,
}

impl Mode {
    /// The modes that are compared by default.
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
