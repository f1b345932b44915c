//! Dialing: from a permit to a connection that requests can be sent over.

use super::{
    Origin, PoolInner,
    conn::{ConnHandle, ConnPermit, PooledConn, PooledIo, TaskGuard},
};
use crate::{
    error::{BoxError, ClientClosed},
    sink::ConnRef,
};
use hyper::rt::Executor;
use hyper_util::client::legacy::connect::Connection;
use std::{future::poll_fn, sync::Arc};
use tokio::{sync::oneshot, time::Instant};
use tower_service::Service;

/// Makes a connection to `origin`.
pub(super) async fn connect(
    pool: Arc<PoolInner>,
    origin: Arc<Origin>,
    permit: ConnPermit,
) -> Result<PooledConn, BoxError> {
    let mut connector = pool.connector.clone();
    poll_fn(|cx| connector.poll_ready(cx)).await?;
    let route = origin.route.clone();
    let connecting = connector.connect_by(origin.uri.clone(), |proxy, uri| proxy.connect_by(route, uri));
    let stream = connecting.await?;
    let conn = ConnRef::of(&stream);
    let connected = stream.connected();
    let is_http2 = origin.is_http2_only || connected.is_negotiated_h2();
    if is_http2 {
        if let Some((conn, _)) = pool.with(|state| state.share(origin.host, Instant::now())) {
            return Ok(conn); // another dial was quicker, and all share its connection
        }
        if let Some(conn) = &conn {
            conn.set_http2();
        }
    }
    let id = permit.id;
    let handle = ConnHandle::new(pool.clone(), id, connected, conn);
    pool.with(|state| state.opened(id, handle.clone()));
    let task = TaskGuard(handle.clone());
    let io = PooledIo::new(stream, handle.clone(), permit);
    // From here on the permit ends with the stream, also if the handshake fails.
    if is_http2 {
        let (mut sender, connection) = pool.http2.handshake(io).await?;
        pool.tasks.execute(async move {
            let _ = connection.await; // its requests fail for the same reason
            drop(task);
        });
        sender.ready().await?;
        let conn = PooledConn::http2(sender, handle);
        let mut own = pool.with(|state| state.connected(id, conn, Instant::now())).ok_or(ClientClosed)?;
        own.is_reused = false;
        Ok(own)
    } else {
        let (mut sender, connection) = pool.http1.handshake(io).await?;
        let (tell, broken) = oneshot::channel();
        pool.tasks.execute(async move {
            if let Err(error) = connection.with_upgrades().await {
                let _ = tell.send(error); // later errors are those of requests
            }
            drop(task);
        });
        match sender.ready().await {
            Ok(()) => {
                let conn = PooledConn::http1(sender, handle);
                pool.with(|state| state.connected(id, conn, Instant::now()))
                    .ok_or_else(|| ClientClosed.into())
            }
            Err(error) if error.is_closed() => Err(broken.await.unwrap_or(error).into()),
            Err(error) => Err(error.into()),
        }
    }
}
