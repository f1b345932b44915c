//! [`ServedRequest`]: the request that is being answered, kept for work in other tasks.

use super::record::RequestRef;
use crate::sink::context::{self, RequestScope};

/// The request that was being answered on creation. `None` if there was none, or it is not recorded.
#[derive(Debug)]
pub(crate) struct ServedRequest(Option<RequestRef>);

impl ServedRequest {
    pub(crate) fn current() -> Self {
        ServedRequest(context::served_request())
    }

    /// Makes it the request that is being answered while the guard exists.
    #[inline]
    pub(crate) fn enter(&mut self) -> RequestScope<'_> {
        RequestScope::enter_served(&mut self.0)
    }
}
