//! The error codes of HTTP/2.

use std::borrow::Cow;

/// Returns the name of an error code (RFC 9113 section 7). A code without a name is written in hexadecimal.
pub(crate) fn http2_error_name(code: u32) -> Cow<'static, str> {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    name.map_or_else(|| format!("{code:#x}").into(), |name| Cow::Borrowed(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_of_the_rfc() {
        for (code, name) in [
            (0x0, "NO_ERROR"),
            (0x7, "REFUSED_STREAM"),
            (0x8, "CANCEL"),
            (0xb, "ENHANCE_YOUR_CALM"),
            (0xd, "HTTP_1_1_REQUIRED"),
            (0xe, "0xe"),
            (0x1f, "0x1f"),
            (u32::MAX, "0xffffffff"),
        ] {
            assert_eq!(http2_error_name(code), name);
        }
    }
}
