//! The server's name: from a URI's host to what a certificate is checked against and what the ClientHello carries.

use std::sync::Arc;

use rustls::pki_types::ServerName;

use crate::{
    error::TlsError,
    record::{Failure, Text},
};

/// Reads a host as certificates have it, which is without the brackets of an IPv6 address.
///
/// # Errors
///
/// When the host is neither an IP address nor a DNS name.
pub(super) fn parse(host: &str) -> Result<ServerName<'static>, TlsError> {
    let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(name.to_owned()).map_err(|error| {
        TlsError::unusable(
            Failure::InvalidTarget,
            format!("{host:?} is no name of a TLS server"),
            Some(Arc::new(error)),
        )
    })
}

/// Returns the name that a ClientHello carries (RFC 6066 §3), which has no final dot; empty for an IP address.
pub(super) fn sni(name: &ServerName<'_>) -> Text {
    match name {
        ServerName::DnsName(name) => name.as_ref().trim_end_matches('.').into(),
        _ => Text::EMPTY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_become_server_names() {
        for (host, name) in
            [("web.test", "web.test"), ("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("a_b.", "a_b")]
        {
            assert_eq!(parse(host).unwrap().to_str(), name);
        }
        for host in ["", "[", "[]", "a b", "-", "..", "[web"] {
            assert_eq!(parse(host).unwrap_err().failure(), Failure::InvalidTarget, "{host}");
        }
    }
}
