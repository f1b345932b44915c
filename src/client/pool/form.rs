//! The form in which a request goes out (RFC 9112 section 3.2), and what it must be like for that.

use super::{
    Outgoing,
    host::{Host, Key},
    link::Link,
};
use crate::error::InvalidRequest;
use http::{
    Method, Request, Uri, Version, header,
    uri::{Parts, PathAndQuery, Scheme},
};

/// What connections for the request are shared by.
pub(super) fn key<B>(request: &mut Request<B>) -> Result<Key, InvalidRequest> {
    let connects = request.method() == Method::CONNECT;
    match request.version() {
        Version::HTTP_10 if connects => return Err(InvalidRequest("HTTP/1.0 has no CONNECT")),
        Version::HTTP_10 | Version::HTTP_11 | Version::HTTP_2 => {}
        _ => return Err(InvalidRequest("its version of HTTP is not spoken here")),
    }
    let uri = request.uri();
    match (uri.scheme(), uri.authority()) {
        (Some(scheme), Some(authority)) => Ok((scheme.clone(), authority.clone())),
        (None, Some(authority)) if connects => {
            let is_https = authority.port_u16() == Some(443);
            let key = (if is_https { Scheme::HTTPS } else { Scheme::HTTP }, authority.clone());
            let mut parts = Parts::default();
            (parts.scheme, parts.authority) = (Some(key.0.clone()), Some(key.1.clone()));
            parts.path_and_query = Some(PathAndQuery::from_static("/"));
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
            Ok(key)
        }
        _ => Err(InvalidRequest("its URL has no scheme and host")),
    }
}

/// The request as it was before [`fit`]: another connection may speak another version.
pub(super) fn unfit(request: &mut Request<Outgoing>, host: &Host) {
    let mut parts = host.uri.clone().into_parts();
    parts.path_and_query = request.uri().path_and_query().cloned().or(parts.path_and_query);
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

/// Over HTTP/1 the host is named in a field of its own, and the target is shorter than the URL.
pub(super) fn fit(request: &mut Request<Outgoing>, link: &Link) -> Result<(), InvalidRequest> {
    if link.is_http2() {
        return Ok(());
    }
    if request.version() == Version::HTTP_2 {
        return Err(InvalidRequest("it is one of HTTP/2, and the connection speaks HTTP/1"));
    }
    let host = link.host.header.as_ref().ok_or(InvalidRequest("its host cannot be sent"))?;
    request.headers_mut().entry(header::HOST).or_insert_with(|| host.clone());
    let mut parts = Parts::default();
    if request.method() == Method::CONNECT {
        parts.authority = request.uri().authority().cloned();
    } else if link.control.connected.is_proxied() {
        return Ok(()); // a proxy is told all of it
    } else {
        parts.path_and_query = request.uri().path_and_query().cloned();
    }
    // Without a path it is the root.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    Ok(())
}
