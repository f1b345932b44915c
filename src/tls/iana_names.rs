//! Names of the IANA registry "Transport Layer Security (TLS) Parameters".

use crate::record::Text;

/// As OpenSSL and Wireshark write it.
pub(super) fn version(version: u16) -> Text {
    match version {
        0x0300 => "SSLv3".into(),
        0x0301 => "TLSv1".into(),
        0x0302 => "TLSv1.1".into(),
        0x0303 => "TLSv1.2".into(),
        0x0304 => "TLSv1.3".into(),
        other => format!("{other:#06x}").into(),
    }
}

/// As the registry "TLS Supported Groups" has it.
pub(super) fn group(group: u16) -> Text {
    let name = match group {
        0x0017 => "secp256r1",
        0x0018 => "secp384r1",
        0x0019 => "secp521r1",
        0x001a => "brainpoolP256r1",
        0x001b => "brainpoolP384r1",
        0x001c => "brainpoolP512r1",
        0x001d => "x25519",
        0x001e => "x448",
        0x001f => "brainpoolP256r1tls13",
        0x0020 => "brainpoolP384r1tls13",
        0x0021 => "brainpoolP512r1tls13",
        0x0029 => "curveSM2",
        0x0100 => "ffdhe2048",
        0x0101 => "ffdhe3072",
        0x0102 => "ffdhe4096",
        0x0103 => "ffdhe6144",
        0x0104 => "ffdhe8192",
        0x0200 => "MLKEM512",
        0x0201 => "MLKEM768",
        0x0202 => "MLKEM1024",
        0x11eb => "SecP256r1MLKEM768",
        0x11ec => "X25519MLKEM768",
        0x11ed => "SecP384r1MLKEM1024",
        other => return format!("{other:#06x}").into(),
    };
    name.into()
}

/// An ALPN protocol (RFC 7301) as text; bytes that are no text are shown escaped.
pub(super) fn protocol(name: &[u8]) -> Text {
    match std::str::from_utf8(name) {
        Ok(name) => name.into(),
        Err(_) => name.escape_ascii().to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_ones_show_their_code() {
        assert_eq!((version(0x0304), version(0x7f1c)), ("TLSv1.3".into(), "0x7f1c".into()));
        assert_eq!((group(0x001d), group(0x6399)), ("x25519".into(), "0x6399".into()));
        assert_eq!((protocol(b"h2"), protocol(b"\xffx")), ("h2".into(), "\\xffx".into()));
    }
}
