//! Tests of the package in `tests/support`: a network or server that misbehaves would invalidate every other test.

mod hosts;
mod leftovers;
mod observers;
mod scripts;
mod servers;
mod traces;

/// Returns a self-signed certificate for `localhost` and the slow site, and its key, in PEM.
fn certificate() -> (String, String) {
    let names = ["localhost", test_support::slow::Slow::HOST].map(String::from);
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}
