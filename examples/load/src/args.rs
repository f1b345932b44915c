//! The command line of the load generator.

use crate::mode::Mode;
use clap::{Parser, value_parser};
use std::{net::SocketAddr, path::PathBuf, slice};

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

    /// Run the modes in turn, this many times, and compare each with its baseline
    #[arg(long, value_name = "ROUNDS", group = "in_turn")]
    pub compare: Option<usize>,

    /// Also print the comparison as rows of a table in benches/README.md, one for each baseline
    #[arg(long, value_name = "TITLE", requires = "in_turn")]
    pub row: Option<String>,

    /// Also print the comparison as a column, with a cell for each mode
    #[arg(long, value_name = "TITLE", requires = "in_turn")]
    pub column: Option<String>,

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

    /// Compare all modes with this one, instead of each with its own baseline
    #[arg(long, value_enum, value_name = "MODE", requires = "in_turn")]
    pub baseline: Option<Mode>,
}

impl Args {
    pub fn needs_server(&self) -> bool {
        ["http", "https", "h2"].contains(&self.url.as_str())
    }

    /// Returns the index, among the modes, of the one that the figures of `mode` are divided by.
    pub fn baseline_index(&self, mode: Mode) -> Result<usize, String> {
        let baseline = self.baseline.unwrap_or(mode.baseline());
        self.modes.iter().position(|one| *one == baseline).ok_or_else(|| {
            format!(
                "`{}` is compared with `{}`, which is not among the modes: add it, or choose another --baseline",
                mode.name(),
                baseline.name(),
            )
        })
    }

    /// Checks what clap does not: that every mode can do the job, and has its baseline.
    pub fn check(&self) -> Result<(), String> {
        let is_comparison = self.compare.is_some() || self.turns.is_some();
        let modes = if is_comparison { &*self.modes } else { slice::from_ref(&self.mode) };
        for &mode in modes {
            if let Some(reason) = mode.cannot(self) {
                return Err(format!("`{}` {reason}", mode.name()));
            }
            if is_comparison {
                self.baseline_index(mode)?;
            }
        }
        Ok(())
    }
}
