//! The body of a call, through which the call learns its connection.

use super::task_context::{with_context, without_context};
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
            Some(link) => {
                without_context(|| TonicBody::new(LinkedBody { inner: body, link: Cell::new(Some(link)) }))
            }
            None => body.into_inner(),
        }
    }
}

pin_project! {
    struct LinkedBody {
        #[pin]
        inner: TraceBody<TonicBody>,
        link: Cell<Option<PendingRequest>>,
    }

    impl PinnedDrop for LinkedBody {
        /// Nobody has taken it: its connection was gone by then, or there never was one.
        fn drop(this: Pin<&mut Self>) {
            let Some(link) = this.project().link.take() else { return };
            with_context(|context| {
                context.dials.iter().for_each(|dial| link.served_by(dial));
                context.conn.iter().filter(|_| context.takes_calls).for_each(|conn| link.queued_on(conn));
            });
        }
    }
}

impl LinkedBody {
    /// Somebody looks at it: if that is the task of a connection, that takes the call just now.
    fn on_poll(link: &Cell<Option<PendingRequest>>) {
        with_context(|context| {
            let Some(conn) = &context.conn else { return };
            let Some(link) = link.take() else { return };
            context.takes_calls = true;
            link.taken_by(conn);
            // The first call is the one that has waited for all that.
            context.dials.drain(..).for_each(|dial| link.served_by(&dial));
        });
    }
}

impl Body for LinkedBody {
    type Data = Bytes;
    type Error = ::tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ::tonic::Status>>> {
        let this = self.project();
        Self::on_poll(this.link);
        // The caller's own stream may make other calls.
        without_context(|| this.inner.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        Self::on_poll(&self.link);
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Self::on_poll(&self.link);
        self.inner.size_hint()
    }
}
