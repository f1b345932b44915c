//! Errors of rustls: how to find one, its code and its readable text.

mod alert_name;
mod failure_code;
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
mod readable_error;
mod readable_text;

use std::{error, io};

use rustls::{CertificateError, Error};

#[cfg(any(feature = "relay", feature = "server"))]
pub(crate) use self::failure_code::server_failure;
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub(crate) use self::readable_error::ReadableError;
pub(crate) use self::{alert_name::alert_name, failure_code::rustls_failure, readable_text::text};

/// Returns the error of rustls that `error` is or contains: tokio-rustls puts it into an I/O error, and hyper-rustls
/// that into another one.
pub(crate) fn find_rustls_error<'a>(error: &'a (dyn error::Error + 'static)) -> Option<&'a Error> {
    match error.downcast_ref::<io::Error>() {
        Some(error) => find_rustls_error(error.get_ref()?),
        None => error.downcast_ref(),
    }
}

/// Returns `true` if webpki rejects a certificate because it has `CA:TRUE`. This check precedes the search for an
/// issuer, so it does not tell whether the certificate is trusted.
pub(crate) fn is_ca_as_end_entity(error: &CertificateError) -> bool {
    // The type belongs to a private dependency of rustls. Its text is the name of the variant.
    matches!(error, CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity")
}
