//! The command `openssl`: `s_server` as an independent TLS server with an option for every detail of a handshake, and
//! what it says about cipher suites and certificates.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::lab::Ns;
use crate::process::{self, Daemon};

/// The configuration of a server; see [`SServer::builder`].
pub struct Builder {
    ns: Ns,
    address: String,
    arguments: Vec<String>,
    directory: TempDir,
}

/// A running `openssl s_server`. It serves one connection at a time.
pub struct SServer {
    pub addr: SocketAddr,
    daemon: Daemon,
    _directory: TempDir,
}

impl SServer {
    /// Returns a builder for a server on a free port of 127.0.0.1, with a certificate (and its chain) and its key, in
    /// PEM. Unless [`www`](Builder::www) or [`rev`](Builder::rev) is set, the server sends nothing, prints what it
    /// receives, and keeps the connection open.
    #[track_caller]
    pub fn builder(certificates: &str, key: &str) -> Builder {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let builder =
            Builder { ns: Ns::here(), address: "127.0.0.1:0".into(), arguments: Vec::new(), directory };
        let certificate = builder.file("cert.pem", certificates); // -cert uses only the first certificate
        let key = builder.file("key.pem", key);
        let chain = certificates.match_indices("-----BEGIN").nth(1);
        let chain = chain.map(|(second, _)| builder.file("chain.pem", &certificates[second..]));
        let builder = builder.arg("-cert").arg(&certificate).arg("-key").arg(&key);
        match chain {
            Some(chain) => builder.arg("-cert_chain").arg(&chain),
            None => builder,
        }
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Returns its output: a report of every handshake, and the received data.
    pub fn log(&self) -> Vec<String> {
        self.daemon.log()
    }

    /// Waits for a line of the log that contains `text`.
    ///
    /// # Panics
    ///
    /// If there is none within [`process::READY`].
    #[track_caller]
    pub fn line(&self, text: &str) -> String {
        self.daemon.line(text, process::READY).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Builder {
    /// Runs the server in a namespace of the lab, on this address and port (0 for a free one).
    #[must_use]
    pub fn in_ns(mut self, ns: &Ns, address: &str) -> Self {
        self.ns = ns.clone();
        self.address = address.into();
        self
    }

    /// Adds an argument: `-tls1_2`, `-tls1_3`, `-alpn`, `h2,http/1.1`, `-groups`, `X25519`, `-naccept`, `1` …
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Answers any HTTP/1.0 request with a page that describes the connection.
    #[must_use]
    pub fn www(self) -> Self {
        self.arg("-www")
    }

    /// Sends every line back reversed.
    #[must_use]
    pub fn rev(self) -> Self {
        self.arg("-rev")
    }

    /// Requires a client certificate issued by this authority, in PEM, and fails the handshake without one.
    #[must_use]
    pub fn verify_client(self, authority: &str) -> Self {
        let file = self.file("client-ca.pem", authority);
        self.arg("-Verify").arg("5").arg("-verify_return_error").arg("-CAfile").arg(&file)
    }

    /// Starts the server and waits until it serves.
    ///
    /// # Panics
    ///
    /// If it does not start. The message contains the output of openssl.
    #[track_caller]
    pub fn start(self) -> SServer {
        let mut command = self.ns.command("openssl");
        command.arg("s_server").arg("-accept").arg(&self.address).args(&self.arguments);
        let daemon = Daemon::spawn(command).expect("openssl (require_tool! tells whether it is there)");
        let line = daemon.line("ACCEPT", process::READY).unwrap_or_else(|error| panic!("{error}"));
        // openssl prints the address only if it chose the port.
        let chosen = line.trim_start_matches("ACCEPT").trim();
        let addr = if chosen.is_empty() { &self.address } else { chosen };
        let addr = addr.parse().expect("an address with a port");
        SServer { addr, daemon, _directory: self.directory }
    }

    #[track_caller]
    fn file(&self, name: &str, content: &str) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, content).expect("write to a temporary directory");
        path.to_str().expect("a UTF-8 path").to_owned()
    }
}

/// Runs openssl with these arguments, and returns its output.
///
/// # Panics
///
/// If it fails.
#[track_caller]
pub fn openssl(arguments: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(arguments);
    process::run(command, process::READY).success()
}

/// Returns the number of a cipher suite by its OpenSSL name or its IANA name.
///
/// # Panics
///
/// If openssl does not know the name.
#[track_caller]
pub fn suite_number(name: &str) -> u16 {
    let list = openssl(&["ciphers", "-V", "-stdname", "ALL"]);
    let named = |line: &&str| line.split_whitespace().any(|word| word == name);
    let line = list.lines().find(named).unwrap_or_else(|| panic!("no suite {name:?} in {list}"));
    let (high, low) = line.split_whitespace().next().and_then(|code| code.split_once(',')).expect(line);
    let byte = |text: &str| u16::from_str_radix(text.trim_start_matches("0x"), 16).expect(line);
    byte(high) << 8 | byte(low)
}
