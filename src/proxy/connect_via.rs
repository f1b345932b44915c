//! Connects to a destination through a proxy: dials the proxy with the inner connector, then asks it for a tunnel.
//!
//! The inner connector knows nothing of proxies. That its dial and its TLS handshake are with a proxy is therefore told
//! by a scope around each of its polls, [`ProxyName::scope`](crate::sink::ProxyName::scope).

use super::{
    Proxy, ProxyStream,
    address::ProxyScheme,
    handshake::{Handshake, HandshakeConfig, Host, ProxyTarget},
    http_connect, socks,
};
use crate::{
    error::{BoxError, ProxyErrorKind, classify},
    sink::{ConnRef, DialRecorder},
};
use http::Uri;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::{Connection, dns::Name};
use std::{
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
};
use tower_service::Service;

/// Connects to the proxy with `inner` and asks it to connect to the destination.
pub(super) async fn connect_via<C, R>(
    inner: C,
    proxy: Proxy,
    forwards: bool,
    destination: Uri,
    resolver: R,
    config: Arc<HandshakeConfig>,
) -> Result<ProxyStream<C::Response>, BoxError>
where
    C: Service<Uri>,
    C::Response: Read + Write + Connection + Unpin,
    C::Error: Into<BoxError>,
    R: Service<Name>,
    R::Response: Iterator<Item = SocketAddr>,
    R::Error: Into<BoxError>,
{
    let target = ProxyTarget::of_uri(&destination);
    let mut target = target.map_err(|(text, why)| proxy.error(&text, ProxyErrorKind::Target(why)))?;
    let dial = match &target.host {
        Host::Name(name) if proxy.scheme() == ProxyScheme::Socks5 => {
            let dial = proxy.name().scope(|| config.sink.dial(|| proxy.authority().as_str().into()));
            let (ip, dial) = look_up(resolver, name, dial, &proxy, &target.text).await?;
            target.host = Host::Address(ip);
            Some(dial)
        }
        _ => None,
    };
    let io = connect_to_proxy(inner, &proxy, dial).await?;
    let conn = ConnRef::of(&io);
    let handshake = Handshake { proxy: &proxy, target: &target, conn: conn.as_ref(), config: &config };
    if io.connected().is_negotiated_h2() {
        return Err(handshake.error(ProxyErrorKind::Http2).into());
    }
    if forwards {
        Ok(ProxyStream::forwarding(io))
    } else if proxy.scheme().is_http() {
        Ok(http_connect::establish(io, &handshake).await?)
    } else {
        Ok(socks::establish(io, &handshake).await?)
    }
}

/// Looks up the destination, for proxies that take only addresses. The lookup is a part of the dial to the proxy.
async fn look_up<R>(
    mut resolver: R,
    name: &str,
    dial: DialRecorder,
    proxy: &Proxy,
    target: &str,
) -> Result<(IpAddr, DialRecorder), BoxError>
where
    R: Service<Name>,
    R::Response: Iterator<Item = SocketAddr>,
    R::Error: Into<BoxError>,
{
    let resolve = async {
        let name: Name = name.parse().map_err(|_| ProxyErrorKind::Target("the name is too long"))?;
        let resolved = async {
            poll_fn(|cx| resolver.poll_ready(cx)).await?;
            resolver.call(name).await
        };
        let mut found = resolved.await.map_err(|error: R::Error| ProxyErrorKind::Resolve(error.into()))?;
        found.next().ok_or(ProxyErrorKind::NoAddress)
    };
    dial.dial().resolve_begin();
    let found = dial.dial().run(resolve).await;
    dial.dial().resolve_end();
    match found {
        Ok(addr) => Ok((addr.ip(), dial)),
        Err(kind) => {
            let error = proxy.error(target, kind);
            dial.failed(|| classify::failure_detail(&error));
            Err(error.into())
        }
    }
}

/// Connects to the proxy. The dial and TLS handshake of the inner connector are recorded as being with the proxy.
///
/// `dial` is the dial that a lookup has begun, which the inner connector is to continue.
async fn connect_to_proxy<C>(
    mut inner: C,
    proxy: &Proxy,
    dial: Option<DialRecorder>,
) -> Result<C::Response, BoxError>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
{
    let call = || inner.call(proxy.uri().clone());
    let (connecting, unused_dial) = match dial {
        Some(dial) => proxy.name().scope_of(dial, call),
        None => (proxy.name().scope(call), None),
    };
    let mut connecting = pin!(connecting);
    let connected =
        poll_fn(|cx| proxy.name().scope(|| connecting.as_mut().poll(cx))).await.map_err(Into::into);
    // The inner connector records no dials: the lookup and the outcome are all that is known of this one.
    match (unused_dial, &connected) {
        (Some(dial), Ok(_)) => dial.established(None),
        (Some(dial), Err(error)) => dial.failed(|| classify::failure_detail(&**error)),
        (None, _) => {}
    }
    connected
}
