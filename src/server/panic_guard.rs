//! Distinguishes a panic of the user's code from other reasons why a request is dropped.

use crate::{error::FailureDetail, record::Failure, sink::RequestRecorder};

/// Tracks whether the user's code is running. If a request is dropped meanwhile, that code panicked.
#[derive(Debug, Default)]
pub(super) struct PanicGuard(bool);

impl PanicGuard {
    #[inline]
    pub(super) fn run<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.0 = true;
        let result = f();
        self.0 = false;
        result
    }

    #[inline]
    pub(super) fn is_running(&self) -> bool {
        self.0
    }

    /// Ends the record of a request that was dropped before it had ended.
    pub(super) fn record_drop(&self, recorder: &mut RequestRecorder) {
        if self.0 {
            recorder.failed(FailureDetail::new(Failure::ServicePanicked, "the service panicked"));
        } else {
            recorder.given_up();
        }
    }
}
