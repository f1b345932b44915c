//! Why a nameserver cannot be asked over TLS or HTTPS. All lookups that wait for a connection get the same answer.

use std::{io, net::SocketAddr, sync::Arc};

use http::StatusCode;

use crate::error::{ResolveError, ResolveErrorKind as Kind, TlsError, classify::error_chain};

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
        matches!(self, Self::Io(_) | Self::Http(_) | Self::NoTask)
    }
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
