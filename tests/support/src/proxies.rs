//! Proxies from Debian: tinyproxy and squid for HTTP, microsocks for SOCKS5. Their only user is `joe`, with the
//! password `secret`.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::{self, Daemon};
use crate::sys;

/// The user name that the proxies accept, with [`PASSWORD`].
pub const USER: &str = "joe";
pub const PASSWORD: &str = "secret";

/// A running proxy.
pub struct ProxyServer {
    pub addr: SocketAddr,
    daemon: Daemon,
    directory: Option<TempDir>, // contains the configuration
    /// The prefix of squid's files in /dev/shm.
    shared_memory: Option<String>,
}

impl Drop for ProxyServer {
    /// Kills squid, and removes its shared memory as squid would, because it takes two seconds to end by itself.
    fn drop(&mut self) {
        let Some(prefix) = &self.shared_memory else { return };
        _ = sys::kill(self.daemon.pid().cast_signed(), libc::SIGKILL); // an error means that it is gone
        for file in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if file.file_name().to_string_lossy().starts_with(prefix.as_str()) {
                _ = fs::remove_file(file.path());
            }
        }
    }
}

impl ProxyServer {
    /// Starts a proxy on a free port. Tries again, because another process may take the port first.
    #[track_caller]
    fn start(start: impl Fn(u16) -> Daemon, says: Option<&str>) -> Self {
        const TRIES: usize = 5;
        let mut failures = Vec::new();
        for _ in 0..TRIES {
            let addr =
                TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a free port");
            let server =
                ProxyServer { addr, daemon: start(addr.port()), directory: None, shared_memory: None };
            match server.is_ready(says) {
                Ok(()) => return server,
                Err(failure) => failures.push(failure),
            }
        }
        panic!("{}", failures.join("\n"));
    }

    /// Waits until the proxy has printed `says`, if given, and accepts connections: squid prints it a little earlier.
    fn is_ready(&self, says: Option<&str>) -> Result<(), String> {
        if let Some(says) = says {
            self.daemon.line(says, process::READY)?;
        }
        let end = Instant::now() + process::READY;
        let ended = || sys::process_ends_within(self.pid(), Duration::ZERO).expect("poll on a pidfd");
        while TcpStream::connect(self.addr).is_err() {
            if Instant::now() > end || ended() {
                return Err(self.log().join("\n"));
            }
            thread::sleep(Duration::from_millis(2)); // there is no event to wait for
        }
        // If the proxy has ended, another process accepted the connection.
        if ended() { Err(self.log().join("\n")) } else { Ok(()) }
    }

    fn with_directory(mut self, directory: TempDir) -> Self {
        self.directory = Some(directory);
        self
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Returns its output so far.
    pub fn log(&self) -> Vec<String> {
        self.daemon.log()
    }

    /// Returns the URL of the proxy, without credentials.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.addr)
    }

    /// Returns the URL of the proxy with the credentials.
    pub fn url_with_login(&self, scheme: &str) -> String {
        format!("{scheme}://{USER}:{PASSWORD}@{}", self.addr)
    }
}

/// Starts tinyproxy on a free port of 127.0.0.1. `more` has further lines of configuration: `BasicAuth joe secret`,
/// `ConnectPort 443`.
#[track_caller]
pub fn tinyproxy(more: &str) -> ProxyServer {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("tinyproxy.conf");
    let start = |port| {
        let fixed = "Listen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\nMaxClients 100\nLogLevel Info";
        fs::write(&file, format!("Port {port}\n{fixed}\n{more}\n")).expect("write to a temporary directory");
        let mut command = Command::new("tinyproxy");
        command.arg("-d").arg("-c").arg(&file);
        Daemon::spawn(command).expect("tinyproxy (require_tool! tells whether it is there)")
    };
    ProxyServer::start(start, Some("Accepting connections")).with_directory(directory)
}

/// Starts squid on a free port of 127.0.0.1, with TLS if given a certificate (and its chain) and its key, in PEM. It
/// requires credentials, and refuses to connect to 127.0.0.9.
#[track_caller]
pub fn squid(tls: Option<(&str, &str)>) -> ProxyServer {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path();
    // The hash of the password `secret`, made with `openssl passwd -apr1`.
    let user = format!("{USER}:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/\n");
    write_readable(&path.join("users"), &user);
    if let Some((certificates, key)) = tls {
        write_readable(&path.join("cert.pem"), certificates);
        write_readable(&path.join("key.pem"), key);
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("access to a temporary directory");
    let at = path.display();
    let start = |port| {
        let listen = match tls {
            Some(_) => {
                format!("https_port 127.0.0.1:{port} tls-cert={at}/cert.pem tls-key={at}/key.pem")
            }
            None => format!("http_port 127.0.0.1:{port}"),
        };
        let config = format!(
            "{listen}\n\
             pid_filename none\nvisible_hostname proxy.test\ncoredump_dir {at}\npinger_enable off\n\
             cache deny all\ncache_log /dev/stderr\naccess_log none\nshutdown_lifetime 0 seconds\n\
             auth_param basic program /usr/lib/squid/basic_ncsa_auth {at}/users\n\
             auth_param basic realm tests\n\
             acl known proxy_auth REQUIRED\nacl banned dst 127.0.0.9\n\
             http_access deny banned\nhttp_access allow known\nhttp_access deny all\n"
        );
        write_readable(&path.join("squid.conf"), &config);
        let mut command = Command::new("squid");
        // Without a service name of its own it would share the memory of another squid.
        command.arg("-N").args(["-n", &squid_name(port)]).arg("-f").arg(path.join("squid.conf"));
        if sys::is_root() {
            const NOBODY: u32 = 65534;
            // squid refuses to run as root. If it changed the user itself, the kernel would no longer end it with the
            // test.
            command.uid(NOBODY).gid(NOBODY);
        }
        Daemon::spawn(command).expect("squid (require_tool! tells whether it is there)")
    };
    let mut server = ProxyServer::start(start, Some("Accepting HTTP")).with_directory(directory);
    server.shared_memory = Some(format!("{}-", squid_name(server.addr.port())));
    server
}

/// Returns the service name of the squid on this port, with which the names of its files in /dev/shm begin.
fn squid_name(port: u16) -> String {
    format!("test{}x{port}", std::process::id())
}

/// Starts microsocks on a free port of 127.0.0.1. It requires credentials if `demands_login` is set.
#[track_caller]
pub fn microsocks(demands_login: bool) -> ProxyServer {
    let start = |port: u16| {
        let mut command = Command::new("microsocks");
        command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
        if demands_login {
            command.args(["-u", USER, "-P", PASSWORD]);
        }
        Daemon::spawn(command).expect("microsocks (require_tool! tells whether it is there)")
    };
    ProxyServer::start(start, None)
}

/// Writes a file that all users may read.
fn write_readable(file: &Path, content: &str) {
    fs::write(file, content).expect("write to a temporary directory");
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("write to a temporary directory");
}
