//! The body of a call, through which the call learns its connection.

use super::slot::{outside, with_current};
use crate::{
    request::{MapBody, TraceBody},
    sink::PendingRequest,
};
use ::tonic::body::Body as TonicBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
};

/// Gives the traced body of a call the type that a channel takes. See [`layer`](super::layer).
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkBody;

impl MapBody<TonicBody> for LinkBody {
    type Body = TonicBody;

    fn map(&self, body: TraceBody<TonicBody>) -> TonicBody {
        match body.link() {
            // It is asked at once whether it is at its end; by whom says nothing.
            Some(link) => outside(|| TonicBody::new(Linked { inner: body, link: Cell::new(Some(link)) })),
            None => body.into_inner(),
        }
    }
}

pin_project! {
    struct Linked {
        #[pin]
        inner: TraceBody<TonicBody>,
        link: Cell<Option<PendingRequest>>,
    }

    impl PinnedDrop for Linked {
        /// Nobody has taken it: its connection was gone by then, or there never was one.
        fn drop(this: Pin<&mut Self>) {
            let Some(link) = this.project().link.take() else { return };
            with_current(|slot| {
                slot.dials.iter().for_each(|dial| link.served_by(dial));
                slot.conn.iter().filter(|_| slot.takes_calls).for_each(|conn| link.queued_on(conn));
            });
        }
    }
}

impl Linked {
    /// Somebody looks at it: if that is the task of a connection, that takes the call just now.
    fn seen(link: &Cell<Option<PendingRequest>>) {
        with_current(|slot| {
            let Some(conn) = &slot.conn else { return };
            let Some(link) = link.take() else { return };
            slot.takes_calls = true;
            link.taken_by(conn);
            // The first call is the one that has waited for all that.
            slot.dials.drain(..).for_each(|dial| link.served_by(&dial));
        });
    }
}

impl Body for Linked {
    type Data = Bytes;
    type Error = ::tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ::tonic::Status>>> {
        let this = self.project();
        Self::seen(this.link);
        // The caller's own stream may make other calls.
        outside(|| this.inner.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        Self::seen(&self.link);
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Self::seen(&self.link);
        self.inner.size_hint()
    }
}
