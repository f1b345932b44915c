//! strace, as an independent record of what a process did on its sockets.
//!
//! ```ignore
//! let (output, trace) = Strace::new("curl").args([url]).run();
//! let socket = trace.connected_to(server)[0];
//! assert_eq!(socket.moved(Direction::Write).sum::<usize>(), request.len());
//! ```

mod parse;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::lab::Ns;
use crate::process::{self, Output};

const DEADLINE: Duration = Duration::from_secs(60);
const CALLS: &str = "trace=network,read,readv,write,writev,sendfile,splice,close,dup,dup2,dup3,fcntl";

/// A program to be run under strace.
pub struct Strace {
    command: Command,
    directory: TempDir,
}

impl Strace {
    #[track_caller]
    pub fn new(program: &str) -> Self {
        Self::in_ns(&Ns::here(), program)
    }

    /// Runs the program in a namespace of the lab.
    #[track_caller]
    pub fn in_ns(ns: &Ns, program: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = ns.command("strace");
        command.args(["-f", "-yy", "-ttt", "-T", "-s", "0", "-e", "signal=none", "-e", CALLS, "-o"]);
        command.arg(directory.path().join("trace")).arg("--").arg(program);
        Self { command, directory }
    }

    /// Adds arguments for the program.
    #[must_use]
    pub fn args<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable of the program.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs the program to completion.
    ///
    /// # Panics
    ///
    /// If strace cannot be run, or the program takes longer than a minute.
    #[track_caller]
    pub fn run(self) -> (Output, Trace) {
        let output = process::run(self.command, DEADLINE);
        let text = fs::read_to_string(self.directory.path().join("trace"));
        let text = text.unwrap_or_else(|error| panic!("no trace: {error}: {output:?}"));
        (output, Trace::parse(&text))
    }
}

/// The sockets of one program, in the order in which they were opened.
///
/// Threads share them. A program that forks is not supported.
#[derive(Debug, Default)]
pub struct Trace {
    pub sockets: Vec<Socket>,
}

/// A socket from its opening to its last `close`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Socket {
    /// `TCP`, `UDP`, `TCPv6`, `UDPv6`, `UNIX-STREAM` …, as strace names it.
    pub protocol: String,
    pub local: Option<SocketAddr>,
    pub peer: Option<SocketAddr>,
    /// Reads and writes in the order in which they returned.
    pub calls: Vec<Call>,
    /// When it was closed, on the clock of [`Call::at`].
    pub closed: Option<f64>,
}

/// One system call that reads or writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// `recvfrom`, `writev` …
    pub name: String,
    pub direction: Direction,
    /// The time of the call, in seconds since 1970.
    pub at: f64,
    /// The duration in seconds.
    pub duration: f64,
    /// The number of bytes, or the name of the error.
    pub result: Result<usize, String>,
    /// Whether the call moves no data of the stream: `MSG_ERRQUEUE`, or `MSG_PEEK` that took no error.
    pub is_control: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
}

impl Trace {
    /// Parses the output of `strace -f -yy -ttt -T -o`. Lines that concern no socket are left out.
    pub fn parse(text: &str) -> Self {
        parse::trace(text)
    }

    /// Returns all TCP and UDP sockets that were connected to this address.
    pub fn connected_to(&self, peer: SocketAddr) -> Vec<&Socket> {
        self.sockets.iter().filter(|socket| socket.peer == Some(peer)).collect()
    }

    /// Returns the socket of this connection: the first one, if its ports were reused.
    pub fn connection(&self, local: SocketAddr, peer: SocketAddr) -> Option<&Socket> {
        self.connections(local, peer).next()
    }

    /// Returns all sockets that had these addresses, in the order in which they were opened.
    pub fn connections(&self, local: SocketAddr, peer: SocketAddr) -> impl Iterator<Item = &Socket> {
        self.sockets.iter().filter(move |socket| socket.local == Some(local) && socket.peer == Some(peer))
    }
}

impl Socket {
    /// Returns the calls that moved data, met the end of the stream (a read of `Ok(0)`), or failed. EAGAIN,
    /// interruptions, peeks and the error queue are left out.
    pub fn ops(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| {
            let idle = ["EAGAIN", "EINTR", "ERESTARTSYS", "?"]; // `?` if the process was killed during the call
            !call.is_control && !call.result.as_ref().is_err_and(|error| idle.contains(&error.as_str()))
        })
    }

    /// Returns the sizes of the successful operations in one direction, without the end of the stream.
    pub fn moved(&self, direction: Direction) -> impl Iterator<Item = usize> {
        self.ops()
            .filter(move |call| call.direction == direction)
            .filter_map(|call| call.result.clone().ok())
            .filter(|size| *size > 0)
    }
}
