//! The body of a call, which finds the connection of the call.
//!
//! The task of a connection polls the body of each call that it takes. The body then reads the task's context and links
//! its request to the connection there.

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
    sync::Arc,
    task::{Context, Poll},
};

/// Converts the traced body of a call to the body type of a channel. See [`layer`](super::layer).
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkBody;

impl MapBody<TonicBody> for LinkBody {
    type Body = TonicBody;

    fn map(&self, body: TraceBody<TonicBody>) -> TonicBody {
        match body.pending_request() {
            // `TonicBody::new` asks immediately whether the body is at its end. That must not link it.
            Some(request) => without_context(|| {
                TonicBody::new(LinkedBody { inner: body, pending: Cell::new(Some(request)) })
            }),
            None => body.into_inner(),
        }
    }
}

pin_project! {
    /// The body of a call, with the request until a connection takes the call.
    struct LinkedBody {
        #[pin]
        inner: TraceBody<TonicBody>,
        pending: Cell<Option<PendingRequest>>,
    }

    impl PinnedDrop for LinkedBody {
        /// Links a call that no connection took: its connection was closed by then, or there never was one.
        fn drop(this: Pin<&mut Self>) {
            let Some(request) = this.project().pending.take() else { return };
            with_context(|context| {
                context.dials.iter().for_each(|dial| request.served_by(dial));
                context.conn.iter().filter(|_| context.takes_calls).for_each(|conn| request.queued_on(conn));
            });
        }
    }
}

impl LinkedBody {
    /// Links the call to the connection of the task that polls it, if that is the task of a connection.
    fn on_poll(pending: &Cell<Option<PendingRequest>>) {
        let Some(request) = pending.take() else { return };
        let is_taken = with_context(|context| {
            let Some(conn) = &context.conn else { return false };
            request.taken_by(conn);
            if !context.takes_calls {
                let context = Arc::make_mut(context);
                context.takes_calls = true;
                // The first call is the one that waited for these dials.
                context.dials.drain(..).for_each(|dial| request.served_by(&dial));
            }
            true
        });
        if is_taken != Some(true) {
            pending.set(Some(request));
        }
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
        Self::on_poll(this.pending);
        // The caller's stream may itself make other calls.
        without_context(|| this.inner.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        Self::on_poll(&self.pending);
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Self::on_poll(&self.pending);
        self.inner.size_hint()
    }
}
