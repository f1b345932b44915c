//! The body of a response, which holds its connection until it was read.

use super::{
    conn::{ConnHandle, PooledConn},
    state::Loan,
};
use crate::{
    client::send_body::Refusal,
    error::{BodyLengths, BoxError, ClientClosed, IncompleteBody},
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use std::{
    num::NonZeroU64,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

pin_project! {
    /// The body of a response. When it was read or is dropped, others may have its connection.
    #[derive(Debug)]
    pub struct LeasedBody {
        #[pin]
        inner: Incoming,
        // None once its end or an error was returned.
        lease: Option<Lease>,
        refusal: Option<Refusal>,
        // In bytes, where the header declares it and there is content.
        declared_length: Option<NonZeroU64>,
    }

    impl PinnedDrop for LeasedBody {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(lease) = this.lease.take() {
                lease.finish(this.inner.is_end_stream());
            }
        }
    }
}

/// The use of a connection by the reader of a response.
#[derive(Debug)]
enum Lease {
    Own(PooledConn),
    /// Lent to the pool, because the number of connections is limited and this reader may be slow.
    Lent(Arc<ConnHandle>, Loan),
}

impl Lease {
    fn of(conn: PooledConn) -> Self {
        let handle = conn.handle.clone();
        if conn.is_http2() || handle.pool.config.limits.max_per_host.is_none() {
            return Lease::Own(conn);
        }
        let loan = handle.pool.with(|state| state.lend(handle.id, conn));
        Lease::Lent(handle, loan)
    }

    fn is_http2(&self) -> bool {
        matches!(self, Lease::Own(conn) if conn.is_http2())
    }

    fn handle(&self) -> &ConnHandle {
        match self {
            Lease::Own(conn) => &conn.handle,
            Lease::Lent(handle, _) => handle,
        }
    }

    /// Returns the connection; `None` if it was given to another exchange.
    fn into_conn(self) -> Option<PooledConn> {
        match self {
            Lease::Own(conn) => Some(conn),
            Lease::Lent(handle, loan) => handle.pool.with(|state| state.reclaim(handle.id, loan)),
        }
    }

    fn finish(self, was_read: bool) {
        if let Some(conn) = self.into_conn() {
            conn.finish(was_read);
        }
    }
}

impl LeasedBody {
    /// Returns a body that holds its connection.
    pub(super) fn new(
        inner: Incoming,
        conn: PooledConn,
        refusal: Option<Refusal>,
        declared_length: Option<NonZeroU64>,
    ) -> Self {
        LeasedBody { inner, lease: Some(Lease::of(conn)), refusal, declared_length }
    }

    /// Returns a body without a connection: it is at its end, or another protocol follows.
    pub(super) fn detached(inner: Incoming, refusal: Option<Refusal>) -> Self {
        LeasedBody { inner, lease: None, refusal, declared_length: None }
    }

    /// The body was read to its end.
    fn finish(&mut self) {
        self.refusal = None;
        if let Some(lease) = self.lease.take() {
            lease.finish(true);
        }
    }

    /// Returns an error if the body ended before it was complete. hyper treats a stream that is reset with `NO_ERROR`
    /// like one that has ended, although a server may only send that after a complete response (RFC 9113 section 8.1).
    /// A body is complete when all bytes came that its header declares, with or without `END_STREAM`.
    fn cut_off(&self) -> Option<IncompleteBody> {
        let lease = self.lease.as_ref()?;
        let left = self.inner.size_hint();
        let missing = left.lower();
        let declared = self.declared_length.map(NonZeroU64::get).filter(|_| missing > 0);
        let lengths =
            declared.map(|declared| BodyLengths { received: declared.saturating_sub(missing), declared });
        let is_reset = lease.is_http2() && !self.inner.is_end_stream() && left.exact() != Some(0);
        let http2_error = is_reset.then(|| h2::Reason::NO_ERROR.into());
        (lengths.is_some() || is_reset).then_some(IncompleteBody { lengths, http2_error })
    }

    /// Gives the connection up, and returns the error for the reader.
    fn failed(&mut self, error: Option<hyper::Error>) -> Option<BoxError> {
        self.refusal = None;
        let lease = self.lease.take();
        let is_closed = lease.as_ref().is_some_and(|lease| lease.handle().is_failing());
        drop(lease.and_then(Lease::into_conn));
        if is_closed { Some(ClientClosed.into()) } else { error.map(Into::into) }
    }
}

impl Body for LeasedBody {
    type Data = Bytes;
    type Error = BoxError;

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let failed = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if this.inner.is_end_stream() {
                    this.finish();
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            Some(Err(error)) => this.failed(Some(error)),
            // A connection that is torn down may look like one whose response has ended.
            None if this.lease.as_ref().is_some_and(|lease| lease.handle().is_failing()) => this.failed(None),
            None => {
                let cut_off = this.cut_off();
                this.finish();
                cut_off.map(Into::into)
            }
        };
        Poll::Ready(failed.map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
