//! Why a proxy did not lead where it was asked to.

use super::NoRuntime;
use http::StatusCode;
use std::{error::Error, fmt, io, time::Duration};

/// Why there is no way through a proxy, although there is a connection to it.
///
/// Its `source()` is the error of the exchange with the proxy where that broke off: hyper's of a CONNECT, the
/// [`io::Error`] of a SOCKS handshake; or the resolver's error where a name had to be looked up for the proxy.
#[derive(Debug)]
pub struct ProxyError {
    pub(crate) kind: ProxyErrorKind,
    /// Without credentials.
    pub(crate) proxy: String,
    /// What it was asked to connect to.
    pub(crate) target: String,
}

#[derive(Debug)]
pub(crate) enum ProxyErrorKind {
    /// The destination is none that can be asked for.
    Target(&'static str),
    Resolve(Box<dyn Error + Send + Sync>),
    NoAddress,
    /// The answer to CONNECT, with its reason phrase.
    Status {
        status: StatusCode,
        phrase: String,
        had_credentials: bool,
    },
    Http(hyper::Error),
    /// The proxy speaks HTTP/2, as TLS has agreed on.
    Http2,
    /// None of the methods of authentication that there are credentials for.
    SocksMethod {
        had_credentials: bool,
    },
    SocksCredentials,
    /// The field REP (RFC 1928 section 6).
    SocksReply(u8),
    SocksProtocol(&'static str),
    Io(io::Error),
    TimedOut(Duration),
    NoRuntime(NoRuntime),
}

impl ProxyError {
    /// The status with which an HTTP proxy answered CONNECT, where it did not connect.
    pub fn status(&self) -> Option<StatusCode> {
        match &self.kind {
            ProxyErrorKind::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The code of the reply with which a SOCKS5 proxy said why it did not connect (RFC 1928 section 6).
    pub fn socks_reply(&self) -> Option<u8> {
        match &self.kind {
            ProxyErrorKind::SocksReply(code) => Some(*code),
            _ => None,
        }
    }

    /// The proxy, as `scheme://host:port`; `***@` before the host stands for credentials.
    pub fn proxy(&self) -> &str {
        &self.proxy
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (proxy, target) = (&self.proxy, &self.target);
        match &self.kind {
            ProxyErrorKind::Target(why) => {
                write!(f, "the proxy {proxy} cannot be asked for {target:?}: {why}")
            }
            ProxyErrorKind::Resolve(_) => {
                write!(f, "cannot find the address of {target}, which the proxy {proxy} is to be asked for")
            }
            ProxyErrorKind::NoAddress => {
                write!(f, "the proxy {proxy} cannot be asked for {target}: its name has no address")
            }
            ProxyErrorKind::Status { status, phrase, had_credentials } => {
                write!(f, "the proxy {proxy} did not connect to {target}: {} {phrase}", status.as_u16())?;
                f.write_str(credentials(is_about_credentials(*status), *had_credentials))
            }
            ProxyErrorKind::SocksMethod { had_credentials: true } => {
                write!(f, "the proxy {proxy} did not connect to {target}: it takes no user name and password")
            }
            ProxyErrorKind::SocksMethod { had_credentials: false } => {
                write!(f, "the proxy {proxy} did not connect to {target}: it demands authentication")?;
                f.write_str(credentials(true, false))
            }
            ProxyErrorKind::SocksCredentials => {
                write!(
                    f,
                    "the proxy {proxy} did not connect to {target}: it rejects the user name or password"
                )
            }
            ProxyErrorKind::SocksReply(code) => {
                write!(f, "the proxy {proxy} did not connect to {target}: {} ({code})", reply(*code))
            }
            ProxyErrorKind::Http2 => write!(f, "the proxy {proxy} speaks HTTP/2"),
            ProxyErrorKind::SocksProtocol(what) => {
                write!(f, "the proxy {proxy} does not speak SOCKS5 as it should: {what}")
            }
            ProxyErrorKind::Http(_) | ProxyErrorKind::Io(_) => {
                write!(f, "asking the proxy {proxy} for {target} failed")
            }
            ProxyErrorKind::TimedOut(limit) => {
                write!(f, "the proxy {proxy} did not connect to {target} within {limit:?}")
            }
            ProxyErrorKind::NoRuntime(error) => {
                write!(f, "asking the proxy {proxy} for {target} failed: {error}")
            }
        }
    }
}

impl Error for ProxyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            ProxyErrorKind::Resolve(error) => Some(&**error),
            ProxyErrorKind::Http(error) => Some(error),
            ProxyErrorKind::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Only a server says 401; but to a CONNECT nobody answers so but the proxy, and tinyproxy does.
pub(super) fn is_about_credentials(status: StatusCode) -> bool {
    matches!(status, StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED)
}

fn credentials(are_asked_for: bool, were_shown: bool) -> &'static str {
    match (are_asked_for, were_shown) {
        (true, true) => " (the credentials for the proxy were not accepted)",
        (true, false) => " (there are no credentials for the proxy)",
        (false, _) => "",
    }
}

/// The replies of RFC 1928 section 6, in its words.
fn reply(code: u8) -> &'static str {
    match code {
        1 => "general SOCKS server failure",
        2 => "connection not allowed by ruleset",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "a reply that SOCKS5 does not have",
    }
}

/// What was given is no proxy's address: why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidProxy {
    /// Without what may be a password.
    pub(crate) text: String,
    pub(crate) why: &'static str,
}

impl fmt::Display for InvalidProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no proxy: {}", self.text, self.why)
    }
}

impl Error for InvalidProxy {}
