//! From the errors of this world to stable codes.

use super::Fault;
use crate::record::Failure;
use std::{error::Error, io};

/// The code of an I/O error and its text.
pub(crate) fn io_fault(error: &io::Error) -> Fault {
    Fault::new(io_failure(error), error.to_string())
}

/// The code of an I/O error, or of the error that it carries.
pub(crate) fn io_failure(error: &io::Error) -> Failure {
    if let Some(inner) = error.get_ref()
        && let Some(failure) = known(inner)
    {
        return failure;
    }
    match error.kind() {
        io::ErrorKind::TimedOut if error.raw_os_error().is_some() => Failure::TimedOut,
        io::ErrorKind::ConnectionRefused => Failure::ConnectionRefused,
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
        _ => Failure::unknown(&error.to_string()),
    }
}

/// The code of the first error in the chain that has one; `unknown_failure` with the whole text otherwise.
pub(crate) fn failure(error: &(dyn Error + 'static)) -> Failure {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(failure) = known(error) {
            return failure;
        }
        next = error.source();
    }
    Failure::unknown(&chain(error))
}

/// The text of an error with that of its sources, as far as they add to it.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = error.source();
    }
    text
}

fn known(error: &(dyn Error + 'static)) -> Option<Failure> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return Some(io_failure(error)).filter(|failure| !matches!(failure, Failure::Unknown(_)));
    }
    #[cfg(feature = "resolve")]
    if let Some(error) = error.downcast_ref::<super::ConnectError>() {
        return Some(error.failure());
    }
    #[cfg(feature = "tls")]
    if let Some(error) = error.downcast_ref::<super::TlsError>() {
        return Some(error.failure());
    }
    #[cfg(feature = "tls")]
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(super::rustls::rustls_failure(error));
    }
    None
}
