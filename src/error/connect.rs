//! The error of the TCP connector.

use super::{BoxError, NoRuntime};
use crate::record::{Failure, IcmpError, TraceId};
use std::{error::Error, fmt, io, net::SocketAddr, sync::Arc};

/// An error returned when [`TcpConnector`](crate::connect::TcpConnector) cannot connect.
///
/// Its `source()` is the resolver's error if the name could not be resolved, else the I/O error of the last attempt.
#[derive(Debug)]
pub struct ConnectError {
    pub(crate) kind: ConnectErrorKind,
    pub(crate) destination: String,
    pub(crate) attempts: Vec<ConnectAttempt>,
    pub(crate) dial: TraceId,
}

#[derive(Debug)]
pub(crate) enum ConnectErrorKind {
    /// The destination is not `host:port`.
    Destination(&'static str),
    Resolve(BoxError),
    NoAddress,
    NoRuntime(NoRuntime),
    Attempts,
}

/// A failed attempt to connect to one address.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectAttempt {
    /// The address that was tried.
    pub addr: SocketAddr,
    /// The error of the attempt.
    pub error: Arc<io::Error>,
    /// The ICMP error that answered the attempt. Present if a probe such as `nettrace::linux::TcpInfoProbe` reads it.
    pub icmp_error: Option<Box<IcmpError>>,
}

impl ConnectError {
    /// Returns the attempts that failed, each with its own error.
    pub fn attempts(&self) -> &[ConnectAttempt] {
        &self.attempts
    }

    /// Returns the identifier of the dial in the trace, undefined if it was not traced.
    pub fn dial_id(&self) -> &TraceId {
        &self.dial
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = &self.destination;
        match &self.kind {
            ConnectErrorKind::Destination(why) => write!(f, "cannot connect to {to:?}: {why}"),
            ConnectErrorKind::Resolve(_) => write!(f, "cannot find the address of {to}"),
            ConnectErrorKind::NoAddress => {
                write!(f, "cannot connect to {to}: its name has no usable address")
            }
            ConnectErrorKind::NoRuntime(error) => write!(f, "cannot connect to {to}: {error}"),
            ConnectErrorKind::Attempts => {
                write!(f, "cannot connect to {to}")?;
                if let [only] = &*self.attempts
                    && only.addr.to_string() == *to
                {
                    return only.icmp_error.iter().try_for_each(|icmp| write!(f, ": {icmp}"));
                }
                for (i, attempt) in self.attempts.iter().enumerate() {
                    let lead = if i == 0 { " (" } else { ", " };
                    write!(f, "{lead}{}", attempt.addr)?;
                    if let Some(icmp) = &attempt.icmp_error {
                        write!(f, ": {icmp}")?;
                    }
                    if i + 1 < self.attempts.len() {
                        write!(f, ": {}", attempt.error)?;
                    }
                }
                f.write_str(")")
            }
        }
    }
}

/// Converts to an I/O error whose [`get_ref`](io::Error::get_ref) is the [`ConnectError`].
///
/// The kind is that of the last attempt or of the resolver's I/O error. Without one it is
/// [`InvalidInput`](io::ErrorKind::InvalidInput) for an unusable destination, [`TimedOut`](io::ErrorKind::TimedOut) for
/// a lookup that took too long, [`NotFound`](io::ErrorKind::NotFound) for a name that does not exist or has no usable
/// address, else [`Other`](io::ErrorKind::Other).
impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = match &error.kind {
            ConnectErrorKind::Destination(_) => io::ErrorKind::InvalidInput,
            ConnectErrorKind::NoAddress => io::ErrorKind::NotFound,
            ConnectErrorKind::Resolve(cause) => io_kind(&**cause).unwrap_or_else(|| match error.failure() {
                failure if failure.is_timeout() => io::ErrorKind::TimedOut,
                Failure::DnsNxdomainError | Failure::DnsNoAnswer => io::ErrorKind::NotFound,
                _ => io::ErrorKind::Other,
            }),
            ConnectErrorKind::NoRuntime(_) => io::ErrorKind::Other,
            ConnectErrorKind::Attempts => {
                error.attempts.last().map_or(io::ErrorKind::Other, |last| last.error.kind())
            }
        };
        io::Error::new(kind, error)
    }
}

/// Returns the kind of the first I/O error in the chain.
fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    match error.downcast_ref::<io::Error>() {
        Some(error) => Some(error.kind()),
        None => error.source().and_then(io_kind),
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            ConnectErrorKind::Resolve(error) => Some(&**error),
            ConnectErrorKind::Attempts => {
                self.attempts.last().map(|last| last.error.as_ref() as &(dyn Error + 'static))
            }
            ConnectErrorKind::Destination(_)
            | ConnectErrorKind::NoAddress
            | ConnectErrorKind::NoRuntime(_) => None,
        }
    }
}
