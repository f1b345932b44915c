//! The error of a name lookup.

#[cfg(feature = "encrypted-dns")]
use std::sync::Arc;
use std::{error::Error, fmt, io, net::SocketAddr};

#[cfg(feature = "encrypted-dns")]
use http::StatusCode;

use super::NoRuntime;
#[cfg(feature = "encrypted-dns")]
use super::TlsError;
use crate::nameserver::Nameserver;

/// An error returned when a lookup finds no address.
///
/// If several names and nameservers were tried, this is the outcome for the name without search domains at the last
/// nameserver. The trace has all others.
#[derive(Debug)]
pub struct ResolveError {
    pub(super) inner: Box<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    name: String,
    pub(super) error: LookupError,
}

/// Response codes of DNS messages (RFC 1035 section 4.1.1).
pub(crate) mod rcode {
    pub(crate) const NO_ERROR: u16 = 0;
    pub(crate) const FORMAT_ERROR: u16 = 1;
    pub(crate) const SERVER_FAILURE: u16 = 2;
    pub(crate) const NAME_ERROR: u16 = 3;
    pub(crate) const NOT_IMPLEMENTED: u16 = 4;
    pub(crate) const REFUSED: u16 = 5;
}

/// The error of a lookup, with the nameserver that caused it.
#[derive(Debug)]
pub(crate) struct LookupError {
    pub(crate) kind: ResolveErrorKind,
    pub(crate) nameserver: Option<Nameserver>,
}

#[derive(Debug)]
pub(crate) enum ResolveErrorKind {
    InvalidName(&'static str),
    /// A name that must not be looked up in the DNS.
    Withheld,
    NoSuchHost,
    NoData,
    /// The response code.
    Server(u16),
    LameReferral,
    Timeout {
        /// The reason why the last reply within the timeout was ignored.
        ignored: Option<String>,
    },
    Io(io::Error),
    /// A malformed reply over TCP, where no other reply can follow.
    BadReply(String),
    NoNameservers,
    NoRuntime(NoRuntime),
    /// No nameserver was asked, because the program wanted each of them to be skipped.
    Skipped(Vec<(SocketAddr, String)>),
    /// The program wanted all addresses of this nameserver's name to be skipped.
    #[cfg(feature = "encrypted-dns")]
    AddressesSkipped(Vec<(SocketAddr, String)>),
    /// The name of the nameserver itself could not be looked up.
    #[cfg(feature = "encrypted-dns")]
    Unresolved(Arc<ResolveError>),
    /// The TLS handshake with the nameserver failed.
    #[cfg(feature = "encrypted-dns")]
    Tls(Arc<TlsError>),
    /// The HTTP request to the nameserver failed, with the text of the error and its sources.
    #[cfg(feature = "encrypted-dns")]
    Http(Arc<hyper::Error>, String),
    /// The nameserver answered with this HTTP status.
    #[cfg(feature = "encrypted-dns")]
    HttpStatus(StatusCode),
    /// The nameserver answered with this content type; empty for none.
    #[cfg(feature = "encrypted-dns")]
    ContentType(String),
    /// The nameserver did not choose HTTP/2.
    #[cfg(feature = "encrypted-dns")]
    NoHttp2,
    /// The query was sent on a connection that had carried others, and that ended before the reply.
    #[cfg(feature = "encrypted-dns")]
    ReusedConnection(Box<ResolveErrorKind>),
}

#[cfg(feature = "encrypted-dns")]
impl ResolveErrorKind {
    /// Returns `true` if the connection was reused and ended before the reply. A nameserver closes idle connections
    /// (RFC 7858 section 3.4), maybe at the same moment.
    pub(crate) fn is_of_reused_connection(&self) -> bool {
        matches!(self, Self::ReusedConnection(_))
    }

    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unresolved(error) => Some(&**error),
            Self::Tls(error) => Some(&**error),
            Self::Http(error, _) => Some(&**error),
            Self::ReusedConnection(kind) => kind.source(),
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl ResolveError {
    pub(crate) fn new(name: &str, error: LookupError) -> Self {
        Self { inner: Box::new(Inner { name: name.to_owned(), error }) }
    }

    /// Returns the name as it was requested, without a search domain.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the address of the nameserver that the error came from. `None` if none was queried, or if it is
    /// configured by name; see [`server`](Self::server).
    pub fn nameserver(&self) -> Option<SocketAddr> {
        self.server()?.addr()
    }

    /// Returns the nameserver that the error came from, or `None` if none was queried.
    pub fn server(&self) -> Option<&Nameserver> {
        self.inner.error.nameserver.as_ref()
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, error } = &*self.inner;
        write!(f, "lookup {}", name.escape_debug())?;
        if let Some(nameserver) = &error.nameserver {
            write!(f, " on {}", nameserver.masked())?;
        }
        write!(f, ": {}", error.kind)
    }
}

impl Error for ResolveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.inner.error.kind {
            ResolveErrorKind::Io(error) => Some(error),
            #[cfg(feature = "encrypted-dns")]
            kind => kind.source(),
            #[cfg(not(feature = "encrypted-dns"))]
            _ => None,
        }
    }
}

impl fmt::Display for ResolveErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName(why) => write!(f, "invalid name: {why}"),
            Self::Withheld => {
                f.write_str("no such host: .onion names are not looked up in the DNS (RFC 7686)")
            }
            Self::NoSuchHost => f.write_str("no such host"),
            Self::NoData => f.write_str("the name has no address"),
            Self::Server(rcode::FORMAT_ERROR) => f.write_str("the server does not understand (FORMERR)"),
            Self::Server(rcode::SERVER_FAILURE) => f.write_str("the server failed (SERVFAIL)"),
            Self::Server(rcode::NOT_IMPLEMENTED) => f.write_str("the server cannot do that (NOTIMP)"),
            Self::Server(rcode::REFUSED) => f.write_str("the server refused (REFUSED)"),
            Self::Server(code) => write!(f, "the server answered with response code {code}"),
            Self::LameReferral => f.write_str("lame referral: the server neither knows nor would ask"),
            Self::Timeout { ignored: None } => f.write_str("timed out"),
            Self::Timeout { ignored: Some(why) } => write!(f, "timed out (a reply was ignored: {why})"),
            Self::Io(error) => error.fmt(f),
            Self::BadReply(why) => write!(f, "bad reply: {why}"),
            Self::NoNameservers => f.write_str("no nameservers are configured"),
            Self::NoRuntime(error) => error.fmt(f),
            Self::Skipped(skipped) => {
                f.write_str("all nameservers were skipped")?;
                write_reasons(f, skipped)
            }
            #[cfg(feature = "encrypted-dns")]
            Self::AddressesSkipped(skipped) => {
                f.write_str("all addresses of the nameserver were skipped")?;
                write_reasons(f, skipped)
            }
            #[cfg(feature = "encrypted-dns")]
            Self::Unresolved(error) => write!(f, "the nameserver's own name has no address: {error}"),
            #[cfg(feature = "encrypted-dns")]
            Self::Tls(error) => write!(f, "{error}: {}", TlsError::cause(error)),
            #[cfg(feature = "encrypted-dns")]
            Self::Http(_, text) => f.write_str(text),
            #[cfg(feature = "encrypted-dns")]
            Self::HttpStatus(status) => write!(f, "the server answered with HTTP status {status}"),
            #[cfg(feature = "encrypted-dns")]
            Self::ContentType(found) => write!(
                f,
                "the server answered with the content type {found:?}, not application/dns-message; \
                 is the path of the URL right?"
            ),
            #[cfg(feature = "encrypted-dns")]
            Self::NoHttp2 => f.write_str("the server does not speak HTTP/2, which DNS over HTTPS needs"),
            #[cfg(feature = "encrypted-dns")]
            Self::ReusedConnection(kind) => write!(f, "{kind} (on a reused connection)"),
        }
    }
}

/// Writes why each address was skipped, in parentheses.
fn write_reasons(f: &mut fmt::Formatter<'_>, skipped: &[(SocketAddr, String)]) -> fmt::Result {
    f.write_str(" (")?;
    for (index, (nameserver, reason)) in skipped.iter().enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        write!(f, "{separator}{nameserver}: {reason}")?;
    }
    f.write_str(")")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ResolveErrorKind) -> ResolveError {
        ResolveError::new("web.test", LookupError { kind, nameserver: Some("10.0.0.1".parse().unwrap()) })
    }

    #[test]
    fn texts_name_the_host_and_the_nameservers() {
        assert_eq!(
            error(ResolveErrorKind::NoSuchHost).to_string(),
            "lookup web.test on 10.0.0.1:53: no such host"
        );
        let refused = error(ResolveErrorKind::Io(io::ErrorKind::ConnectionRefused.into()));
        assert_eq!(refused.to_string(), "lookup web.test on 10.0.0.1:53: connection refused");
        assert!(refused.source().is_some());
        let skipped = [("10.0.0.1:53", "no route"), ("10.0.0.2:53", "wrong port")];
        let skipped = skipped.map(|(server, why)| (server.parse().unwrap(), why.to_owned())).to_vec();
        let error = LookupError { kind: ResolveErrorKind::Skipped(skipped), nameserver: None };
        assert_eq!(
            ResolveError::new("a\nb", error).to_string(),
            "lookup a\\nb: all nameservers were skipped (10.0.0.1:53: no route; 10.0.0.2:53: wrong port)"
        );
    }

    #[test]
    fn each_kind_has_a_code() {
        let codes = [
            (ResolveErrorKind::NoSuchHost, "dns_nxdomain_error"),
            (ResolveErrorKind::Withheld, "dns_nxdomain_error"),
            (ResolveErrorKind::NoData, "dns_no_answer"),
            (ResolveErrorKind::Server(2), "dns_servfail_error"),
            (ResolveErrorKind::Server(5), "dns_refused_error"),
            (ResolveErrorKind::Server(1), "dns_server_misbehaving"),
            (ResolveErrorKind::Server(4), "dns_server_misbehaving"),
            (ResolveErrorKind::Server(23), "dns_server_misbehaving"),
            (ResolveErrorKind::Timeout { ignored: None }, "generic_timeout_error"),
            (ResolveErrorKind::Io(io::ErrorKind::ConnectionRefused.into()), "connection_refused"),
            (ResolveErrorKind::Skipped(Vec::new()), "x_nameservers_skipped"),
            (ResolveErrorKind::InvalidName("odd"), "x_dns_invalid_name"),
        ];
        for (kind, code) in codes {
            assert_eq!(error(kind).failure().as_str(), code);
        }
    }

    #[cfg(feature = "encrypted-dns")]
    #[test]
    fn each_kind_of_encrypted_nameservers_has_a_code_and_a_source() {
        use ResolveErrorKind as Kind;

        let refused = || Kind::Io(io::ErrorKind::ConnectionRefused.into());
        let tls = TlsError::config("no cryptography", None);
        for (kind, code, has_source) in [
            (Kind::AddressesSkipped(Vec::new()), "x_nameservers_skipped", false),
            (Kind::Unresolved(Arc::new(error(Kind::NoSuchHost))), "x_nameserver_unresolved", true),
            (Kind::Tls(Arc::new(tls)), "x_tls_configuration", true),
            (Kind::HttpStatus(StatusCode::NOT_FOUND), "x_dns_http_status", false),
            (Kind::ContentType("text/html".into()), "x_dns_http_content_type", false),
            (Kind::NoHttp2, "x_http_protocol_error", false),
            (Kind::ReusedConnection(Box::new(refused())), "connection_refused", true),
        ] {
            let error = error(kind);
            assert_eq!(error.failure().as_str(), code, "{error}");
            assert_eq!(error.source().is_some(), has_source, "{error}");
        }
        let error = error(Kind::ContentType("a\u{1b}[1m".into())).to_string();
        assert!(error.contains("\\u{1b}"), "escaped before it reaches a terminal: {error}");
    }
}
