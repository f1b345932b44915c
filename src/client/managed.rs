//! The outermost connector: waits for its turn, and can be told to close.

use super::{
    control::{Command, Control},
    pool::Connections,
    usage::{Usage, Wish},
};
use crate::{error::ClientClosed, sink::ConnRef};
use futures_util::future::BoxFuture;
use http::{Extensions, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use pin_project_lite::pin_project;
use std::{
    error::Error,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::OwnedSemaphorePermit;
use tower_service::Service;

#[derive(Clone, Debug)]
pub(super) struct Managed<C> {
    inner: C,
    connections: Arc<Connections>,
}

impl<C> Managed<C> {
    pub(super) fn new(inner: C, connections: Arc<Connections>) -> Self {
        Managed { inner, connections }
    }
}

impl<C> Service<Uri> for Managed<C>
where
    C: Service<Uri> + Clone + Send + 'static,
    C::Response: Connection + Send,
    C::Error: Into<Box<dyn Error + Send + Sync>>,
    C::Future: Send,
{
    type Response = ManagedIo<C::Response>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let connections = self.connections.clone();
        let wish = Wish::current();
        Box::pin(async move {
            let connect = async {
                let host = Connections::host_of(&uri);
                let permit = connections.admit(&host, wish.as_deref()).await?;
                let io = inner.call(uri).await.map_err(Into::into)?;
                let mut extras = Extensions::new();
                io.connected().get_extras(&mut extras);
                let lease = connections.opened(host, extras.remove::<ConnRef>());
                let guard = Guard { control: lease.control().clone(), _permit: permit };
                if let Some(wish) = wish {
                    wish.made_one(lease);
                }
                Ok(ManagedIo { inner: io, guard })
            };
            match connections.closed.run_until_cancelled(connect).await {
                Some(result) => result,
                None => Err(ClientClosed.into()),
            }
        })
    }
}

pin_project! {
    #[derive(Debug)]
    pub(super) struct ManagedIo<T> {
        #[pin]
        inner: T,
        guard: Guard,
    }
}

#[derive(Debug)]
struct Guard {
    control: Arc<Control>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.control.gone();
    }
}

/// Our mark in the metadata of a connection. The client clones the metadata at the moment when it has chosen the
/// connection for a request that asks to be told (`capture_connection`): that is how the exchange learns of it in
/// time, whatever happens before its next poll.
#[derive(Debug)]
pub(super) struct PoolRef(Arc<Control>);

impl Clone for PoolRef {
    fn clone(&self) -> Self {
        Usage::chosen(&self.0);
        PoolRef(self.0.clone())
    }
}

impl<T: Connection> Connection for ManagedIo<T> {
    fn connected(&self) -> Connected {
        self.inner.connected().extra(PoolRef(self.guard.control.clone()))
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, ClientClosed)
}

impl<T: Read> Read for ManagedIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        if let Poll::Ready(result) = this.inner.poll_read(cx, buf) {
            return Poll::Ready(result);
        }
        this.guard.control.watch(cx.waker());
        match this.guard.control.command() {
            Command::EndIfIdle if this.guard.control.end_if_idle() => Poll::Ready(Ok(())),
            Command::Run | Command::EndIfIdle => Poll::Pending,
            Command::End => Poll::Ready(Ok(())),
            Command::Fail => Poll::Ready(Err(closed())),
        }
    }
}

impl<T: Write> Write for ManagedIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        match this.guard.control.command() {
            Command::Fail => Poll::Ready(Err(closed())),
            _ => this.inner.poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        match this.guard.control.command() {
            Command::Fail => Poll::Ready(Err(closed())),
            _ => this.inner.poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(cx)
    }
}
