//! Dials: the group of all records that belong to one ([`group`]), and what writes them.
//!
//! [`recorder`] is for connectors, [`lookup`] for resolvers and for connectors that try each address themselves,
//! [`attempt`] for one TCP handshake, [`shared_nameserver`] for connections to nameservers that lookups share
//! ([`shared_connection`]), and [`foreign_dial`] for connectors of other crates, of which less can be seen.

#[cfg(feature = "resolve")]
pub(super) mod attempt;
#[cfg(feature = "reqwest")]
pub(super) mod foreign_dial;
pub(super) mod group;
#[cfg(feature = "resolve")]
pub(super) mod lookup;
#[cfg(feature = "connect")]
pub(super) mod recorder;
#[cfg(feature = "encrypted-dns")]
pub(super) mod shared_connection;
#[cfg(feature = "encrypted-dns")]
mod shared_nameserver;
