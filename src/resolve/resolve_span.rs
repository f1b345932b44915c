use crate::sink::DialRef;

/// The time that a dial spends resolving a name: recorded as begun when it is created, as ended when it is dropped.
pub(super) struct ResolveSpan(DialRef);

impl ResolveSpan {
    /// Records that resolving begins.
    pub(super) fn begin(dial: DialRef) -> Self {
        dial.resolve_begin();
        Self(dial)
    }

    pub(super) fn dial(&self) -> &DialRef {
        &self.0
    }
}

impl Drop for ResolveSpan {
    fn drop(&mut self) {
        self.0.resolve_end();
    }
}
