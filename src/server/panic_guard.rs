//! Tells a panic of the user's code from a request that was dropped for another reason.

use crate::{error::FailureDetail, record::Failure, sink::RequestRecorder};

/// Whether code of the user's runs. What is dropped meanwhile was dropped because that panicked.
#[derive(Debug, Default)]
pub(super) struct PanicGuard(bool);

impl PanicGuard {
    #[inline]
    pub(super) fn run<R>(&mut self, work: impl FnOnce() -> R) -> R {
        self.0 = true;
        let result = work();
        self.0 = false;
        result
    }

    #[inline]
    pub(super) fn is_running(&self) -> bool {
        self.0
    }

    /// The end of what was dropped before it had ended.
    pub(super) fn dropped(&self, recorder: &mut RequestRecorder) {
        if self.0 {
            recorder.failed(FailureDetail::new(Failure::ServicePanicked, "the service panicked"));
        } else {
            recorder.given_up();
        }
    }
}
