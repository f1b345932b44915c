//! curl, as an independent measurement of the phases of a request.
//!
//! ```ignore
//! let report = Curl::new("https://slow.test/hello").cacert(&ca_pem).nameserver(ip).in_ns(&net.client).run();
//! assert!(report.time_connect - report.time_namelookup >= 0.1);
//! ```

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

use crate::lab::{self, Ns};
use crate::process;

const DEADLINE: Duration = Duration::from_secs(60);

/// One run of curl.
pub struct Curl {
    ns: Ns,
    urls: Vec<String>,
    arguments: Vec<String>,
    resolv_conf: Option<PathBuf>,
    directory: TempDir,
}

/// The report of curl. Times are in seconds since the start, and 0 for a phase that was not reached.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    pub time_namelookup: f64,
    pub time_connect: f64,
    /// When the TLS handshake was complete.
    pub time_appconnect: f64,
    pub time_pretransfer: f64,
    /// When the first byte of the response was received.
    pub time_starttransfer: f64,
    pub time_redirect: f64,
    pub time_total: f64,
    /// The status code; 0 without a response.
    pub http_code: u16,
    /// `1.1` or `2`.
    pub http_version: String,
    pub num_connects: u32,
    pub num_redirects: u32,
    pub num_headers: u32,
    pub local_ip: String,
    pub local_port: u16,
    pub remote_ip: String,
    pub remote_port: u16,
    pub size_download: u64,
    pub size_upload: u64,
    pub size_header: u64,
    pub size_request: u64,
    pub ssl_verify_result: i64,
    pub url_effective: String,
    /// curl's own exit code: 6 unknown host, 7 refused, 28 timeout, 35 TLS, 52 empty reply, 56 reset …
    pub exitcode: i32,
    pub errormsg: Option<String>,
    /// The body of the response.
    #[serde(skip)]
    pub body: Vec<u8>,
}

impl Curl {
    #[track_caller]
    pub fn new(url: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { ns: Ns::here(), urls: vec![url.into()], arguments: Vec::new(), resolv_conf: None, directory }
    }

    /// Adds a URL, which curl fetches next, on the same connection if possible.
    #[must_use]
    pub fn then(mut self, url: &str) -> Self {
        self.urls.push(url.into());
        self
    }

    /// Runs curl in a namespace of the lab.
    #[must_use]
    pub fn in_ns(mut self, ns: &Ns) -> Self {
        self.ns = ns.clone();
        self
    }

    /// Adds arguments for curl.
    #[must_use]
    pub fn args<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.arguments.extend(arguments.into_iter().map(String::from));
        self
    }

    /// Trusts only this certificate authority, in PEM.
    #[must_use]
    #[track_caller]
    pub fn cacert(self, pem: &str) -> Self {
        let file = self.directory.path().join("ca.pem");
        fs::write(&file, pem).expect("write to a temporary directory");
        let file = file.display().to_string();
        self.args(["--cacert", &file])
    }

    /// Uses this address for the host and port instead of a DNS lookup.
    #[must_use]
    pub fn resolve(self, host: &str, port: u16, ip: IpAddr) -> Self {
        self.args(["--resolve", &format!("{host}:{port}:{ip}")])
    }

    /// Queries this nameserver, on port 53. Needs root: the address is in a resolv.conf that only this curl sees,
    /// because Debian builds curl without `--dns-servers`.
    #[must_use]
    #[track_caller]
    pub fn nameserver(mut self, ip: IpAddr) -> Self {
        let file = self.directory.path().join("resolv.conf");
        fs::write(&file, format!("nameserver {ip}\noptions timeout:5 attempts:1\n"))
            .expect("write to a temporary directory");
        self.resolv_conf = Some(file);
        self
    }

    /// Runs curl to completion, and returns its report, also if the request fails.
    ///
    /// # Panics
    ///
    /// If curl cannot be run, or its output cannot be parsed.
    #[track_caller]
    pub fn run(self) -> Report {
        self.run_all().remove(0)
    }

    /// Runs curl to completion, and returns a report for each URL.
    ///
    /// # Panics
    ///
    /// Same as [`run`](Self::run).
    #[track_caller]
    pub fn run_all(self) -> Vec<Report> {
        let bodies: Vec<_> =
            (0..self.urls.len()).map(|n| self.directory.path().join(format!("body{n}"))).collect();
        let mut command = self.ns.command("curl");
        // No ~/.curlrc (`--disable` must come first), and no proxy from the environment.
        command.args([
            "--disable",
            "--silent",
            "--noproxy",
            "*",
            "--max-time",
            "30",
            "--write-out",
            "%{json}",
        ]);
        command.args(&self.arguments);
        for (url, body) in self.urls.iter().zip(&bodies) {
            command.arg(url).arg("--output").arg(body);
        }
        if let Some(file) = &self.resolv_conf {
            lab::put_file_over(&mut command, file, "/etc/resolv.conf");
        }
        let output = process::run(command, DEADLINE);
        let reports = serde_json::Deserializer::from_str(&output.stdout).into_iter();
        let reports: Result<Vec<Report>, _> = reports.collect();
        let mut reports = reports.unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!(reports.len(), bodies.len(), "{output:?}");
        for (report, body) in reports.iter_mut().zip(bodies) {
            report.body = fs::read(body).unwrap_or_default(); // no file without a body
        }
        reports
    }
}
