//! Turns what is kept into the records of a trace.

pub(super) mod address_texts;
pub(super) mod builder;
pub(super) mod timeline;
pub(super) mod to_record;
