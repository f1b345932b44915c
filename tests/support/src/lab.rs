//! Hosts and networks for one test, as anonymous network namespaces.
//!
//! Only a descriptor keeps a namespace alive, so nothing is left behind, even by a test that is killed.
//!
//! ```ignore
//! let net = Routed::new();                          // client – router – server, IPv4 and IPv6
//! net.router.masquerade("r1");
//! net.server.nft(Hook::Input, "tcp dport 443 drop");
//! let server = net.server.listen("10.9.2.2:80");    // usable from any thread
//! let error = net.client.block_on(async { TcpStream::connect("10.9.2.2:443").await });
//! ```

mod rules;
mod topology;
mod wire;

pub use rules::Hook;
pub use topology::{Pair, Routed, Site};
pub use wire::{Delay, Wire};

use std::ffi::{CString, OsStr};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::panic;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::{background, process, require, sys};

const SHELL_DEADLINE: Duration = Duration::from_secs(30);

/// Returns an error if this machine cannot create network namespaces. Determined once per process.
pub fn available() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(find_out).clone()
}

fn find_out() -> Result<(), String> {
    for name in ["ip", "nft"] {
        require::tool(name).ok_or(format!("no `{name}` on this machine"))?;
    }
    let ns = Ns::try_new()
        .map_err(|error| format!("cannot create a network namespace, which needs root: {error}"))?;
    ns.try_sh("ip link add lab0 type veth peer name lab1 && nft list ruleset").map(drop)
}

/// A network namespace: it has its own addresses, routes, ports and firewall rules, like a separate host.
#[derive(Clone)]
pub struct Ns {
    file: Option<Arc<File>>, // `None` for the namespace that the test was started in
}

impl Ns {
    /// Creates a namespace with its loopback interface up. Duplicate address detection (IPv6) and the rate limits of
    /// ICMP errors are off, because they make tests wait.
    #[expect(clippy::new_without_default, reason = "makes a network, which is no default value")]
    #[track_caller]
    pub fn new() -> Self {
        Self::try_new().expect("a network namespace (require_lab! tells whether it can be)")
    }

    fn try_new() -> io::Result<Self> {
        // On a new thread, because the caller's thread must stay in its namespace. The descriptor outlives the thread.
        let made = thread::spawn(|| {
            sys::unshare_network()?;
            File::open("/proc/thread-self/ns/net")
        });
        let file = made.join().expect("no panic")?;
        let ns = Self { file: Some(Arc::new(file)) };
        ns.try_sh(
            "ip link set lo up
             cd /proc/sys/net
             for at in all default; do echo 0 > ipv6/conf/$at/accept_dad; done
             echo 0 > ipv4/icmp_ratelimit
             echo 0 > ipv6/icmp/ratelimit",
        )
        .map_err(io::Error::other)?;
        Ok(ns)
    }

    /// Returns the namespace that the test runs in, for servers on the machine's own loopback interface. Needs no
    /// privileges.
    pub fn here() -> Self {
        Self { file: None }
    }

    /// Runs the closure on a thread inside the namespace, and returns its result. Sockets that it creates stay in the
    /// namespace, and can be used from any thread.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            self.enter();
            f()
        };
        let result = thread::scope(|scope| scope.spawn(inside).join());
        result.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    }

    /// Variant of [`run`](Self::run) that does not wait for the closure.
    pub fn spawn<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let ns = self.clone();
        thread::spawn(move || {
            ns.enter();
            f()
        })
    }

    /// Runs the future on a current-thread runtime inside the namespace. Its threads for blocking work are inside the
    /// namespace as well, so all sockets of the future are in it.
    pub fn block_on<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        self.run(|| background::runtime().block_on(future))
    }

    /// Returns a command whose process runs inside the namespace.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut path: Vec<_> = std::env::split_paths(&path).collect();
        path.extend(["/usr/sbin".into(), "/sbin".into()]); // as in `require::tool`
        command.env("PATH", std::env::join_paths(path).expect("made of a PATH"));
        if let Some(file) = &self.file {
            sys::start_in_network(&mut command, file.clone());
        }
        command
    }

    /// Runs a shell script inside the namespace until its first error, and returns its output.
    ///
    /// # Panics
    ///
    /// If a command fails.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.try_sh(script).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Variant of [`sh`](Self::sh) that returns an error if a command fails.
    ///
    /// # Errors
    ///
    /// The script and its stderr.
    pub fn try_sh(&self, script: &str) -> Result<String, String> {
        let mut command = self.command("sh");
        command.arg("-ec").arg(script);
        let output = process::run(command, SHELL_DEADLINE);
        if output.status.success() { Ok(output.stdout) } else { Err(format!("{script}: {}", output.stderr)) }
    }

    /// Returns a socket that listens in the namespace: `ns.listen("10.9.2.2:80")`. Port 0 means any free port.
    #[track_caller]
    pub fn listen(&self, address: &str) -> TcpListener {
        self.run(|| TcpListener::bind(address)).unwrap_or_else(|error| panic!("listen on {address}: {error}"))
    }

    /// Returns a bound UDP socket in the namespace.
    #[track_caller]
    pub fn udp(&self, address: &str) -> UdpSocket {
        self.run(|| UdpSocket::bind(address)).unwrap_or_else(|error| panic!("bind {address}: {error}"))
    }

    /// Sets a kernel parameter of the namespace: `ns.sysctl("net/ipv4/tcp_syn_retries", "2")`.
    #[track_caller]
    pub fn sysctl(&self, name: &str, value: &str) {
        let file = Path::new("/proc/sys").join(name);
        self.run(|| fs::write(&file, value)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// Sets the range of ephemeral ports. With a small range, ports are soon reused.
    #[track_caller]
    pub fn port_range(&self, first: u16, last: u16) {
        self.sysctl("net/ipv4/ip_local_port_range", &format!("{first} {last}"));
    }

    /// Returns the inode number of the namespace, as in `net:[4026531840]`.
    pub fn inode(&self) -> u64 {
        match &self.file {
            Some(file) => file.metadata(),
            None => fs::metadata("/proc/self/ns/net"),
        }
        .expect("a namespace has metadata")
        .ino()
    }

    fn path(&self) -> String {
        match &self.file {
            Some(file) => format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()),
            None => format!("/proc/{}/ns/net", std::process::id()),
        }
    }

    fn enter(&self) {
        if let Some(file) = &self.file {
            sys::enter_network(file.as_raw_fd()).expect("enter a network namespace");
        }
    }
}

impl fmt::Debug for Ns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode())
    }
}

/// Runs the closure on a thread that sees an empty disk of this many MiB in `directory`. Nobody else sees it but the
/// threads that the closure starts, and it is gone after the last of them. Needs root.
pub fn on_small_disk<T: Send>(directory: &Path, mib: u32, f: impl FnOnce() -> T + Send) -> T {
    let path = CString::new(directory.as_os_str().as_bytes()).expect("no NUL in a path");
    let options = CString::new(format!("size={mib}m")).expect("no NUL");
    let inside = || {
        sys::mount_memory(&path, &options).expect("mount a file system in memory");
        f()
    };
    let result = thread::scope(|scope| scope.spawn(inside).join());
    result.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
}

/// Makes the command see `file` at the path `over`, for instance `/etc/resolv.conf`, to set the nameserver of a program
/// that has no option for it. Needs root; both files must exist.
pub fn put_file_over(command: &mut Command, file: &Path, over: &str) {
    let file = CString::new(file.as_os_str().as_bytes()).expect("no NUL in a path");
    sys::start_with_file_over(command, file, CString::new(over).expect("no NUL in a path"));
}
