//! A nameserver as it is configured: its address or name, and how it is asked.
//!
//! The type is here because records of dials and errors of lookups name the nameserver, too.

use std::{error::Error, fmt, net::SocketAddr, str::FromStr};
#[cfg(feature = "encrypted-dns")]
use std::{net::IpAddr, sync::Arc};

#[cfg(feature = "encrypted-dns")]
use http::uri::PathAndQuery;

use crate::user_info::without_user_info;

const DNS_PORT: u16 = 53;
const TLS_PREFIX: &str = "tls://";
const HTTPS_PREFIX: &str = "https://";

/// A nameserver, and how it is asked.
///
/// | text | transport |
/// |---|---|
/// | `192.0.2.1`, `192.0.2.1:53`, `2001:db8::1`, `[2001:db8::1]:53` | UDP, and TCP for long replies; port 53 |
/// | `tls://192.0.2.1#dns.example`, `tls://192.0.2.1:853#dns.example` | TLS (RFC 7858), port 853; the certificate must be valid for the name after `#` |
/// | `tls://192.0.2.1` | TLS; the certificate must be valid for the address |
/// | `tls://dns.example` | TLS; the address of the name is looked up first, in plain text, with the other configured nameservers, or the system's if there are none |
/// | `https://dns.example/dns-query`, `https://192.0.2.1/dns-query` | HTTPS (RFC 8484) |
///
/// The last four rows need the feature `encrypted-dns`. A nameserver that is asked over TLS or HTTPS is never asked in
/// plain text instead.
///
/// # Examples
///
/// ```
/// use nettrace::resolve::Nameserver;
///
/// let plain: Nameserver = "192.0.2.1".parse()?;
/// assert_eq!(plain.to_string(), "192.0.2.1:53");
/// assert_eq!(plain.addr(), Some("192.0.2.1:53".parse()?));
/// assert!("192.0.2.1/24".parse::<Nameserver>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Nameserver(pub(crate) NameserverKind);

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum NameserverKind {
    /// Asked over UDP, and over TCP for replies that do not fit.
    Plain(SocketAddr),
    #[cfg(feature = "encrypted-dns")]
    Encrypted(Arc<EncryptedNameserver>),
}

/// A nameserver that is asked over TLS or HTTPS.
#[cfg(feature = "encrypted-dns")]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct EncryptedNameserver {
    pub(crate) host: NameserverHost,
    pub(crate) port: u16,
    /// The name or address that the certificate must be valid for.
    pub(crate) server_name: String,
    pub(crate) protocol: EncryptedProtocol,
}

#[cfg(feature = "encrypted-dns")]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum NameserverHost {
    Addr(IpAddr),
    /// A name, whose address is looked up before the nameserver is asked.
    Name(String),
}

#[cfg(feature = "encrypted-dns")]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum EncryptedProtocol {
    Tls,
    /// HTTPS with this path.
    Https(PathAndQuery),
}

impl Nameserver {
    /// Returns the address; `None` if it must be looked up first.
    pub fn addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            NameserverKind::Plain(addr) => Some(*addr),
            #[cfg(feature = "encrypted-dns")]
            NameserverKind::Encrypted(server) => server.addr(),
        }
    }

    /// Returns the text for errors and records: without the query of a URL, which may have a token.
    pub(crate) fn masked(&self) -> Masked<'_> {
        Masked(self)
    }

    /// Returns `true` if the nameserver is asked over TLS or HTTPS.
    pub fn is_encrypted(&self) -> bool {
        !matches!(self.0, NameserverKind::Plain(_))
    }
}

impl From<SocketAddr> for Nameserver {
    /// Returns a nameserver that is asked over UDP and TCP.
    fn from(addr: SocketAddr) -> Self {
        Nameserver(NameserverKind::Plain(addr))
    }
}

impl PartialEq<SocketAddr> for Nameserver {
    /// Returns `true` for a nameserver that is asked over UDP and TCP at this address.
    fn eq(&self, addr: &SocketAddr) -> bool {
        matches!(&self.0, NameserverKind::Plain(own) if own == addr)
    }
}

impl FromStr for Nameserver {
    type Err = InvalidNameserver;

    fn from_str(text: &str) -> Result<Self, InvalidNameserver> {
        let parsed = match (strip_scheme(text, TLS_PREFIX), strip_scheme(text, HTTPS_PREFIX)) {
            (Some(rest), _) => encrypted::parse_tls(rest),
            (_, Some(rest)) => encrypted::parse_https(rest),
            (None, None) => parse_plain(text),
        };
        parsed.map_err(|why| InvalidNameserver { text: without_user_info(text), why })
    }
}

impl fmt::Display for Nameserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            NameserverKind::Plain(addr) => addr.fmt(f),
            #[cfg(feature = "encrypted-dns")]
            NameserverKind::Encrypted(server) => server.write(f, false),
        }
    }
}

/// A nameserver that is written without the query of its URL; returned by [`Nameserver::masked`].
pub(crate) struct Masked<'a>(&'a Nameserver);

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.0 {
            NameserverKind::Plain(addr) => addr.fmt(f),
            #[cfg(feature = "encrypted-dns")]
            NameserverKind::Encrypted(server) => server.write(f, true),
        }
    }
}

impl fmt::Debug for Nameserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nameserver({})", self.masked())
    }
}

/// An error returned when a string cannot be parsed as a [`Nameserver`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidNameserver {
    text: String,
    why: &'static str,
}

impl fmt::Display for InvalidNameserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nameserver {:?}: {}", self.text, self.why)
    }
}

impl Error for InvalidNameserver {}

/// Returns the text after the prefix, which may be in capitals.
fn strip_scheme<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (scheme, rest) = text.split_at_checked(prefix.len())?;
    scheme.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn parse_plain(text: &str) -> Result<Nameserver, &'static str> {
    let ip = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let addr = match ip.parse() {
        Ok(ip) => SocketAddr::new(ip, DNS_PORT),
        Err(_) if text.contains("://") => {
            return Err("unknown scheme; write an address, tls://… or https://…");
        }
        Err(_) => text.parse().map_err(
            |_| "not an address; write 192.0.2.1, 192.0.2.1:53, [2001:db8::1]:53, tls://… or https://…",
        )?,
    };
    Ok(addr.into())
}

#[cfg(not(feature = "encrypted-dns"))]
mod encrypted {
    use super::Nameserver;

    const WHY: &str = "encrypted nameservers need the feature `encrypted-dns` of nettrace";

    pub(super) fn parse_tls(_: &str) -> Result<Nameserver, &'static str> {
        Err(WHY)
    }

    pub(super) fn parse_https(_: &str) -> Result<Nameserver, &'static str> {
        Err(WHY)
    }
}

#[cfg(feature = "encrypted-dns")]
mod encrypted {
    use std::{fmt, net::SocketAddr, sync::Arc};

    use http::uri::PathAndQuery;

    use super::{
        EncryptedNameserver, EncryptedProtocol, HTTPS_PREFIX, Nameserver, NameserverHost, NameserverKind,
        TLS_PREFIX,
    };

    const TLS_PORT: u16 = 853;
    const HTTPS_PORT: u16 = 443;
    /// The variable of a URI template (RFC 8484 section 3), which POST does not use.
    const TEMPLATE_VARIABLE: &str = "{?dns}";

    type Parsed<T> = Result<T, &'static str>;

    /// Parses the text after `tls://`.
    pub(super) fn parse_tls(text: &str) -> Parsed<Nameserver> {
        let (authority, name) = match text.split_once('#') {
            Some((authority, name)) => (authority, Some(name)),
            None => (text, None),
        };
        if authority.contains(['/', '?']) {
            return Err("tls:// takes no path; write tls://192.0.2.1#name, or https://… for DNS over HTTPS");
        }
        let (host, port) = parse_authority(authority, TLS_PORT)?;
        let server_name = match name {
            Some(name) if is_host(name) => name.to_owned(),
            Some(_) => return Err("no host name after '#'; write the name in the server's certificate"),
            None => host.to_string(),
        };
        Ok(EncryptedNameserver { host, port, server_name, protocol: EncryptedProtocol::Tls }.into())
    }

    /// Parses the text after `https://`.
    pub(super) fn parse_https(text: &str) -> Parsed<Nameserver> {
        let text = text.strip_suffix(TEMPLATE_VARIABLE).unwrap_or(text);
        if text.contains('#') {
            return Err("the URL must not have a fragment ('#...')");
        }
        let Some(slash) = text.find(['/', '?']).filter(|at| text[*at..].starts_with('/')) else {
            return Err("the path is missing; it is usually /dns-query");
        };
        let (host, port) = parse_authority(&text[..slash], HTTPS_PORT)?;
        let path = PathAndQuery::try_from(&text[slash..]).map_err(|_| "the path is not that of a URL")?;
        let server_name = host.to_string();
        Ok(EncryptedNameserver { host, port, server_name, protocol: EncryptedProtocol::Https(path) }.into())
    }

    /// Parses `host` or `host:port`.
    fn parse_authority(text: &str, default_port: u16) -> Parsed<(NameserverHost, u16)> {
        if text.contains('@') {
            return Err("user names and passwords are not supported");
        }
        let (host, port) = match text.rsplit_once(':') {
            // The colons of an IPv6 address are in brackets, except where there is no port.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().ok().filter(|port| *port != 0).ok_or("no port number after ':'")?)
            }
            _ => (text, default_port),
        };
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match literal.parse() {
            Ok(addr) => Ok((NameserverHost::Addr(addr), port)),
            Err(_) if is_host(host) => Ok((NameserverHost::Name(host.to_owned()), port)),
            Err(_) => Err("neither an address nor a host name; write tls://192.0.2.1#name, tls://name or \
                           https://name/dns-query"),
        }
    }

    /// Returns `true` for an address and for what can be a host name in a certificate.
    fn is_host(text: &str) -> bool {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let name = text.strip_suffix('.').unwrap_or(text);
        text.parse::<std::net::IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(is_label))
    }

    impl From<EncryptedNameserver> for Nameserver {
        fn from(server: EncryptedNameserver) -> Self {
            Nameserver(NameserverKind::Encrypted(Arc::new(server)))
        }
    }

    impl EncryptedNameserver {
        /// Returns the address; `None` if it must be looked up first.
        pub(crate) fn addr(&self) -> Option<SocketAddr> {
            match self.host {
                NameserverHost::Addr(ip) => Some(SocketAddr::new(ip, self.port)),
                NameserverHost::Name(_) => None,
            }
        }

        /// Returns `host:port`.
        pub(crate) fn authority(&self) -> String {
            match &self.host {
                NameserverHost::Addr(ip) => SocketAddr::new(*ip, self.port).to_string(),
                NameserverHost::Name(name) => format!("{name}:{}", self.port),
            }
        }

        /// Returns the authority of the URL: `host`, or `host:port` if it is not the default port.
        pub(crate) fn url_authority(&self) -> String {
            let default_port = match self.protocol {
                EncryptedProtocol::Tls => TLS_PORT,
                EncryptedProtocol::Https(_) => HTTPS_PORT,
            };
            match &self.host {
                _ if self.port != default_port => self.authority(),
                NameserverHost::Addr(ip) if ip.is_ipv6() => format!("[{ip}]"),
                host => host.to_string(),
            }
        }

        /// Writes the nameserver as it is configured, with `***` instead of the query of a URL if that is masked.
        pub(super) fn write(&self, f: &mut fmt::Formatter<'_>, is_masked: bool) -> fmt::Result {
            let scheme = match self.protocol {
                EncryptedProtocol::Tls => TLS_PREFIX,
                EncryptedProtocol::Https(_) => HTTPS_PREFIX,
            };
            write!(f, "{scheme}{}", self.url_authority())?;
            match &self.protocol {
                EncryptedProtocol::Https(path) if is_masked && path.query().is_some() => {
                    write!(f, "{}?***", path.path())
                }
                EncryptedProtocol::Https(path) => write!(f, "{path}"),
                EncryptedProtocol::Tls if self.server_name == self.host.to_string() => Ok(()),
                EncryptedProtocol::Tls => write!(f, "#{}", self.server_name),
            }
        }
    }

    impl fmt::Display for NameserverHost {
        /// Writes the host as a certificate has it: an IPv6 address without brackets.
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                NameserverHost::Addr(ip) => ip.fmt(f),
                NameserverHost::Name(name) => f.write_str(name),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Nameserver {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(text: &str) -> String {
        text.parse::<Nameserver>().expect_err(text).to_string()
    }

    #[test]
    fn plain_addresses_get_the_default_port() {
        for (text, addr) in [
            ("192.0.2.1", "192.0.2.1:53"),
            ("192.0.2.1:5353", "192.0.2.1:5353"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]", "[2001:db8::1]:53"),
            ("[2001:db8::1]:54", "[2001:db8::1]:54"),
            ("[fe80::1%3]:53", "[fe80::1%3]:53"),
        ] {
            assert_eq!(parse(text), addr.parse::<SocketAddr>().unwrap());
            assert_eq!(parse(text).to_string(), addr);
            assert!(!parse(text).is_encrypted());
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        for text in ["", "dns.example", "192.0.2.1/24", "[dns.example]", "192.0.2.1:99999"] {
            assert!(error(text).contains("not an address; write 192.0.2.1, 192.0.2.1:53"), "{text}");
        }
        assert!(error("http://dns.example/dns-query").contains("unknown scheme"));
        assert!(error("udp://me:secret@192.0.2.1").starts_with("nameserver \"udp://***@192.0.2.1\""));
    }

    #[cfg(not(feature = "encrypted-dns"))]
    #[test]
    fn encrypted_nameservers_need_a_feature() {
        for text in ["tls://192.0.2.1", "https://dns.example/dns-query"] {
            assert!(error(text).contains("need the feature `encrypted-dns`"), "{text}");
        }
    }

    #[cfg(feature = "encrypted-dns")]
    #[test]
    fn encrypted_nameservers_are_read_and_written() {
        for (text, canonical, addr, server_name) in [
            ("tls://192.0.2.1#dns.example", "", "192.0.2.1:853", "dns.example"),
            (
                "tls://192.0.2.1:853#dns.example",
                "tls://192.0.2.1#dns.example",
                "192.0.2.1:853",
                "dns.example",
            ),
            ("TLS://192.0.2.1:8853", "tls://192.0.2.1:8853", "192.0.2.1:8853", "192.0.2.1"),
            ("tls://[2001:db8::1]#a.b.", "", "[2001:db8::1]:853", "a.b."),
            ("tls://2001:db8::1", "tls://[2001:db8::1]", "[2001:db8::1]:853", "2001:db8::1"),
            ("tls://dns.example", "", "", "dns.example"),
            ("tls://dns.example:8853#other.example", "", "", "other.example"),
            ("https://dns.example/dns-query", "", "", "dns.example"),
            ("https://dns.example:443/q{?dns}", "https://dns.example/q", "", "dns.example"),
            ("https://192.0.2.1/dns-query?a=b", "", "192.0.2.1:443", "192.0.2.1"),
            ("https://[2001:db8::1]:8443/", "", "[2001:db8::1]:8443", "2001:db8::1"),
        ] {
            let server = parse(text);
            assert_eq!(server.to_string(), if canonical.is_empty() { text } else { canonical });
            assert_eq!(parse(&server.to_string()), server);
            assert_eq!(server.addr().map(|addr| addr.to_string()).unwrap_or_default(), addr);
            let NameserverKind::Encrypted(encrypted) = &server.0 else { panic!("{text} is plain") };
            assert_eq!(encrypted.server_name, server_name);
        }
    }

    #[cfg(feature = "encrypted-dns")]
    #[test]
    fn the_authority_of_a_url_has_no_default_port() {
        for (text, url_authority, authority) in [
            ("https://dns.example/q", "dns.example", "dns.example:443"),
            ("https://dns.example:853/q", "dns.example:853", "dns.example:853"),
            ("https://[2001:db8::1]/q", "[2001:db8::1]", "[2001:db8::1]:443"),
            ("https://192.0.2.1:8443/q", "192.0.2.1:8443", "192.0.2.1:8443"),
        ] {
            let NameserverKind::Encrypted(server) = parse(text).0 else { panic!("{text} is plain") };
            assert_eq!(
                (server.url_authority(), server.authority()),
                (url_authority.into(), authority.into())
            );
        }
    }

    #[cfg(feature = "encrypted-dns")]
    #[test]
    fn unusable_urls_are_refused() {
        for (text, why) in [
            ("tls://", "neither an address nor a host name"),
            ("tls://a b", "neither an address nor a host name"),
            ("tls://192.0.2.1#", "no host name after '#'"),
            ("tls://192.0.2.1#a b", "no host name after '#'"),
            ("tls://192.0.2.1:0", "no port number"),
            ("tls://192.0.2.1:x", "no port number"),
            ("tls://192.0.2.1/dns-query", "takes no path"),
            ("https://dns.example", "/dns-query"),
            ("https://dns.example?x", "/dns-query"),
            ("https://dns.example/#name", "must not have a fragment"),
            ("https:///dns-query", "neither an address nor a host name"),
            ("https://me:secret@dns.example/dns-query", "passwords are not supported"),
        ] {
            let error = error(text);
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
