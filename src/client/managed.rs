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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{control::Lease, pool::Limits, tasks::Tasks};
    use hyper::rt::ReadBuf;
    use std::task::Waker;

    /// Has nothing to read, and tells which way it was written to.
    struct Silent(Vec<&'static str>);

    impl Read for Silent {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl Write for Silent {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push("plain");
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.0.push("vectored");
            Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.push("flush");
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.push("shutdown");
            Poll::Ready(Ok(()))
        }
    }

    fn open() -> (Arc<Connections>, ManagedIo<Silent>, Lease) {
        let connections = Connections::new(Limits::default(), Tasks::default());
        let lease = connections.opened(String::new(), None);
        let guard = Guard { control: lease.control().clone(), _permit: None };
        (connections, ManagedIo { inner: Silent(Vec::new()), guard }, lease)
    }

    fn read(io: &mut ManagedIo<Silent>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; 8];
        let mut buf = ReadBuf::new(&mut bytes);
        let read = Pin::new(io).poll_read(&mut Context::from_waker(Waker::noop()), buf.unfilled());
        read.map_ok(|()| buf.filled().len())
    }

    #[test]
    fn calls_pass_through() {
        let (_connections, mut io, _lease) = open();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(io.is_write_vectored());
        let _ = Pin::new(&mut io).poll_write(&mut cx, b"a");
        let both = [IoSlice::new(b"b"), IoSlice::new(b"c")];
        assert!(matches!(Pin::new(&mut io).poll_write_vectored(&mut cx, &both), Poll::Ready(Ok(2))));
        let _ = Pin::new(&mut io).poll_flush(&mut cx);
        let _ = Pin::new(&mut io).poll_shutdown(&mut cx);
        assert_eq!(io.inner.0, ["plain", "vectored", "flush", "shutdown"]);
        assert!(read(&mut io).is_pending());
    }

    #[test]
    fn an_idle_connection_ends_unless_it_is_taken_first() {
        let (connections, mut io, lease) = open();
        connections.close_idle();
        assert!(read(&mut io).is_pending(), "in use by the one that it was made for");
        drop(lease);
        connections.close_idle();
        let taken = Lease::new(io.guard.control.clone());
        assert!(read(&mut io).is_pending(), "an exchange was quicker");
        drop(taken);
        connections.close_idle();
        assert!(matches!(read(&mut io), Poll::Ready(Ok(0))));
        let _late = Lease::new(io.guard.control.clone());
        assert!(matches!(read(&mut io), Poll::Ready(Ok(0))), "what has ended stays so");
    }

    #[test]
    fn an_upgraded_connection_is_never_idle() {
        let (connections, mut io, lease) = open();
        lease.for_good();
        connections.close_idle();
        assert!(read(&mut io).is_pending());
    }

    #[tokio::test]
    async fn a_closed_client_fails_everything() {
        let (connections, mut io, _lease) = open();
        connections.close().await;
        let Poll::Ready(Err(error)) = read(&mut io) else { panic!("an error") };
        assert!(error.get_ref().is_some_and(|error| error.is::<ClientClosed>()));
        let written = Pin::new(&mut io).poll_write(&mut Context::from_waker(Waker::noop()), b"x");
        assert!(matches!(written, Poll::Ready(Err(_))));
        // One that is made at that very moment, too.
        let lease = connections.opened(String::new(), None);
        assert!(lease.client_closed());
    }
}
