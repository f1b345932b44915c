//! Finds out the origin of an endpoint's calls.
//!
//! A channel writes scheme and authority into each call below its layers, and an endpoint has no getter for its
//! [`origin`](Endpoint::origin). So one call is made over a pipe in memory and read at the other end. It is polled to
//! completion on the spot: nothing is spawned, and nothing waits.

use super::task_context::without_context;
use crate::sync::IgnorePoison;
use ::tonic::{body::Body as TonicBody, transport::Endpoint};
use futures_util::FutureExt;
use http::{Request, Uri};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use std::{
    future::{poll_fn, ready},
    mem,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};
use tokio::{io::duplex, task::unconstrained};
use tower_service::Service;

/// The maximum number of polls. A call takes about four; one that takes more waits for something.
const MAX_ROUNDS: usize = 32;

/// The capacity of the pipe in each direction in bytes. A call without a body fits.
const PIPE_BYTES: usize = 1 << 16;

/// Returns the origin of the endpoint's calls, or `None` if the endpoint uses tonic's own TLS, which hides it.
///
/// # Panics
///
/// Panics outside of a tokio runtime if the endpoint itself does.
pub(super) fn of_endpoint(endpoint: &Endpoint) -> Option<Uri> {
    if endpoint.uri().scheme_str() != Some("http") {
        return None;
    }
    let named = without_context(|| unconstrained(named(endpoint.clone())).now_or_never())??;
    let (mut parts, named) = (endpoint.uri().clone().into_parts(), named.into_parts());
    (parts.scheme, parts.authority) = (named.scheme, named.authority);
    Uri::from_parts(parts).ok()
}

/// Returns the URI that the other end of the pipe reads. The future is ready when it is first polled.
async fn named(endpoint: Endpoint) -> Option<Uri> {
    let tasks = Tasks::default();
    let (ours, theirs) = duplex(PIPE_BYTES);
    let mut ours = Some(TokioIo::new(ours));
    let connector = tower::service_fn(move |_: Uri| ready(ours.take().ok_or("there is one pipe")));
    let mut channel = endpoint.executor(tasks.clone()).connect_with_connector_lazy(connector);
    let call = async {
        poll_fn(|cx| channel.poll_ready(cx)).await?;
        channel.call(Request::new(TonicBody::empty())).await
    };
    let reading = async {
        let mut conn = h2::server::handshake(theirs).await.ok()?;
        let (request, _) = conn.accept().await?.ok()?;
        Some(request.uri().clone())
    };
    let (mut call, mut reading) = (pin!(call.fuse()), pin!(reading));
    poll_fn(|cx| {
        for _ in 0..MAX_ROUNDS {
            // The outcome does not matter: there is no response.
            let _ = call.as_mut().poll(cx);
            tasks.poll(cx);
            if let Poll::Ready(uri) = reading.as_mut().poll(cx) {
                return Poll::Ready(uri);
            }
        }
        Poll::Ready(None)
    })
    .await
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An executor whose tasks run when they are polled.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<Vec<Task>>>);

impl Tasks {
    fn poll(&self, cx: &mut Context<'_>) {
        // The lock is not held meanwhile, since tasks start other tasks.
        let mut tasks = mem::take(&mut *self.lock());
        tasks.retain_mut(|task| task.as_mut().poll(cx).is_pending());
        self.lock().append(&mut tasks);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Task>> {
        self.0.lock().ignore_poison()
    }
}

impl Executor<Task> for Tasks {
    fn execute(&self, task: Task) {
        self.lock().push(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn the_origin_of_an_endpoint_is_read() {
        let plain = || Endpoint::from_static("http://a.test:1");
        let origin = || plain().origin(Uri::from_static("https://b.test"));
        let busy = |endpoint: Endpoint| {
            endpoint
                .connect_timeout(Duration::MAX)
                .timeout(Duration::from_secs(1))
                .concurrency_limit(1)
                .rate_limit(1, Duration::from_secs(1))
                .http2_keep_alive_interval(Duration::from_secs(1))
                .buffer_size(1)
                .user_agent("me")
                .unwrap()
        };
        for (endpoint, expected) in [
            (plain(), Some("http://a.test:1/")),
            (busy(plain()), Some("http://a.test:1/")),
            (origin(), Some("https://b.test/")),
            (busy(origin()), Some("https://b.test/")),
            // tonic rejects this origin with each call.
            (plain().origin(Uri::from_static("/nowhere")), None),
            (Endpoint::from_static("https://a.test").origin(Uri::from_static("https://b.test")), None),
        ] {
            assert_eq!(of_endpoint(&endpoint).map(|uri| uri.to_string()).as_deref(), expected);
        }
    }
}
