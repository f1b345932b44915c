//! Names from the IANA registry "Transport Layer Security (TLS) Parameters".

use rustls::{NamedGroup, ProtocolVersion};

use crate::record::Text;

/// Returns the name of a version as OpenSSL and Wireshark write it; its code in hexadecimal if it has none.
pub(super) fn version(version: ProtocolVersion) -> Text {
    match version {
        ProtocolVersion::SSLv3 => "SSLv3".into(),
        ProtocolVersion::TLSv1_0 => "TLSv1".into(),
        ProtocolVersion::TLSv1_1 => "TLSv1.1".into(),
        ProtocolVersion::TLSv1_2 => "TLSv1.2".into(),
        ProtocolVersion::TLSv1_3 => "TLSv1.3".into(),
        other => format!("{:#06x}", u16::from(other)).into(),
    }
}

/// Returns the name of a key exchange group in the registry "TLS Supported Groups"; its code in hexadecimal if it has
/// none.
pub(super) fn group(group: NamedGroup) -> Text {
    let name = match group {
        NamedGroup::secp256r1 => "secp256r1",
        NamedGroup::secp384r1 => "secp384r1",
        NamedGroup::secp521r1 => "secp521r1",
        NamedGroup::X25519 => "x25519",
        NamedGroup::X448 => "x448",
        NamedGroup::FFDHE2048 => "ffdhe2048",
        NamedGroup::FFDHE3072 => "ffdhe3072",
        NamedGroup::FFDHE4096 => "ffdhe4096",
        NamedGroup::FFDHE6144 => "ffdhe6144",
        NamedGroup::FFDHE8192 => "ffdhe8192",
        NamedGroup::MLKEM512 => "MLKEM512",
        NamedGroup::MLKEM768 => "MLKEM768",
        NamedGroup::MLKEM1024 => "MLKEM1024",
        NamedGroup::secp256r1MLKEM768 => "SecP256r1MLKEM768",
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        // Registered groups that rustls has no name for.
        other => match u16::from(other) {
            0x001a => "brainpoolP256r1",
            0x001b => "brainpoolP384r1",
            0x001c => "brainpoolP512r1",
            0x001f => "brainpoolP256r1tls13",
            0x0020 => "brainpoolP384r1tls13",
            0x0021 => "brainpoolP512r1tls13",
            0x0029 => "curveSM2",
            0x11ed => "SecP384r1MLKEM1024",
            code => return format!("{code:#06x}").into(),
        },
    };
    name.into()
}

/// Returns an ALPN protocol (RFC 7301) as text. A name that is not UTF-8 is escaped.
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
    fn unknown_names_show_their_code() {
        let (version, group) = (|code: u16| version(code.into()), |code: u16| group(code.into()));
        assert_eq!((version(0x0304), version(0x7f1c)), ("TLSv1.3".into(), "0x7f1c".into()));
        assert_eq!((group(0x001d), group(0x6399)), ("x25519".into(), "0x6399".into()));
        assert_eq!((group(0x11ec), group(0x11ed)), ("X25519MLKEM768".into(), "SecP384r1MLKEM1024".into()));
        assert_eq!((protocol(b"h2"), protocol(b"\xffx")), ("h2".into(), "\\xffx".into()));
    }
}
