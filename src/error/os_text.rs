//! A cache of the operating system's error texts.

use crate::record::Text;
use std::{io, sync::OnceLock};

/// The number of cached texts. Linux has error numbers up to 133.
const CACHED_NUMBERS: usize = 256;

/// Returns the text of an error number of the operating system.
///
/// Each text is requested once, since `strerror_r` takes a lock and looks for a translation: without the cache, a
/// quarter of the time of a snapshot of refused connections.
pub(super) fn os_text(number: i32) -> Text {
    static TEXTS: [OnceLock<Box<str>>; CACHED_NUMBERS] = [const { OnceLock::new() }; CACHED_NUMBERS];

    let ask = || io::Error::from_raw_os_error(number).to_string();
    match usize::try_from(number).ok().and_then(|number| TEXTS.get(number)) {
        Some(text) => Text::from_static(text.get_or_init(|| ask().into())),
        None => ask().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_same_as_in_the_standard_library() {
        for number in [0, 1, 111, 111, 255, 256, 100_000, i32::MAX, -1, i32::MIN] {
            assert_eq!(os_text(number), io::Error::from_raw_os_error(number).to_string());
        }
    }
}
