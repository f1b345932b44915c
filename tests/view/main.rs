//! The waterfall, drawn from stored and generated traces.

mod conns;
mod dials;
mod fixture;
mod growth;
mod layout;
mod proxies;
mod stored;
mod table;
mod untrusted;
