//! Tests of the package in `tests/support`: a network or server that lies would make every other test worthless.

mod hosts;
mod leftovers;
mod scripts;
mod servers;
mod witnesses;

/// A certificate for `localhost` and the slow site, its own authority, and its key; in PEM.
fn certificate() -> (String, String) {
    let names = ["localhost", test_support::slow::Slow::HOST].map(String::from);
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}
