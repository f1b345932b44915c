//! The reasons why a nameserver cannot be asked over TLS or HTTPS. All lookups that wait for a connection get the same
//! answer.

use std::{io, net::SocketAddr, sync::Arc};

use http::StatusCode;

use crate::{
    error::{
        ResolveError, ResolveErrorKind as Kind, TlsError,
        classify::{error_chain, sources},
    },
    record::Failure,
};

#[derive(Clone, Debug)]
pub(super) enum SessionFailure {
    Timeout,
    /// The error of the socket.
    Io(Arc<io::Error>),
    /// The name of the nameserver could not be looked up.
    Unresolved(Arc<ResolveError>),
    /// All addresses of the nameserver were skipped, with the reasons.
    Skipped(Vec<(SocketAddr, String)>),
    Tls(Arc<TlsError>),
    NoHttp2,
    Http(Arc<hyper::Error>),
    HttpStatus(StatusCode),
    /// The content type of the response; empty for none.
    ContentType(String),
    /// The body of the response is no DNS message.
    BadReply(String),
    /// The runtime of the dial was shut down.
    NoTask,
}

impl SessionFailure {
    /// Returns `true` if nothing more can be sent on the connection.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Self::Io(_) | Self::NoTask => true,
            Self::Http(error) => !is_of_stream(error),
            _ => false,
        }
    }

    /// Returns `true` if a dial failed because of the lookup that began it: its deadline, or its runtime.
    pub(super) fn is_of_one_lookup(&self) -> bool {
        match self {
            Self::Timeout | Self::NoTask => true,
            Self::Unresolved(error) => error.failure() == Failure::GenericTimeoutError,
            Self::Tls(error) => error.failure() == Failure::GenericTimeoutError,
            _ => false,
        }
    }
}

/// Returns `true` if only one stream of the HTTP/2 connection was reset.
fn is_of_stream(error: &hyper::Error) -> bool {
    let error = sources(error).find_map(|error| error.downcast_ref::<h2::Error>());
    error.is_some_and(h2::Error::is_reset)
}

impl From<io::Error> for SessionFailure {
    fn from(error: io::Error) -> Self {
        SessionFailure::Io(Arc::new(error))
    }
}

impl From<SessionFailure> for Kind {
    fn from(failure: SessionFailure) -> Self {
        match failure {
            SessionFailure::Timeout => Kind::Timeout { ignored: None },
            SessionFailure::Io(error) => Kind::Io(copy(error)),
            SessionFailure::Unresolved(error) => Kind::Unresolved(error),
            SessionFailure::Skipped(skipped) => Kind::AddressesSkipped(skipped),
            SessionFailure::Tls(error) => Kind::Tls(error),
            SessionFailure::NoHttp2 => Kind::NoHttp2,
            SessionFailure::Http(error) => {
                let text = error_chain(&*error);
                Kind::Http(error, text)
            }
            SessionFailure::HttpStatus(status) => Kind::HttpStatus(status),
            SessionFailure::ContentType(found) => Kind::ContentType(found),
            SessionFailure::BadReply(why) => Kind::BadReply(why),
            SessionFailure::NoTask => {
                let text = "the tokio runtime in which the connection was made has been shut down";
                Kind::Io(io::Error::new(io::ErrorKind::NotConnected, text))
            }
        }
    }
}

/// Returns an error of the same kind and number.
fn copy(error: Arc<io::Error>) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(error.kind(), error),
    }
}
