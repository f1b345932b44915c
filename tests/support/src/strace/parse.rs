//! The parser of strace's output.
//!
//! ```text
//! 4711 1700000000.123456 recvfrom(5<TCP:[10.9.1.2:40000->10.9.2.2:80]>, ""..., 4096, 0, NULL, NULL) = 42 <0.000012>
//! 4711 1700000000.200000 read(5<TCP:[10.9.1.2:40000->10.9.2.2:80]>,  <unfinished ...>
//! 4711 1700000000.300000 <... read resumed>"", 4096) = 0 <0.100000>
//! ```

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::{Call, Direction, Socket, Trace};

pub(super) fn trace(text: &str) -> Trace {
    let mut reader = Reader::default();
    for line in text.lines() {
        _ = reader.line(line); // `None` for signals, exits, and calls on other descriptors
    }
    reader.trace
}

#[derive(Default)]
struct Reader<'a> {
    trace: Trace,
    open: HashMap<u32, usize>,                   // descriptor → index of its socket
    unfinished: HashMap<&'a str, (f64, String)>, // thread → its call so far
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a str) -> Option<()> {
        let (thread, rest) = line.split_once(' ')?;
        let (time, text) = rest.trim_start().split_once(' ')?;
        let time = time.parse().ok()?;
        if let Some(begin) = text.strip_suffix("<unfinished ...>") {
            self.unfinished.insert(thread, (time, begin.to_owned()));
            None
        } else if text.starts_with("<... ") {
            let (begun, begin) = self.unfinished.remove(thread)?;
            let (_, end) = text.split_once(" resumed>")?;
            self.call(begun, &(begin + end))
        } else {
            self.call(time, text)
        }
    }

    fn call(&mut self, at: f64, text: &str) -> Option<()> {
        let (name, rest) = text.split_once('(')?;
        let (arguments, result) = rest.rsplit_once(" = ")?;
        let returned = Returned::parse(result);
        if let "socket" | "accept" | "accept4" = name {
            return self.opened(Descriptor::parse(result)?);
        }

        let descriptor = Descriptor::parse(arguments)?;
        let index = self.socket(&descriptor)?;
        match name {
            "close" => {
                self.open.remove(&descriptor.number);
                if !self.open.values().any(|open| *open == index) {
                    self.trace.sockets[index].closed = Some(at);
                }
            }
            "dup" | "dup2" | "dup3" | "fcntl" => {
                // Another descriptor of the same socket; other uses of fcntl return no descriptor.
                let copy = Descriptor::parse(result).filter(|copy| copy.socket.is_some())?;
                self.open.insert(copy.number, index);
            }
            "connect" => {
                self.trace.sockets[index].peer = address(arguments).or(self.trace.sockets[index].peer)
            }
            "getsockname" => self.trace.sockets[index].local = address(arguments),
            _ => {
                let direction = direction(name)?;
                // A peek that fails takes the error of the socket in place of the read.
                let has_peeked = returned.value.as_ref().map_or_else(|error| error == "EAGAIN", |_| true);
                let is_control =
                    arguments.contains("MSG_ERRQUEUE") || arguments.contains("MSG_PEEK") && has_peeked;
                let call = |result| Call {
                    name: name.into(),
                    direction,
                    at,
                    duration: returned.duration,
                    result,
                    is_control,
                };
                let calls = &mut self.trace.sockets[index].calls;
                match message_sizes(name, arguments) {
                    Some(sizes) if returned.value.is_ok() => calls.extend(sizes.map(|size| call(Ok(size)))),
                    _ => calls.push(call(returned.value.clone())),
                }
            }
        }
        Some(())
    }

    fn opened(&mut self, descriptor: Descriptor) -> Option<()> {
        self.open.remove(&descriptor.number);
        self.socket(&descriptor).map(drop)
    }

    /// Returns the index of the descriptor's socket, which is added if it is new. Returns `None` if it is not a socket.
    fn socket(&mut self, descriptor: &Descriptor) -> Option<usize> {
        let seen = descriptor.socket.as_ref()?;
        let index = *self.open.entry(descriptor.number).or_insert_with(|| {
            self.trace.sockets.push(Socket::default());
            self.trace.sockets.len() - 1
        });
        let socket = &mut self.trace.sockets[index];
        socket.protocol.clone_from(&seen.protocol);
        // When the peer has closed, the kernel no longer reports the addresses, so the known ones are kept.
        socket.local = seen.local.or(socket.local);
        socket.peer = seen.peer.or(socket.peer);
        Some(index)
    }
}

/// A descriptor at the beginning of arguments or of a result: `5<TCP:[…]>`.
struct Descriptor {
    number: u32,
    socket: Option<Socket>,
}

impl Descriptor {
    fn parse(text: &str) -> Option<Self> {
        let (number, annotation) = text.split_once('<')?;
        let number = number.parse().ok()?;
        Some(Self { number, socket: socket(annotation) })
    }
}

/// Parses `TCP:[10.9.1.2:40000->10.9.2.2:80]`, `UDPv6:[[::1]:53]`, `TCP:[4711]` (an inode) or `socket:[4711]`.
fn socket(annotation: &str) -> Option<Socket> {
    const PROTOCOLS: [&str; 4] = ["TCP", "TCPv6", "UDP", "UDPv6"];
    let (protocol, rest) = annotation.split_once(":[")?;
    if !PROTOCOLS.contains(&protocol) && protocol != "socket" && !protocol.starts_with("UNIX") {
        return None; // a file, a pipe, netlink
    }
    let (inside, _) = rest.split_once("]>")?;
    let (local, peer) = match inside.split_once("->") {
        Some((local, peer)) => (local.parse().ok(), peer.parse().ok()),
        None => (inside.parse().ok(), None),
    };
    Some(Socket { protocol: protocol.into(), local, peer, ..Socket::default() })
}

/// A result: `42 <0.000012>`, `-1 EAGAIN (Resource temporarily unavailable) <0.000007>` or `? ERESTARTSYS (…)`.
struct Returned {
    value: Result<usize, String>,
    duration: f64,
}

impl Returned {
    fn parse(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let first = words.next().unwrap_or_default();
        let value = first.parse().map_err(|_| words.next().unwrap_or(first).to_owned());
        let duration = text.rsplit_once('<').and_then(|(_, time)| time.strip_suffix('>')?.parse().ok());
        Self { value, duration: duration.unwrap_or_default() }
    }
}

/// Parses `{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("10.9.2.2")}` or
/// `{sa_family=AF_INET6, sin6_port=htons(80), …, inet_pton(AF_INET6, "::1", &sin6_addr), …}`.
fn address(arguments: &str) -> Option<SocketAddr> {
    let port = between(arguments, "_port=htons(", ")")?.parse().ok()?;
    let ip = between(arguments, "inet_addr(\"", "\"")
        .or_else(|| between(arguments, "inet_pton(AF_INET6, \"", "\""))?;
    Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, port))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(inside, _)| inside)
}

fn direction(name: &str) -> Option<Direction> {
    match name {
        "read" | "readv" | "recv" | "recvfrom" | "recvmsg" | "recvmmsg" => Some(Direction::Read),
        "write" | "writev" | "send" | "sendto" | "sendmsg" | "sendmmsg" | "sendfile" => {
            Some(Direction::Write)
        }
        _ => None,
    }
}

/// Returns the sizes of the messages of `sendmmsg` and `recvmmsg`. They are in the arguments: the calls return the
/// number of messages.
fn message_sizes(name: &str, arguments: &str) -> Option<impl Iterator<Item = usize>> {
    let several = matches!(name, "sendmmsg" | "recvmmsg");
    several.then(|| {
        arguments.split("msg_len=").skip(1).filter_map(|rest| {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        })
    })
}
