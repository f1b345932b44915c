//! What is asked of whom, and what an answer means: the order of Go's resolver (net/dnsclient_unix.go)
//! as logic without I/O.

use std::net::{IpAddr, SocketAddr};

use super::{
    config::Config,
    error::{Fault, Kind},
    message::{Question, Reply, rcode},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// One exchange with one nameserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) server: SocketAddr,
    pub(super) transport: Transport,
    pub(super) edns: bool,
}

/// What a reply means.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Addresses(Vec<IpAddr>),
    /// The name does not exist; no other server needs to be asked.
    NoSuchHost,
    /// The name exists, but has no address of this family. As final.
    NoData,
    /// Cut off: the same server is asked over TCP.
    Truncated,
    /// The server may not understand the OPT record: it is asked without (RFC 6891 section 7).
    EdnsRefused(u16),
    /// Another response code: the next server is asked.
    ServerError(u16),
    /// The server neither knows the answer nor would look for it: the next is asked.
    LameReferral,
}

impl Verdict {
    /// What was wrong, if this was to be the last word.
    pub(super) fn fault(&self) -> Option<Kind> {
        match self {
            Self::Addresses(_) | Self::Truncated => None,
            Self::NoSuchHost => Some(Kind::NoSuchHost),
            Self::NoData => Some(Kind::NoData),
            Self::EdnsRefused(code) | Self::ServerError(code) => Some(Kind::Server(*code)),
            Self::LameReferral => Some(Kind::LameReferral),
        }
    }
}

/// Judges a reply that matches its query.
pub(super) fn judge(reply: &Reply, question: &Question, ask: Ask) -> Verdict {
    // What is cut off even over TCP is used as it is.
    if reply.truncated && ask.transport == Transport::Udp {
        return Verdict::Truncated;
    }
    match reply.rcode {
        rcode::NO_ERROR => {}
        rcode::NAME_ERROR => return Verdict::NoSuchHost,
        code @ (rcode::FORMAT_ERROR | rcode::NOT_IMPLEMENTED) if ask.edns => return Verdict::EdnsRefused(code),
        code => return Verdict::ServerError(code),
    }
    let addresses = reply.addresses(question);
    if !addresses.is_empty() {
        return Verdict::Addresses(addresses);
    }
    let helpless = reply.answers.is_empty() && !reply.authoritative && !reply.recursion_available;
    if helpless && (reply.refers || !reply.has_additionals) {
        return Verdict::LameReferral;
    }
    Verdict::NoData
}

/// The exchanges for one question: attempt by attempt, server by server, until one answer is final.
#[derive(Debug)]
pub(super) struct Course {
    servers: Vec<SocketAddr>,
    use_vc: bool,
    edns: bool,
    attempts_left: u32,
    /// Index of the next server of this attempt.
    next: usize,
    /// A server was asked in this attempt, so another attempt has a point.
    asked: bool,
    /// The same server once more, by other means.
    again: Option<Ask>,
    result: Option<Result<Vec<IpAddr>, Fault>>,
}

impl Course {
    /// `offset` is the server to begin with (option rotate); `edns` says whether queries have an OPT record.
    pub(super) fn new(config: &Config, offset: usize, edns: bool) -> Self {
        let mut servers = config.nameservers.clone();
        let len = servers.len().max(1);
        servers.rotate_left(offset % len);
        Self {
            servers,
            use_vc: config.use_vc,
            edns,
            attempts_left: config.attempts,
            next: 0,
            asked: false,
            again: None,
            result: None,
        }
    }

    /// The exchange to do now, `None` when there is nothing more to do. `skip` is asked about each
    /// server right before its turn.
    pub(super) fn next(&mut self, mut skip: impl FnMut(SocketAddr) -> bool) -> Option<Ask> {
        if let Some(ask) = self.again.take() {
            return Some(ask);
        }
        while self.attempts_left > 0 {
            while let Some(&server) = self.servers.get(self.next) {
                self.next += 1;
                if !skip(server) {
                    self.asked = true;
                    let transport = if self.use_vc { Transport::Tcp } else { Transport::Udp };
                    return Some(Ask { server, transport, edns: self.edns });
                }
            }
            self.attempts_left = if self.asked { self.attempts_left - 1 } else { 0 };
            self.next = 0;
            self.asked = false;
        }
        None
    }

    /// Takes what came of `ask`.
    pub(super) fn took(&mut self, ask: Ask, outcome: Result<Verdict, Kind>) {
        let fault = |kind| Err(Fault { kind, nameserver: Some(ask.server) });
        let (result, is_final) = match outcome {
            Ok(Verdict::Truncated) => {
                self.again = Some(Ask { transport: Transport::Tcp, ..ask });
                return;
            }
            Ok(Verdict::EdnsRefused(_)) => {
                self.again = Some(Ask { edns: false, ..ask });
                return;
            }
            Ok(Verdict::Addresses(addresses)) => (Ok(addresses), true),
            Ok(Verdict::NoSuchHost) => (fault(Kind::NoSuchHost), true),
            Ok(Verdict::NoData) => (fault(Kind::NoData), true),
            Ok(Verdict::ServerError(code)) => (fault(Kind::Server(code)), false),
            Ok(Verdict::LameReferral) => (fault(Kind::LameReferral), false),
            Err(kind) => (fault(kind), false),
        };
        self.result = Some(result);
        if is_final {
            self.attempts_left = 0;
        }
    }

    /// The addresses, or the last fault; `None` when no server was asked.
    pub(super) fn finish(self) -> Option<Result<Vec<IpAddr>, Fault>> {
        self.result
    }
}
