//! Making connections.

use super::{Pool, host::Host, io::PooledIo, permit::ConnPermit, pooled_conn::PooledConn};
use crate::{
    client::request_target::Route,
    connect::TcpConnector,
    error::{BoxError, ClientClosed},
    proxy::ProxyConnector,
    tls::TraceTls,
};
use hyper::rt::Executor;
use hyper_util::client::legacy::connect::Connection;
use std::{future::poll_fn, sync::Arc};
use tokio::sync::oneshot;
use tower_service::Service;

/// What connections are made by: TLS with the server over the way through a proxy, over TLS with the proxy.
pub(in crate::client) type Connector = TraceTls<ProxyConnector<TraceTls<TcpConnector>>>;

/// Makes a connection to the host.
pub(super) async fn connect(
    pool: Arc<Pool>,
    host: Arc<Host>,
    mut place: ConnPermit,
) -> Result<PooledConn, BoxError> {
    let _dial = place.dial();
    let mut connector = pool.connector.clone();
    connector.get_mut().set_route(host.route.proxy().cloned(), matches!(host.route, Route::Tunnel(_)));
    poll_fn(|cx| connector.poll_ready(cx)).await?;
    let stream = connector.call(host.uri.clone()).await?;
    let connected = stream.connected();
    let is_http2 = host.is_http2_only || connected.is_negotiated_h2();
    if is_http2 && let Some(conn) = host.share() {
        return Ok(conn); // another one was quicker, and this one is not needed
    }
    let conn = stream.get_ref().get_ref().get_ref().inner().conn_ref().cloned();
    if let Some(conn) = conn.as_ref().filter(|_| is_http2) {
        conn.set_http2();
    }
    let registered = pool.registry.add(connected, conn);
    let handle = registered.handle.clone();
    // What follows is up to the connection: a failed handshake is its end.
    let io = PooledIo::new(stream, handle.clone(), place.of(handle.clone()));
    if is_http2 {
        let (mut sender, connection) = pool.http2.handshake(io).await?;
        pool.tasks.execute(async move {
            // Its requests fail for the same reason, and say so.
            let _ = connection.await;
            drop(registered);
        });
        sender.ready().await?;
        host.established(sender, handle).ok_or_else(|| ClientClosed.into())
    } else {
        let (mut sender, connection) = pool.http1.handshake(io).await?;
        let (tell, broken) = oneshot::channel();
        pool.tasks.execute(async move {
            if let Err(error) = connection.with_upgrades().await {
                // Of interest only before the first request.
                let _ = tell.send(error);
            }
            drop(registered);
        });
        match sender.ready().await {
            Ok(()) => Ok(PooledConn::http1(sender, handle, host)),
            Err(error) if error.is_closed() => Err(broken.await.unwrap_or(error).into()),
            Err(error) => Err(error.into()),
        }
    }
}
