//! Redirects, by the rules of Go's `http.Client`: which responses are followed, with which method, body, credentials
//! and `Referer`.

use super::{body::Body, url};
use ::url::Url;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request::Parts};

/// The current request of a chain of redirects, as far as it is needed to make the next one.
pub(super) struct Hop {
    parts: Parts,
    /// A copy of the body; `None` if it cannot be sent again.
    body: Option<Body>,
    scope: CredentialScope,
    /// Set by the first redirect.
    first: Option<FirstRequest>,
}

/// Which redirects keep the credentials of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CredentialScope {
    /// Redirects to the first host and its subdomains, on any port and scheme: the rule of Go's `http.Client`.
    Host,
    /// Redirects to the scheme, host and port of the previous request: the rule of reqwest.
    #[cfg(feature = "reqwest")]
    Origin,
}

/// The facts about the first request of a chain that all later ones need.
struct FirstRequest {
    /// Credentials are sent to this host and its subdomains.
    host: String,
    /// Whether the caller has set a `Referer`. Redirects keep it.
    own_referer: bool,
}

/// The header fields that describe a body. They are removed together with it.
const BODY_HEADERS: [&str; 7] = [
    "content-type",
    "content-length",
    "content-encoding",
    "content-language",
    "content-location",
    "transfer-encoding",
    "expect",
];

/// The header fields with credentials. A redirect that leaves the [`CredentialScope`] removes them, and they stay
/// removed for the rest of the chain. As in Go, the list has fields of responses, too.
const CREDENTIAL_HEADERS: [&str; 6] =
    ["authorization", "www-authenticate", "cookie", "cookie2", "proxy-authorization", "proxy-authenticate"];

impl Hop {
    /// Begins a chain of redirects with a copy of its first request.
    pub(super) fn new(request: &Request<Body>, scope: CredentialScope) -> Self {
        let mut parts = Request::new(()).into_parts().0;
        parts.method = request.method().clone();
        parts.uri = request.uri().clone();
        parts.version = request.version();
        parts.headers = request.headers().clone();
        parts.extensions = request.extensions().clone();
        Hop { parts, body: request.body().try_clone(), scope, first: None }
    }

    /// Returns the URI of the current request.
    #[cfg(feature = "reqwest")]
    pub(super) fn uri(&self) -> &Uri {
        &self.parts.uri
    }

    /// Returns the request that the response redirects to; `None` if it is not a redirect that can be followed.
    ///
    /// # Errors
    ///
    /// Returns [`UnusableLocation`] if it is a redirect, but no request can be made to its `Location`.
    pub(super) fn next<B>(
        &mut self,
        response: &Response<B>,
    ) -> Result<Option<Request<Body>>, UnusableLocation> {
        let location = response.headers().get(header::LOCATION).filter(|location| !location.is_empty());
        let Some(location) = location else { return Ok(None) };
        let keeps_body = match response.status() {
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => false,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT if self.body.is_some() => true,
            _ => return Ok(None),
        };
        let to = resolve(&self.parts.uri, location)?;
        let first = self.first.get_or_insert_with(|| FirstRequest {
            host: host(&self.parts.uri),
            own_referer: self.parts.headers.contains_key(header::REFERER),
        });
        let from = std::mem::replace(&mut self.parts.uri, to);
        let (headers, to) = (&mut self.parts.headers, &self.parts.uri);
        if !keeps_body {
            self.body = Some(Body::empty());
            if self.parts.method != Method::HEAD {
                self.parts.method = Method::GET;
            }
            BODY_HEADERS.iter().for_each(|name| drop(headers.remove(*name)));
        }
        let keeps_credentials = match self.scope {
            CredentialScope::Host => same_or_subdomain(&host(to), &first.host),
            #[cfg(feature = "reqwest")]
            CredentialScope::Origin => origin(&from) == origin(to),
        };
        if !keeps_credentials {
            CREDENTIAL_HEADERS.iter().for_each(|name| drop(headers.remove(*name)));
        }
        if from.authority() != to.authority() {
            headers.remove(header::HOST);
        }
        if !first.own_referer {
            set_referer(headers, &from, to);
        }
        let mut request = Request::new(self.body.as_ref().and_then(Body::try_clone).unwrap_or_default());
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = self.parts.uri.clone();
        *request.version_mut() = self.parts.version;
        *request.headers_mut() = self.parts.headers.clone();
        *request.extensions_mut() = self.parts.extensions.clone();
        url::move_user_info(&mut request);
        Ok(Some(request))
    }
}

/// The reason why no request can be made to a `Location`.
#[derive(Debug)]
pub(super) struct UnusableLocation(pub(super) &'static str);

/// Resolves the target of a redirect against the URI that was requested (RFC 9110 section 10.2.2).
fn resolve(from: &Uri, location: &HeaderValue) -> Result<Uri, UnusableLocation> {
    const NO_URL: UnusableLocation = UnusableLocation("its Location is no URL");
    let location = std::str::from_utf8(location.as_bytes()).map_err(|_| NO_URL)?;
    let from = Url::parse(&from.to_string()).map_err(|_| NO_URL)?;
    let mut to = from.join(location).map_err(|_| NO_URL)?;
    to.set_fragment(None);
    if !matches!(to.scheme(), "http" | "https") {
        return Err(UnusableLocation("the scheme of its Location is not http or https"));
    }
    to.as_str().parse().map_err(|_| NO_URL)
}

fn host(uri: &Uri) -> String {
    uri.host().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase()
}

/// Scheme, host and port.
#[cfg(feature = "reqwest")]
fn origin(uri: &Uri) -> (Option<&str>, String, u16) {
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    (uri.scheme_str(), host, uri.port_u16().unwrap_or(default))
}

fn same_or_subdomain(host: &str, domain: &str) -> bool {
    if host == domain {
        return true;
    }
    // An address has no subdomains.
    let is_address = host.contains(':') || domain.parse::<std::net::IpAddr>().is_ok();
    !is_address && host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// Sets the `Referer`, except from https to http (RFC 9110 section 10.1.3).
fn set_referer(headers: &mut HeaderMap, from: &Uri, to: &Uri) {
    headers.remove(header::REFERER);
    if from.scheme_str() == Some("https") && to.scheme_str() == Some("http") {
        return;
    }
    if let Ok(value) = HeaderValue::try_from(crate::sink::without_user_info(from).to_string()) {
        headers.insert(header::REFERER, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(method: Method, uri: &str, body: Body) -> Hop {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("x"));
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Hop::new(&request, CredentialScope::Host)
    }

    fn answer(status: u16, location: &str) -> Response<()> {
        Response::builder().status(status).header(header::LOCATION, location).body(()).unwrap()
    }

    #[test]
    fn redirects_turn_post_into_get_and_keep_head() {
        for status in [301, 302, 303] {
            let next = hop(Method::POST, "http://a.test/x", Body::from("data"))
                .next(&answer(status, "/y"))
                .unwrap()
                .unwrap();
            assert_eq!((next.method(), next.uri().to_string()), (&Method::GET, "http://a.test/y".into()));
            assert!(!next.headers().contains_key(header::CONTENT_TYPE));
            let next = hop(Method::HEAD, "http://a.test/x", Body::empty())
                .next(&answer(status, "/y"))
                .unwrap()
                .unwrap();
            assert_eq!(next.method(), Method::HEAD);
        }
    }

    #[test]
    fn only_a_replayable_body_is_sent_again() {
        let next =
            hop(Method::PUT, "http://a.test/x", Body::from("data")).next(&answer(307, "y")).unwrap().unwrap();
        assert_eq!((next.method(), next.headers().contains_key(header::CONTENT_TYPE)), (&Method::PUT, true));
        let stream = Body::new(http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<http_body::Frame<bytes::Bytes>, std::io::Error>,
        >()));
        assert!(hop(Method::PUT, "http://a.test/x", stream).next(&answer(308, "y")).unwrap().is_none());
    }

    #[test]
    fn credentials_stay_with_the_host_and_its_subdomains() {
        let mut kept = hop(Method::GET, "http://a.test/", Body::empty());
        for (location, is_trusted) in
            [("http://sub.a.test:81/", true), ("http://nota.test/", false), ("http://a.test/", false)]
        {
            let next = kept.next(&answer(302, location)).unwrap().unwrap();
            assert_eq!(next.headers().contains_key(header::AUTHORIZATION), is_trusted, "{location}");
        }
    }

    #[test]
    #[cfg(feature = "reqwest")]
    fn credentials_stay_with_the_origin_by_the_rule_of_reqwest() {
        for (from, to, kept) in [
            ("http://a.test/", "/x", true),
            ("http://a.test/", "http://A.test:80/x", true),
            ("https://a.test:443/", "https://a.test/x", true),
            ("http://a.test/", "http://a.test:81/x", false),
            ("http://a.test:443/", "https://a.test/x", false),
            ("http://a.test/", "http://sub.a.test/x", false),
        ] {
            let mut hop = Hop { scope: CredentialScope::Origin, ..hop(Method::GET, from, Body::empty()) };
            let next = hop.next(&answer(302, to)).unwrap().unwrap();
            assert_eq!(next.headers().contains_key(header::AUTHORIZATION), kept, "{from} {to}");
        }
    }

    #[test]
    fn responses_without_a_usable_location_are_not_followed() {
        let mut hop = hop(Method::GET, "https://a.test/", Body::empty());
        assert!(hop.next(&Response::builder().status(302).body(()).unwrap()).unwrap().is_none());
        assert!(hop.next(&answer(302, "")).unwrap().is_none(), "as in Go and curl");
        assert!(hop.next(&answer(302, "ftp://a.test/")).is_err());
        assert!(hop.next(&answer(302, "http://[bad/")).is_err());
        assert!(hop.next(&answer(304, "/x")).unwrap().is_none());
        assert!(hop.next(&answer(200, "/x")).unwrap().is_none());
        let next = hop.next(&answer(302, "http://a.test/")).unwrap().unwrap();
        assert!(!next.headers().contains_key(header::REFERER), "no Referer from https to http");
    }
}
