//! Names of the cipher suites in use (IANA, "TLS Cipher Suites").

/// Returns the name of a cipher suite, or its number if it is not listed.
pub(super) fn name(suite: u16) -> String {
    CIPHER_SUITES
        .iter()
        .find(|(number, _)| *number == suite)
        .map_or_else(|| format!("cipher suite 0x{suite:04x}"), |(_, name)| format!("TLS_{name}"))
}

/// Returns the TLS version of a cipher suite, or `TLS` if it is used by several.
pub(super) fn version(suite: u16) -> &'static str {
    if suite >> 8 == 0x13 { "TLSv1.3" } else { "TLS" }
}

const CIPHER_SUITES: &[(u16, &str)] = &[
    (0x1301, "AES_128_GCM_SHA256"),
    (0x1302, "AES_256_GCM_SHA384"),
    (0x1303, "CHACHA20_POLY1305_SHA256"),
    (0x1304, "AES_128_CCM_SHA256"),
    (0x1305, "AES_128_CCM_8_SHA256"),
    (0xc02b, "ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    (0xc02c, "ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    (0xc02f, "ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0xc030, "ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0xcca8, "ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xcca9, "ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xccaa, "DHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xc009, "ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
    (0xc00a, "ECDHE_ECDSA_WITH_AES_256_CBC_SHA"),
    (0xc013, "ECDHE_RSA_WITH_AES_128_CBC_SHA"),
    (0xc014, "ECDHE_RSA_WITH_AES_256_CBC_SHA"),
    (0xc023, "ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"),
    (0xc027, "ECDHE_RSA_WITH_AES_128_CBC_SHA256"),
    (0x009c, "RSA_WITH_AES_128_GCM_SHA256"),
    (0x009d, "RSA_WITH_AES_256_GCM_SHA384"),
    (0x009e, "DHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0x009f, "DHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0x002f, "RSA_WITH_AES_128_CBC_SHA"),
    (0x0035, "RSA_WITH_AES_256_CBC_SHA"),
    (0x003c, "RSA_WITH_AES_128_CBC_SHA256"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_names_and_versions() {
        assert_eq!(name(4865), "TLS_AES_128_GCM_SHA256");
        assert_eq!(name(0xdead), "cipher suite 0xdead");
        assert_eq!((version(0x1301), version(0xc02f)), ("TLSv1.3", "TLS"));
    }
}
