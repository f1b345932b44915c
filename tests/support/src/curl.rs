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
    /// TLS ready.
    pub time_appconnect: f64,
    pub time_pretransfer: f64,
    /// First byte of the response.
    pub time_starttransfer: f64,
    pub time_redirect: f64,
    pub time_total: f64,
    /// 0 without a response.
    pub http_code: u16,
    /// `1.1`, `2`.
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
    /// The response's body.
    #[serde(skip)]
    pub body: Vec<u8>,
}

impl Curl {
    #[track_caller]
    pub fn new(url: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { ns: Ns::here(), urls: vec![url.into()], arguments: Vec::new(), resolv_conf: None, directory }
    }

    /// Fetches this URL next, on the same connection if that can be.
    #[must_use]
    pub fn then(mut self, url: &str) -> Self {
        self.urls.push(url.into());
        self
    }

    /// Runs in a namespace of the lab.
    #[must_use]
    pub fn in_ns(mut self, ns: &Ns) -> Self {
        self.ns = ns.clone();
        self
    }

    /// Any option of curl.
    #[must_use]
    pub fn args<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.arguments.extend(arguments.into_iter().map(String::from));
        self
    }

    /// Trusts this authority alone, in PEM.
    #[must_use]
    #[track_caller]
    pub fn cacert(self, pem: &str) -> Self {
        let file = self.directory.path().join("ca.pem");
        fs::write(&file, pem).expect("a file in a directory of our own");
        let file = file.display().to_string();
        self.args(["--cacert", &file])
    }

    /// Takes this address for the host and port, without DNS.
    #[must_use]
    pub fn resolve(self, host: &str, port: u16, ip: IpAddr) -> Self {
        self.args(["--resolve", &format!("{host}:{port}:{ip}")])
    }

    /// Asks this nameserver, on port 53, by a resolv.conf that only this curl sees. (Debian's curl
    /// is built without `--dns-servers`.) Needs root.
    #[must_use]
    #[track_caller]
    pub fn nameserver(mut self, ip: IpAddr) -> Self {
        let file = self.directory.path().join("resolv.conf");
        fs::write(&file, format!("nameserver {ip}\noptions timeout:5 attempts:1\n"))
            .expect("a file of our own");
        self.resolv_conf = Some(file);
        self
    }

    /// Runs curl to its end; failures of the request are in the report.
    ///
    /// # Panics
    ///
    /// When curl cannot run or says what cannot be understood.
    #[track_caller]
    pub fn run(self) -> Report {
        self.run_all().remove(0)
    }

    /// The same, with a report for each URL.
    ///
    /// # Panics
    ///
    /// Same as [`run`](Self::run).
    #[track_caller]
    pub fn run_all(self) -> Vec<Report> {
        let bodies: Vec<_> =
            (0..self.urls.len()).map(|n| self.directory.path().join(format!("body{n}"))).collect();
        let mut command = self.ns.command("curl");
        // First of all, no ~/.curlrc; no proxy from the environment either.
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
