//! What the integration tests stand on.

// Every test binary compiles all of this and uses a part of it.
#![allow(dead_code)]

pub mod pki;
