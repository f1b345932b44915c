//! Debian's unbound, as a nameserver for plain DNS, DNS over TLS and DNS over HTTPS that knows only the configured
//! names.

use std::{net::SocketAddr, process::Command};

use tempfile::TempDir;

use crate::{
    pki::Leaf,
    ports::free_ports,
    process::{self, Daemon},
};

/// A running nameserver.
pub struct Unbound {
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    pub https: SocketAddr,
    daemon: Daemon,
    _directory: TempDir,
}

impl Unbound {
    /// Starts a nameserver on free ports of 127.0.0.1 with this certificate. `records` are lines of a zone file; for
    /// all other names it answers NXDOMAIN.
    ///
    /// # Panics
    ///
    /// If it does not start. The message contains the output of unbound.
    #[track_caller]
    pub fn start(leaf: &Leaf, records: &[&str]) -> Self {
        const TRIES: usize = 20; // another process may take a port before unbound does
        let mut failure = String::new();
        for _ in 0..TRIES {
            let [plain, tls, https] = free_ports();
            let directory = tempfile::tempdir().expect("a directory");
            let (chain, key) = leaf.write(directory.path());
            let data: String = records.iter().map(|record| format!("    local-data: '{record}'\n")).collect();
            let config = format!(
                "server:\n    directory: {dir:?}\n    pidfile: \"\"\n    chroot: \"\"\n    username: \"\"\n    \
                 use-syslog: no\n    logfile: \"\"\n    verbosity: 1\n    log-queries: yes\n    \
                 do-daemonize: no\n    num-threads: 1\n    so-reuseport: no\n    module-config: iterator\n    \
                 interface: 127.0.0.1@{plain}\n    interface: 127.0.0.1@{tls}\n    interface: 127.0.0.1@{https}\n    \
                 tls-port: {tls}\n    https-port: {https}\n    tls-service-pem: {chain:?}\n    \
                 tls-service-key: {key:?}\n    local-zone: . static\n{data}remote-control:\n    \
                 control-enable: no\n",
                dir = directory.path(),
            );
            let file = directory.path().join("unbound.conf");
            std::fs::write(&file, config).expect("a file");
            let mut command = Command::new("unbound");
            command.arg("-d").arg("-c").arg(&file);
            let daemon = Daemon::spawn(command).expect("unbound");
            match daemon.line("start of service", process::READY) {
                Ok(_) => {
                    let [plain, tls, https] =
                        [plain, tls, https].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
                    return Unbound { plain, tls, https, daemon, _directory: directory };
                }
                Err(log) => failure = log,
            }
        }
        panic!("{failure}");
    }

    /// Returns the questions so far, each as a name and a type: `web.test. A`.
    pub fn questions(&self) -> Vec<String> {
        let question = |line: &String| {
            let (_, query) = line.split_once(" info: 127.0.0.1 ")?;
            let mut words = query.split(' ');
            Some(format!("{} {}", words.next()?, words.next()?))
        };
        self.daemon.log().iter().filter_map(question).collect()
    }
}
