//! Debian's dnsdist, as a nameserver for DNS over TLS and DNS over HTTPS that forwards to another one.

use std::{net::SocketAddr, process::Command};

use tempfile::TempDir;

use crate::{
    pki::Leaf,
    ports::free_ports,
    process::{self, Daemon},
};

/// A running nameserver.
pub struct Dnsdist {
    pub tls: SocketAddr,
    pub https: SocketAddr,
    _daemon: Daemon,
    _directory: TempDir,
}

impl Dnsdist {
    /// Starts a nameserver on free ports of 127.0.0.1 with this certificate, in front of the plain one at `backend`.
    ///
    /// # Panics
    ///
    /// If it does not start. The message contains the output of dnsdist.
    #[track_caller]
    pub fn start(leaf: &Leaf, backend: SocketAddr) -> Self {
        const TRIES: usize = 20; // another process may take a port before dnsdist does
        let mut failure = String::new();
        for _ in 0..TRIES {
            let [plain, tls, https] = free_ports().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
            let directory = tempfile::tempdir().expect("a directory");
            let (chain, key) = leaf.write(directory.path());
            let config = format!(
                "setSecurityPollSuffix('')\nsetLocal('{plain}')\naddTLSLocal('{tls}', {chain:?}, {key:?})\n\
                 addDOHLocal('{https}', {chain:?}, {key:?}, '/dns-query')\n\
                 newServer('{backend}'):setUp()\n"
            );
            let file = directory.path().join("dnsdist.conf");
            std::fs::write(&file, config).expect("a file");
            let mut command = Command::new("dnsdist");
            command.arg("--supervised").arg("--disable-syslog").arg("-C").arg(&file);
            let daemon = Daemon::spawn(command).expect("dnsdist");
            match daemon.line("ACL allowing queries from", process::READY) {
                Ok(_) => return Dnsdist { tls, https, _daemon: daemon, _directory: directory },
                Err(log) => failure = log,
            }
        }
        panic!("{failure}");
    }
}
