use crate::sink::DialRef;

/// Marks in a dial when resolving begins and, by its drop, when it ends.
pub(super) struct Resolving(DialRef);

impl Resolving {
    pub(super) fn begin(dial: DialRef) -> Self {
        dial.resolve_begin();
        Self(dial)
    }

    pub(super) fn dial(&self) -> &DialRef {
        &self.0
    }
}

impl Drop for Resolving {
    fn drop(&mut self) {
        self.0.resolve_end();
    }
}
