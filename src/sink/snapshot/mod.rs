//! Turns the state of records into the types of [`crate::record`].
//!
//! [`to_record`] converts one record; recorders use it for subscribers, too. [`builder`] puts a trace together, and
//! `stream` writes one.

pub(super) mod address_texts;
pub(super) mod builder;
#[cfg(feature = "json")]
pub(super) mod stream;
pub(super) mod timeline;
pub(super) mod to_record;
