//! Frames of HTTP/2.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nettrace_fuzz::{Conn, converse};

fuzz_target!(|bytes: &[u8]| {
    let mut conn = Conn::new();
    conn.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    converse(&mut conn, bytes);
    conn.close();
});
