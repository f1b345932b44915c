//! The errors of proxies.

use super::{BoxError, NoRuntime};
use http::StatusCode;
use std::{error::Error, fmt, io, time::Duration};

/// An error returned when a proxy was reached but did not connect to the target.
///
/// Its `source()` is the error of the exchange with the proxy: hyper's for a CONNECT, an [`io::Error`] for SOCKS. If a
/// name had to be resolved for the proxy, it is the resolver's error.
#[derive(Debug)]
pub struct ProxyError {
    pub(crate) kind: ProxyErrorKind,
    /// The proxy, without credentials.
    pub(crate) proxy: String,
    /// The target that the proxy was asked to connect to.
    pub(crate) target: String,
}

#[derive(Debug)]
pub(crate) enum ProxyErrorKind {
    /// The proxy cannot be asked for this destination.
    Target(&'static str),
    Resolve(BoxError),
    NoAddress,
    /// The response to CONNECT, with its reason phrase.
    Status {
        status: StatusCode,
        phrase: String,
        had_credentials: bool,
    },
    Http(hyper::Error),
    /// The proxy negotiated HTTP/2 in the TLS handshake.
    Http2,
    /// The proxy accepts none of the authentication methods for which there are credentials.
    SocksMethod {
        had_credentials: bool,
    },
    SocksCredentials,
    /// The proxy's reply code (field REP, RFC 1928 section 6).
    SocksReply(u8),
    SocksProtocol(&'static str),
    Io(io::Error),
    TimedOut(Duration),
    NoRuntime(NoRuntime),
}

impl ProxyError {
    /// Returns the status of an HTTP proxy's response to CONNECT, if it refused.
    pub fn status(&self) -> Option<StatusCode> {
        match &self.kind {
            ProxyErrorKind::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Returns the reply code of a SOCKS5 proxy, if it refused (RFC 1928 section 6).
    pub fn socks_reply(&self) -> Option<u8> {
        match &self.kind {
            ProxyErrorKind::SocksReply(code) => Some(*code),
            _ => None,
        }
    }

    /// Returns the proxy as `scheme://host:port`. `***@` before the host stands for credentials.
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

/// Returns `true` if a proxy refuses because of credentials. A proxy should use 407, but some, such as tinyproxy, use
/// 401.
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

/// Returns the text of a reply code (RFC 1928 section 6).
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

/// An error returned when a text is not the address of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidProxy {
    /// The text without anything that may be a password.
    pub(crate) text: String,
    pub(crate) why: &'static str,
}

impl fmt::Display for InvalidProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no proxy: {}", self.text, self.why)
    }
}

impl Error for InvalidProxy {}
