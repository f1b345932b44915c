use crate::sink::DialRef;

/// Marks in a dial when resolving begins and, by its drop, when it ends.
pub(super) struct ResolveSpan(DialRef);

impl ResolveSpan {
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
