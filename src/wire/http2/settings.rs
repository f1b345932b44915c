//! Parses the values of SETTINGS frames.

use crate::record::Http2Settings;

/// Takes over the values of a SETTINGS frame (RFC 9113 section 6.5.1). Unknown ones are ignored.
pub(super) fn apply(payload: &[u8], settings: &mut Http2Settings) {
    for setting in payload.chunks_exact(6) {
        let &[id0, id1, v0, v1, v2, v3] = setting else { continue };
        let value = Some(u32::from_be_bytes([v0, v1, v2, v3]));
        match u16::from_be_bytes([id0, id1]) {
            0x1 => settings.header_table_size = value,
            0x3 => settings.max_concurrent_streams = value,
            0x4 => settings.initial_window_size = value,
            0x5 => settings.max_frame_size = value,
            0x6 => settings.max_header_list_size = value,
            _ => {}
        }
    }
}
