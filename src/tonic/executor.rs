//! The executor of a channel, which gives its tasks a context.

use super::task_context::{SharedContext, enter_context, inherited_context};
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// An executor for the tasks of a channel that lets calls find their connection, for
/// [`Endpoint::executor`](::tonic::transport::Endpoint::executor). See the [module](super).
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkExecutor<E = TokioExecutor> {
    inner: E,
}

impl LinkExecutor {
    /// Creates an executor that spawns tasks on the current tokio runtime, as tonic does by default.
    pub fn new() -> Self {
        LinkExecutor::default()
    }
}

impl<E> LinkExecutor<E> {
    /// Creates an executor that spawns tasks with `executor`.
    pub fn over(executor: E) -> Self {
        LinkExecutor { inner: executor }
    }
}

impl<F, E> Executor<F> for LinkExecutor<E>
where
    F: Future<Output = ()>,
    E: Executor<Scope<F>>,
{
    fn execute(&self, task: F) {
        self.inner.execute(Scope { future: Some(task), context: inherited_context() });
    }
}

/// Runs a future with a context of its own, if it makes a connection and starts the tasks of a channel outside of such
/// a task. [`Endpoint::connect_with_connector`](::tonic::transport::Endpoint::connect_with_connector) does, its lazy
/// variant does not.
pub fn scope<F: Future>(future: F) -> Scope<F> {
    Scope { future: Some(future), context: Some(SharedContext::default()) }
}

pin_project! {
    /// A future of a channel with its context. See [`LinkExecutor`] and [`scope`].
    #[derive(Debug)]
    pub struct Scope<F> {
        // None after it was dropped. It is dropped inside the context, too.
        #[pin]
        future: Option<F>,
        // None for the task of a call, which needs none.
        context: Option<SharedContext>,
    }

    impl<F> PinnedDrop for Scope<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _guard = this.context.is_some().then(|| enter_context(this.context));
            this.future.set(None);
        }
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _guard = this.context.is_some().then(|| enter_context(this.context));
        this.future.as_pin_mut().expect("only its drop takes it").poll(cx)
    }
}
