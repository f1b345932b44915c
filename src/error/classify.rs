//! Classifies errors: from an error of any crate to a stable code ([`Failure`]) and a text.
//!
//! The innermost error that is known decides on the code, since the outer ones only say which step failed. The texts of
//! a chain are joined, and each is said once. It is the only module that knows the error types of other crates.

use super::FailureDetail;
#[cfg(feature = "tls")]
use super::TlsError;
#[cfg(feature = "resolve")]
use super::{ConnectError, ConnectErrorKind, ResolveError, ResolveErrorKind, rcode};
#[cfg(feature = "proxy")]
use super::{ProxyError, ProxyErrorKind, proxy::is_about_credentials};
use crate::record::Failure;
#[cfg(feature = "request")]
use hyper_util::client::legacy;
#[cfg(feature = "request")]
use std::any::Any;
use std::{error::Error, io};

/// Returns the code and the text of an I/O error.
#[cfg(feature = "_record_conns")]
pub(crate) fn io_failure_detail(error: &io::Error) -> FailureDetail {
    let failure = io_failure(error);
    match error.raw_os_error() {
        Some(number) => FailureDetail::from_os(failure, number),
        None => FailureDetail::new(failure, text(error)),
    }
}

/// Returns `true` if the error of a non-blocking `connect` only means that it has begun.
#[cfg(feature = "resolve")]
pub(crate) fn is_connect_in_progress(error: &io::Error) -> bool {
    // `EINPROGRESS`, for which the standard library has no kind.
    let in_progress = if cfg!(any(target_os = "linux", target_os = "android")) { 115 } else { 36 };
    error.raw_os_error() == Some(in_progress) || error.kind() == io::ErrorKind::WouldBlock
}

/// Returns the code of an error and its text with that of its sources.
#[cfg(any(feature = "connect", feature = "request"))]
pub(crate) fn failure_detail(error: &(dyn Error + 'static)) -> FailureDetail {
    let mut detail = FailureDetail::new(failure(error), error_chain(error));
    detail.http2_error = http2_error(error);
    detail
}

/// Returns the HTTP/2 error code of an error in the chain.
#[cfg(any(feature = "connect", feature = "request"))]
fn http2_error(error: &(dyn Error + 'static)) -> Option<u32> {
    sources(error).find_map(|error| {
        #[cfg(any(feature = "encrypted-dns", feature = "server", feature = "tonic"))]
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason().map(u32::from);
        }
        #[cfg(feature = "client")]
        if let Some(error) = error.downcast_ref::<super::IncompleteBody>() {
            return error.http2_error;
        }
        let _ = error; // without these features nothing looks at it
        None
    })
}

/// Returns `true` if an error in the chain is an HTTP/2 error, so the connection speaks HTTP/2.
#[cfg(any(feature = "encrypted-dns", feature = "server", feature = "tonic"))]
pub(crate) fn is_http2(error: &(dyn Error + 'static)) -> bool {
    sources(error).any(|error| error.is::<h2::Error>())
}

/// Returns the error and its sources, outermost first.
#[cfg(any(feature = "connect", feature = "request"))]
pub(crate) fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Returns the code of an I/O error, or of the error inside it.
pub(crate) fn io_failure(error: &io::Error) -> Failure {
    if let Some(inner) = error.get_ref()
        && let Some(failure) = known_failure(inner)
    {
        return failure;
    }
    match error.kind() {
        io::ErrorKind::TimedOut if error.raw_os_error().is_some() => Failure::TimedOut,
        io::ErrorKind::ConnectionRefused => Failure::ConnectionRefused,
        // Not from the kernel: h2 reports the end of the stream below like this.
        io::ErrorKind::BrokenPipe if error.get_ref().is_some() => Failure::EofError,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Failure::ConnectionReset,
        io::ErrorKind::ConnectionAborted => Failure::ConnectionAborted,
        io::ErrorKind::HostUnreachable => Failure::HostUnreachable,
        io::ErrorKind::NetworkUnreachable => Failure::NetworkUnreachable,
        io::ErrorKind::TimedOut => Failure::GenericTimeoutError,
        io::ErrorKind::UnexpectedEof => Failure::EofError,
        io::ErrorKind::Interrupted => Failure::Interrupted,
        io::ErrorKind::AddrNotAvailable => Failure::AddressNotAvailable,
        io::ErrorKind::AddrInUse => Failure::AddressInUse,
        io::ErrorKind::PermissionDenied => Failure::PermissionDenied,
        io::ErrorKind::NetworkDown => Failure::NetworkDown,
        io::ErrorKind::NotConnected => Failure::NotConnected,
        _ => error.raw_os_error().and_then(os_failure).unwrap_or_else(|| Failure::unknown(error)),
    }
}

/// Returns the code of an error number for which the standard library has no stable kind.
fn os_failure(number: i32) -> Option<Failure> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const NUMBERS: [(i32, Failure); 4] = [
        (90, Failure::MessageSize),
        (97, Failure::AddressFamilyNotSupported),
        (102, Failure::NetworkReset),
        (105, Failure::NoBufferSpace),
    ];
    // The numbers of the BSDs and macOS.
    #[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
    const NUMBERS: [(i32, Failure); 4] = [
        (40, Failure::MessageSize),
        (47, Failure::AddressFamilyNotSupported),
        (52, Failure::NetworkReset),
        (55, Failure::NoBufferSpace),
    ];
    // The numbers of Winsock.
    #[cfg(not(unix))]
    const NUMBERS: [(i32, Failure); 4] = [
        (10040, Failure::MessageSize),
        (10047, Failure::AddressFamilyNotSupported),
        (10052, Failure::NetworkReset),
        (10055, Failure::NoBufferSpace),
    ];
    NUMBERS.into_iter().find_map(|(known, failure)| (known == number).then_some(failure))
}

/// Returns the code of the innermost error in the chain that has one, else `unknown_failure` with the whole text.
#[cfg(any(feature = "connect", feature = "request"))]
pub(crate) fn failure(error: &(dyn Error + 'static)) -> Failure {
    let mut innermost = None;
    let mut next = Some(error);
    while let Some(error) = next {
        innermost = known_failure(error).or(innermost);
        // The causes of these errors, such as a file that cannot be read, say nothing about the connection.
        let is_all = matches!(
            innermost,
            Some(
                Failure::RequestBodyError
                    | Failure::DecodingError
                    | Failure::TooManyRedirects
                    | Failure::InvalidRedirect
            )
        );
        next = error.source().filter(|_| !is_all);
    }
    innermost.unwrap_or_else(|| Failure::unknown(error_chain(error)))
}

/// Downcasts an error of a service or body to one of the types that such errors usually have. Their bounds do not
/// include `Error`.
#[cfg(feature = "request")]
pub(crate) fn downcast_error(error: &dyn Any) -> Option<&(dyn Error + 'static)> {
    fn cast<T: Error + 'static>(error: &dyn Any) -> Option<&(dyn Error + 'static)> {
        error.downcast_ref::<T>().map(|error| error as &(dyn Error + 'static))
    }
    #[cfg(feature = "tonic")]
    if let Some(error) = cast::<::tonic::transport::Error>(error).or_else(|| cast::<::tonic::Status>(error)) {
        return Some(error);
    }
    #[cfg(feature = "reqwest")]
    if let Some(error) = cast::<::reqwest::Error>(error) {
        return Some(error);
    }
    cast::<legacy::Error>(error)
        .or_else(|| cast::<hyper::Error>(error))
        .or_else(|| cast::<io::Error>(error))
        .or_else(|| error.downcast_ref::<super::BoxError>().map(|error| &**error as &(dyn Error + 'static)))
}

/// Returns the text of an error, followed by the texts of its sources that add something.
pub(crate) fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source().filter(|_| is_uninformative(error)) {
        error = source;
    }
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        append_text(&mut text, &self::text(error));
        #[cfg(feature = "tls")]
        if let Some(error) = error.downcast_ref::<TlsError>() {
            append_text(&mut text, &error.cause());
            break;
        }
        // The source says the same with Rust type names.
        #[cfg(all(feature = "tls", any(feature = "ring", feature = "aws-lc-rs")))]
        if error.is::<super::rustls::ReadableError>() {
            break;
        }
        next = error.source();
    }
    text
}

/// Appends the text of a source, unless it is contained already.
fn append_text(text: &mut String, source: &str) {
    if text.is_empty() {
        text.push_str(source);
    } else if !text.contains(source) {
        text.push_str(": ");
        text.push_str(source);
    }
}

/// Returns `true` for errors that wrap another one without saying what went wrong.
///
/// hyper-util's error names a part of its client (`client error (Connect)`), tonic's is always `transport error`, and
/// reqwest's names the kind of the error.
#[cfg(feature = "request")]
fn is_uninformative(error: &(dyn Error + 'static)) -> bool {
    #[cfg(feature = "reqwest")]
    if error.is::<::reqwest::Error>() {
        return true;
    }
    #[cfg(feature = "tonic")]
    if error.is::<::tonic::transport::Error>() {
        return true;
    }
    error.is::<legacy::Error>()
}

/// Returns the text of an error without its sources.
fn text(error: &(dyn Error + 'static)) -> String {
    // reqwest's own text contains the URL with its query.
    #[cfg(feature = "reqwest")]
    if error.is::<::reqwest::Error>() {
        return "request or response body error".into();
    }
    #[cfg(feature = "tls")]
    if let Some(text) = super::rustls::text(error) {
        return text;
    }
    error.to_string()
}

#[cfg(not(feature = "request"))]
fn is_uninformative(_: &(dyn Error + 'static)) -> bool {
    false
}

fn known_failure(error: &(dyn Error + 'static)) -> Option<Failure> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return Some(io_failure(error)).filter(|failure| !matches!(failure, Failure::Unknown(_)));
    }
    #[cfg(feature = "resolve")]
    if let Some(error) = error.downcast_ref::<ConnectError>() {
        return Some(error.failure());
    }
    #[cfg(feature = "tls")]
    if let Some(error) = error.downcast_ref::<TlsError>() {
        return Some(error.failure());
    }
    #[cfg(feature = "tls")]
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(super::rustls::rustls_failure(error));
    }
    #[cfg(feature = "resolve")]
    if let Some(error) = error.downcast_ref::<ResolveError>() {
        return Some(error.failure());
    }
    #[cfg(feature = "proxy")]
    if let Some(error) = error.downcast_ref::<ProxyError>() {
        return Some(error.failure());
    }
    #[cfg(feature = "proxy")]
    if error.is::<super::InvalidProxy>() {
        return Some(Failure::InvalidArgument);
    }
    #[cfg(feature = "client")]
    if error.is::<super::InvalidRequest>() {
        return Some(Failure::InvalidArgument);
    } else if error.is::<super::IncompleteBody>() {
        return Some(Failure::EofError);
    }
    #[cfg(feature = "request")]
    if error.is::<legacy::Error>() && error.source().is_none() {
        return Some(Failure::InvalidArgument); // a request that it could not even begin
    }
    #[cfg(feature = "request")]
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return hyper_failure(error);
    }
    #[cfg(feature = "reqwest")]
    if let Some(error) = error.downcast_ref::<::reqwest::Error>() {
        return reqwest_failure(error);
    }
    #[cfg(any(feature = "encrypted-dns", feature = "server", feature = "tonic"))]
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        return h2_failure(error);
    }
    #[cfg(feature = "tonic")]
    if error.is::<::tonic::TimeoutExpired>() {
        return Some(Failure::GenericTimeoutError);
    }
    #[cfg(any(feature = "resolve", feature = "tls"))]
    if error.is::<super::NoRuntime>() {
        return Some(Failure::NoRuntime);
    }
    #[cfg(feature = "client")]
    if error.is::<super::TimedOut>() {
        return Some(Failure::GenericTimeoutError);
    } else if error.is::<super::ClientClosed>() {
        return Some(Failure::ClientClosed);
    } else if error.is::<super::DecodeError>() {
        return Some(Failure::DecodingError);
    }
    None
}

/// Classifies an error of reqwest itself, such as its own timeouts. Returns `None` if its source decides.
#[cfg(feature = "reqwest")]
fn reqwest_failure(error: &::reqwest::Error) -> Option<Failure> {
    if error.is_redirect() {
        let too_many = error.source().is_some_and(|why| why.to_string() == "too many redirects");
        Some(if too_many { Failure::TooManyRedirects } else { Failure::InvalidRedirect })
    } else if error.is_builder() {
        Some(Failure::InvalidArgument)
    } else if error.is_timeout() {
        Some(Failure::GenericTimeoutError)
    } else {
        None
    }
}

/// Classifies an HTTP/2 error: whether the peer ended the stream or the connection.
#[cfg(any(feature = "encrypted-dns", feature = "server", feature = "tonic"))]
fn h2_failure(error: &h2::Error) -> Option<Failure> {
    if error.is_go_away() && error.is_remote() {
        Some(Failure::Http2Goaway)
    } else if error.is_reset() && !error.is_remote() && !error.is_library() {
        // hyper resets a stream if the request's body fails.
        Some(Failure::RequestBodyError)
    } else if error.is_reset() && error.is_remote() {
        Some(Failure::Http2StreamReset)
    } else if error.is_io() {
        error.get_io().map(io_failure)
    } else {
        Some(Failure::HttpProtocolError)
    }
}

/// Classifies an error of hyper itself. Returns `None` if its source decides.
#[cfg(feature = "request")]
fn hyper_failure(error: &hyper::Error) -> Option<Failure> {
    let is_itself_the_reason = error.source().is_none();
    if error.is_timeout() {
        Some(Failure::GenericTimeoutError)
    } else if error.is_incomplete_message() {
        Some(Failure::EofError)
    } else if error.is_parse() {
        Some(Failure::HttpProtocolError)
    } else if error.is_canceled() || error.is_closed() {
        Some(Failure::ConnectionAborted)
    } else if error.is_body_write_aborted() || (error.is_user() && !is_itself_the_reason) {
        Some(Failure::RequestBodyError)
    } else if is_broken_body(error) || (is_itself_the_reason && !error.is_user()) {
        // What is left is a message that was not requested.
        Some(Failure::HttpProtocolError)
    } else {
        None
    }
}

/// Returns `true` if the chunked encoding of a body is broken (RFC 9112 section 7.1). For hyper this is an I/O error.
/// Only its text distinguishes it from an error of the connection.
#[cfg(feature = "request")]
fn is_broken_body(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|io| matches!(io.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
        && error.to_string() == "error reading a body from connection"
}

#[cfg(feature = "resolve")]
impl ConnectError {
    /// Returns the stable code of the failure: that of the last attempt if any address was tried.
    pub fn failure(&self) -> Failure {
        match &self.kind {
            ConnectErrorKind::Destination(_) => Failure::InvalidArgument,
            ConnectErrorKind::Resolve(error) => failure(&**error),
            ConnectErrorKind::NoAddress => Failure::DnsNoAnswer,
            ConnectErrorKind::NoRuntime(_) => Failure::NoRuntime,
            ConnectErrorKind::Attempts => {
                self.attempts.last().map_or(Failure::Interrupted, |last| io_failure(&last.error))
            }
        }
    }
}

#[cfg(feature = "resolve")]
impl ResolveError {
    /// Returns the stable code of the failure.
    pub fn failure(&self) -> Failure {
        self.inner.error.kind.failure()
    }
}

#[cfg(feature = "resolve")]
impl ResolveErrorKind {
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::InvalidName(_) => Failure::DnsInvalidName,
            // For the application such a name does not exist (RFC 7686 section 2).
            Self::Withheld | Self::NoSuchHost => Failure::DnsNxdomainError,
            Self::NoData => Failure::DnsNoAnswer,
            Self::Server(rcode::SERVER_FAILURE) => Failure::DnsServfailError,
            Self::Server(rcode::REFUSED) => Failure::DnsRefusedError,
            Self::Server(_) => Failure::DnsServerMisbehaving,
            Self::LameReferral => Failure::DnsTemporaryFailure,
            Self::Timeout { .. } => Failure::GenericTimeoutError,
            Self::Io(error) => io_failure(error),
            Self::BadReply(_) => Failure::DnsMalformed,
            Self::NoNameservers => Failure::DnsNonRecoverableFailure,
            Self::NoRuntime(_) => Failure::NoRuntime,
            Self::Skipped(_) => Failure::NameserversSkipped,
            #[cfg(feature = "encrypted-dns")]
            Self::AddressesSkipped(_) => Failure::NameserversSkipped,
            #[cfg(feature = "encrypted-dns")]
            Self::Unresolved(_) => Failure::NameserverUnresolved,
            #[cfg(feature = "encrypted-dns")]
            Self::Tls(error) => error.failure(),
            #[cfg(feature = "encrypted-dns")]
            Self::Http(error, _) => failure(&**error),
            #[cfg(feature = "encrypted-dns")]
            Self::HttpStatus(_) => Failure::DnsHttpStatus,
            #[cfg(feature = "encrypted-dns")]
            Self::ContentType(_) => Failure::DnsHttpContentType,
            #[cfg(feature = "encrypted-dns")]
            Self::NoHttp2 => Failure::HttpProtocolError,
            #[cfg(feature = "encrypted-dns")]
            Self::ReusedConnection(kind) => kind.failure(),
        }
    }
}

#[cfg(feature = "proxy")]
impl ProxyError {
    /// Returns the stable code of the failure.
    pub fn failure(&self) -> Failure {
        match &self.kind {
            ProxyErrorKind::Target(_) => Failure::InvalidArgument,
            ProxyErrorKind::Resolve(error) => failure(&**error),
            ProxyErrorKind::NoAddress => Failure::DnsNoAnswer,
            ProxyErrorKind::Status { status, .. } if is_about_credentials(*status) => {
                Failure::ProxyAuthenticationRequired
            }
            ProxyErrorKind::SocksMethod { .. } | ProxyErrorKind::SocksCredentials => {
                Failure::ProxyAuthenticationRequired
            }
            ProxyErrorKind::Status { .. } | ProxyErrorKind::SocksReply(_) => Failure::ProxyRefused,
            ProxyErrorKind::Http(error) => failure(error),
            ProxyErrorKind::Http2 => Failure::HttpProtocolError,
            ProxyErrorKind::SocksProtocol(_) => Failure::SocksProtocolError,
            ProxyErrorKind::Io(error) => io_failure(error),
            ProxyErrorKind::TimedOut(_) => Failure::GenericTimeoutError,
            ProxyErrorKind::NoRuntime(_) => Failure::NoRuntime,
        }
    }
}

#[cfg(feature = "tls")]
impl TlsError {
    /// Returns the text of the source with that of its own sources, followed by the hint.
    pub(crate) fn cause(&self) -> String {
        self.source()
            .map_or_else(|| self.text.clone(), |source| format!("{}{}", error_chain(source), self.hint))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn network_error_numbers_have_codes() {
        for (number, code) in [
            (libc::ENETDOWN, "network_down"),
            (libc::ENETRESET, "network_reset"),
            (libc::ENOTCONN, "x_not_connected"),
            (libc::EMSGSIZE, "x_message_size"),
            (libc::ENOBUFS, "x_no_buffer_space"),
            (libc::EAFNOSUPPORT, "x_address_family_not_supported"),
        ] {
            assert_eq!(io_failure(&io::Error::from_raw_os_error(number)).to_string(), code);
        }
        let other = io_failure(&io::Error::from_raw_os_error(libc::EXDEV)).to_string();
        assert!(other.starts_with("unknown_failure"), "{other}");
    }
}
