//! [`RecordedUrl`]: the URL of a request, masked and within its limit.

#[cfg(feature = "_record_requests")]
use super::masking::mask_uri;
#[cfg(feature = "_record_requests")]
use crate::record::limits::MAX_URL_BYTES;
use crate::{
    record::{Text, limits::LimitedText},
    url_authority::url_authority,
};
use http::Uri;
use std::num::NonZeroU32;

/// The URL of a request as far as it is kept, without what is masked.
#[derive(Debug, PartialEq)]
#[cfg_attr(
    not(feature = "_record_requests"),
    expect(dead_code, reason = "read in each set of features, made only where requests are recorded")
)]
pub(crate) enum RecordedUrl {
    Whole(Uri),
    /// The beginning of a URL that is too long.
    Cut(LimitedText),
}

impl RecordedUrl {
    #[cfg(feature = "_record_requests")]
    #[inline]
    pub(in crate::sink) fn new(uri: &Uri, mask_query: bool) -> Self {
        let uri = mask_uri(uri, mask_query);
        if bytes(&uri) <= MAX_URL_BYTES || text(&uri).len() <= MAX_URL_BYTES {
            RecordedUrl::Whole(uri)
        } else {
            Self::cut(&uri)
        }
    }

    #[cfg(feature = "_record_requests")]
    #[cold]
    fn cut(uri: &Uri) -> Self {
        RecordedUrl::Cut(LimitedText::new(text(uri), MAX_URL_BYTES))
    }

    /// Returns the URL as it is displayed.
    pub(in crate::sink) fn text(&self) -> Text {
        match self {
            RecordedUrl::Whole(uri) => text(uri),
            RecordedUrl::Cut(cut) => cut.text().clone(),
        }
    }

    /// Returns the host and port, without user info.
    pub(super) fn host(&self) -> &str {
        match self {
            RecordedUrl::Whole(uri) => {
                let authority = uri.authority().map_or("", |authority| authority.as_str());
                // An evicted request is counted by its host, so this is a simple loop: a search takes six times as long.
                let user_info_end = authority.bytes().rposition(|byte| byte == b'@');
                &authority[user_info_end.map_or(0, |end| end + 1)..]
            }
            RecordedUrl::Cut(cut) => url_authority(cut.text()),
        }
    }

    /// Returns how many bytes the URL had, if it was cut.
    pub(in crate::sink) fn original_bytes(&self) -> Option<NonZeroU32> {
        match self {
            RecordedUrl::Whole(_) => None,
            RecordedUrl::Cut(cut) => cut.original_bytes(),
        }
    }

    /// Returns the heap memory that the URL takes.
    #[inline]
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        match self {
            RecordedUrl::Whole(uri) => bytes(uri),
            RecordedUrl::Cut(cut) => cut.heap_bytes(),
        }
    }
}

/// Returns the length of the URL in bytes, rounded up: whatever its scheme, that of the longest one is counted.
#[inline]
fn bytes(uri: &Uri) -> usize {
    /// The `http` crate accepts schemes of up to 64 bytes.
    const MAX_SCHEME_BYTES: usize = 64 + "://".len();
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    MAX_SCHEME_BYTES + authority + path
}

fn parts(uri: &Uri) -> [&str; 5] {
    let (scheme, after) = match uri.scheme_str() {
        Some("http") => ("http://", ""),
        Some("https") => ("https://", ""),
        Some(other) => (other, "://"),
        None => ("", ""),
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let root = if path.starts_with('?') { "/" } else { "" };
    [scheme, after, authority, root, path]
}

fn text(uri: &Uri) -> Text {
    Text::concat(parts(uri))
}

#[cfg(all(test, feature = "_record_requests"))]
mod tests {
    use super::*;

    #[test]
    fn urls_have_the_text_of_their_display() {
        for uri in [
            "http://a.test",
            "http://a.test/",
            "https://a.test:8443/a/b?c=d&e",
            "http://a.test?c",
            "https://[::1]:1/?",
            "ftp://a.test/b",
            "a.test",
            "a.test:80",
            "/a?b",
            "/",
            "*",
            "http://***@a.test/?***",
        ] {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(text(&uri), uri.to_string());
        }
        assert_eq!(text(&Uri::default()), "/");
    }

    #[test]
    fn long_urls_are_truncated() {
        let uri = |length: usize| Uri::try_from(format!("/{}", "a".repeat(length - 1))).unwrap();
        let whole = RecordedUrl::new(&uri(MAX_URL_BYTES), false);
        assert_eq!((whole.text().len(), whole.original_bytes()), (MAX_URL_BYTES, None));
        let cut = RecordedUrl::new(&uri(MAX_URL_BYTES + 1), false);
        assert_eq!(cut.text().strip_suffix('…').map(str::len), Some(MAX_URL_BYTES));
        assert_eq!(cut.original_bytes().map(NonZeroU32::get), Some(8_193));
        assert_eq!(size_of::<RecordedUrl>(), size_of::<Uri>());
    }
}
