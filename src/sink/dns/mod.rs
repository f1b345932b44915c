//! DNS messages exchanged with a nameserver: their state ([`record`], [`answers`]) and what writes it ([`recorder`],
//! [`answers_builder`]).

pub(super) mod answers;
pub(super) mod answers_builder;
pub(super) mod record;
pub(super) mod recorder;
