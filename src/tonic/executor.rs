//! The tasks of a channel.

use super::task_context::{ContextGuard, TaskContext, inherited_context};
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// Runs the tasks of a channel so that calls learn their connection; for
/// [`Endpoint::executor`](::tonic::transport::Endpoint::executor). See the [module](super).
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkExecutor<E = TokioExecutor> {
    inner: E,
}

impl LinkExecutor {
    /// Tasks are spawned on the current tokio runtime, as tonic does by itself.
    pub fn new() -> Self {
        LinkExecutor::default()
    }
}

impl<E> LinkExecutor<E> {
    /// Tasks are spawned by `executor`.
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
        self.inner.execute(Scope { future: Some(task), context: Some(inherited_context()) });
    }
}

/// Makes a connection and starts the tasks of a channel outside of such a task:
/// [`Endpoint::connect_with_connector`](::tonic::transport::Endpoint::connect_with_connector) does, unlike its lazy
/// sister.
pub fn scope<F: Future>(future: F) -> Scope<F> {
    Scope { future: Some(future), context: Some(TaskContext::default()) }
}

pin_project! {
    /// A future of a channel's. See [`LinkExecutor`] and [`scope`].
    #[derive(Debug)]
    pub struct Scope<F> {
        // None once it was dropped: what it holds is a matter of the task as well.
        #[pin]
        future: Option<F>,
        context: Option<TaskContext>,
    }

    impl<F> PinnedDrop for Scope<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _guard = ContextGuard::enter(this.context);
            this.future.set(None);
        }
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _guard = ContextGuard::enter(this.context);
        this.future.as_pin_mut().expect("only its drop takes it").poll(cx)
    }
}
