//! Compressed fields of HTTP/2: each piece of the input is the block of a request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nettrace_fuzz::Conn;

fuzz_target!(|bytes: &[u8]| {
    let mut conn = Conn::new();
    conn.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    for (i, block) in bytes.split(|byte| *byte == 0xfe).enumerate() {
        // GET, and what the input makes of it.
        let block = [&[0x82], block].concat();
        let (length, stream) = ((block.len() as u32).to_be_bytes(), (2 * i as u32 + 1).to_be_bytes());
        conn.send(&[&length[1..], &[1, 5], &stream, &block].concat());
    }
    conn.close();
});
