//! The messages of SOCKS5 (RFC 1928), encoded and decoded without I/O.

use crate::{error::ProxyErrorKind, proxy::handshake::Host};
use std::net::IpAddr;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_PASS: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;
const USER_PASS_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
const SUCCEEDED: u8 = 0;

/// The reply to a correct user name and password (RFC 1929 section 2). Any other second byte rejects them.
pub(super) const USER_PASS_ACCEPTED: [u8; 2] = [USER_PASS_VERSION, 0];

/// The length of a reply up to the first byte of its address: VER, REP, RSV, ATYP and that byte.
pub(super) const REPLY_HEAD_LEN: usize = 5;

/// Returns the first message, which offers authentication methods: with user name and password only if there are any.
pub(super) fn greeting(with_login: bool) -> &'static [u8] {
    if with_login { &[VERSION, 2, NO_AUTHENTICATION, USER_PASS] } else { &[VERSION, 1, NO_AUTHENTICATION] }
}

/// The authentication method that the proxy has chosen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AuthMethod {
    None,
    UserPass,
    Unacceptable,
}

impl AuthMethod {
    pub(super) fn read([version, method]: [u8; 2]) -> Result<Self, ProxyErrorKind> {
        match (version, method) {
            (VERSION, NO_AUTHENTICATION) => Ok(AuthMethod::None),
            (VERSION, USER_PASS) => Ok(AuthMethod::UserPass),
            (VERSION, NONE_ACCEPTABLE) => Ok(AuthMethod::Unacceptable),
            (VERSION, _) => {
                Err(ProxyErrorKind::SocksProtocol("it chose a method of authentication that was not offered"))
            }
            _ => Err(ProxyErrorKind::SocksProtocol("its first byte is not the version 5")),
        }
    }
}

/// Returns the message with user name and password (RFC 1929 section 2).
pub(super) fn user_pass(user: &str, password: &str) -> Result<Vec<u8>, ProxyErrorKind> {
    let mut message = vec![USER_PASS_VERSION];
    for text in [user, password] {
        message.push(length(text, "a user name or password is longer than 255 bytes")?);
        message.extend_from_slice(text.as_bytes());
    }
    Ok(message)
}

/// Returns the request to connect to the host (RFC 1928 section 4).
pub(super) fn request(host: &Host, port: u16) -> Result<Vec<u8>, ProxyErrorKind> {
    let mut message = vec![VERSION, CONNECT, 0];
    match host {
        Host::Address(IpAddr::V4(ip)) => {
            message.push(IPV4);
            message.extend(ip.octets());
        }
        Host::Address(IpAddr::V6(ip)) => {
            message.push(IPV6);
            message.extend(ip.octets());
        }
        Host::Name(name) => {
            message.extend([NAME, length(name, "its name is longer than 255 bytes")?]);
            message.extend_from_slice(name.as_bytes());
        }
    }
    message.extend(port.to_be_bytes());
    Ok(message)
}

/// Returns how many bytes of the reply are still to come.
///
/// # Errors
///
/// When the reply says that there is no connection, or is invalid.
pub(super) fn reply_tail_len(
    [version, reply, _, kind, first]: [u8; REPLY_HEAD_LEN],
) -> Result<usize, ProxyErrorKind> {
    const PORT: usize = 2;
    if version != VERSION {
        return Err(ProxyErrorKind::SocksProtocol("its reply does not begin with the version 5"));
    }
    if reply != SUCCEEDED {
        return Err(ProxyErrorKind::SocksReply(reply));
    }
    match kind {
        IPV4 => Ok(3 + PORT),
        IPV6 => Ok(15 + PORT),
        NAME => Ok(usize::from(first) + PORT),
        _ => Err(ProxyErrorKind::SocksProtocol("its reply has an address of no known type")),
    }
}

fn length(text: &str, too_long: &'static str) -> Result<u8, ProxyErrorKind> {
    u8::try_from(text.len()).map_err(|_| ProxyErrorKind::Target(too_long))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_encoded() {
        let v4 = request(&Host::Address("192.0.2.1".parse().unwrap()), 443).unwrap();
        assert_eq!(v4, [5, 1, 0, 1, 192, 0, 2, 1, 1, 187]);
        let v6 = request(&Host::Address("::1".parse().unwrap()), 80).unwrap();
        assert_eq!((&v6[..4], v6.len(), &v6[19..]), (&[5, 1, 0, 4][..], 22, &[1, 0, 80][..]));
        let name = request(&Host::Name("a.test".into()), 80).unwrap();
        assert_eq!(name, [&[5, 1, 0, 3, 6][..], b"a.test", &[0, 80]].concat());
        assert!(request(&Host::Name("x".repeat(256)), 80).is_err());
    }

    #[test]
    fn authentication_is_encoded_and_parsed() {
        assert_eq!(greeting(false), [5, 1, 0]);
        assert_eq!(greeting(true), [5, 2, 0, 2]);
        assert_eq!(user_pass("joe", "").unwrap(), [&[1, 3][..], b"joe", &[0]].concat());
        assert!(user_pass("joe", &"x".repeat(256)).is_err());
        assert_eq!(AuthMethod::read([5, 0]).unwrap(), AuthMethod::None);
        assert_eq!(AuthMethod::read([5, 2]).unwrap(), AuthMethod::UserPass);
        assert_eq!(AuthMethod::read([5, 255]).unwrap(), AuthMethod::Unacceptable);
        assert!(matches!(AuthMethod::read([5, 1]), Err(ProxyErrorKind::SocksProtocol(_))));
        assert!(matches!(AuthMethod::read(*b"HT"), Err(ProxyErrorKind::SocksProtocol(_))));
    }

    #[test]
    fn replies_are_parsed() {
        assert_eq!(reply_tail_len([5, 0, 0, 1, 9]).unwrap(), 5);
        assert_eq!(reply_tail_len([5, 0, 0, 4, 9]).unwrap(), 17);
        assert_eq!(reply_tail_len([5, 0, 0, 3, 9]).unwrap(), 11);
        assert!(matches!(reply_tail_len([5, 5, 0, 1, 0]), Err(ProxyErrorKind::SocksReply(5))));
        assert!(matches!(reply_tail_len([5, 0, 0, 2, 0]), Err(ProxyErrorKind::SocksProtocol(_))));
        assert!(matches!(reply_tail_len(*b"HTTP/"), Err(ProxyErrorKind::SocksProtocol(_))));
    }
}
