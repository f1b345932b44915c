//! The causes that are looked for: one rule each.
//!
//! A rule is a function that looks at a [`Case`] and returns a finding if its records prove the cause. To add a cause, write
//! the function in the file of its area, and add it to the list here.

mod dns;
mod http;
mod limits;
mod process;
mod proxy;
mod tcp;
mod tls;

use super::{case::Case, found::Found};

/// A cause that [`explain`](super::explain) can find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cause {
    /// The code: the area, and what is wrong there.
    pub code: &'static str,
    /// What it means, in a sentence.
    pub meaning: &'static str,
}

/// A cause, and how it is found.
pub(super) struct Rule {
    pub(super) cause: Cause,
    pub(super) check: fn(&Case<'_>) -> Option<Found>,
}

/// Lists the causes with the functions that find them.
macro_rules! rules {
    ($( $check:path: $code:literal, $meaning:literal; )+) => {
        /// The causes that can be found.
        pub const CAUSES: &[Cause] = &[$( Cause { code: $code, meaning: $meaning } ),+];

        pub(super) static RULES: &[Rule] =
            &[$( Rule { cause: Cause { code: $code, meaning: $meaning }, check: $check } ),+];
    };
}

rules! {
    process::descriptors_exhausted: "process_descriptors_exhausted", "The process or the system has no file descriptor left.";
    dns::server_silent: "dns_server_silent", "No nameserver answered a query.";
    dns::port_closed: "dns_port_closed", "A nameserver's host refused the query: no nameserver listens there.";
    dns::first_server_dead: "dns_first_server_dead", "A nameserver did not answer, and a later one did.";
    dns::nxdomain: "dns_nxdomain", "The name does not exist.";
    dns::servfail: "dns_servfail", "The nameserver could not find the answer (SERVFAIL).";
    dns::refused: "dns_refused", "The nameserver refuses to answer this client (REFUSED).";
    dns::no_data: "dns_no_data", "The name exists, but has no address.";
    proxy::auth_required: "proxy_auth_required", "The proxy wants credentials, or rejects those that it was sent.";
    tcp::refused: "tcp_refused", "Nothing listens on the port of the peer.";
    tcp::filtered: "tcp_filtered", "Nothing answers the attempt to connect.";
    tls::expired: "tls_expired", "The certificate of the server has expired.";
    http::server_slow: "http_server_slow", "The server took far longer for its response than it usually does, or sent none.";
    limits::timeout_below_normal: "timeout_below_normal", "A time limit is shorter than what the host usually takes.";
    limits::caller_gave_up: "caller_gave_up", "The program gave the request up, or the client of a served one went away.";
    limits::timed_out: "http_timed_out", "A time limit of the client ran out.";
}
