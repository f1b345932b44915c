//! Messages of HTTP/1, and anything else that is no HTTP/2.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nettrace_fuzz::{Conn, converse};

fuzz_target!(|bytes: &[u8]| {
    let mut conn = Conn::new();
    converse(&mut conn, bytes);
    conn.close();
});
