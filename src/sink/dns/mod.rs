//! DNS messages exchanged with a nameserver: their state ([`record`], [`answers`]) and what writes it ([`recorder`],
//! [`answers_builder`]).

pub(super) mod answers;
#[cfg(feature = "resolve")]
pub(super) mod answers_builder;
#[cfg(feature = "encrypted-dns")]
pub(super) mod carrier;
pub(super) mod encoding;
pub(super) mod record;
#[cfg(feature = "resolve")]
pub(super) mod recorder;
pub(super) mod svcb;
