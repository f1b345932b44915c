//! Copies header fields, as far as they are to be recorded.
//!
//! [`FieldKind`] says what a field may hold, and [`masking`](crate::sink::request::masking) hides it.

use super::{CapturedHeaders, Value};
use crate::{
    record::limits::{self, MAX_HEADER_BYTES, MAX_HEADER_FIELDS},
    sink::{
        config::{ExcludeHeader, HeaderCapture, SinkConfig},
        request::{
            field_kind::FieldKind,
            masking::{mask_in_text, mask_links, mask_reference, mask_refresh, schemes},
        },
    },
};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;
use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
};

impl CapturedHeaders {
    /// Copies what the config ask for. Returns `None` if that is no field.
    #[inline]
    pub(crate) fn take(headers: &HeaderMap, config: &SinkConfig) -> Option<Self> {
        if config.headers == HeaderCapture::Off || headers.is_empty() {
            return None;
        }
        Some(Self::copy(headers, config)).filter(|copied| !copied.fields.is_empty())
    }

    fn copy(headers: &HeaderMap, config: &SinkConfig) -> Self {
        match config.headers {
            HeaderCapture::Off => CapturedHeaders::default(),
            HeaderCapture::Names => Self::copy_with(headers, config, |_, _, _| (Value::Hidden, 0)),
            HeaderCapture::Lengths => {
                let length = |_: &HeaderName, value: &HeaderValue, _| (Value::Length(value.len() as u32), 0);
                Self::copy_with(headers, config, length)
            }
            HeaderCapture::Values => {
                let bytes = headers.values().map(HeaderValue::len).sum::<usize>();
                let mut shown = Vec::with_capacity(bytes.min(MAX_HEADER_BYTES));
                let copied = Self::copy_with(headers, config, |name, value, left| {
                    let before = shown.len();
                    let value =
                        Value::take(name, value, config, &mut shown).limited(before, left, &mut shown);
                    (value, shown.len() - before)
                });
                shown.shrink_to(MAX_HEADER_BYTES);
                CapturedHeaders { shown, ..copied }
            }
        }
    }

    /// Copies the names, with what `value_of` makes of the values. It is given the number of bytes that are left for the
    /// value, and returns how many of them it took.
    #[inline]
    fn copy_with(
        headers: &HeaderMap,
        config: &SinkConfig,
        mut value_of: impl FnMut(&HeaderName, &HeaderValue, usize) -> (Value, usize),
    ) -> Self {
        // An iterator that skips some does not know how many there are, and the list would grow step by step.
        let mut fields = Vec::with_capacity(headers.len().min(MAX_HEADER_FIELDS));
        let excluded = config.exclude_header.as_deref();
        let (mut all, mut name_bytes, mut left) = (0, 0, MAX_HEADER_BYTES);
        for (name, value) in headers {
            if excluded.is_some_and(|ask| is_excluded(ask, name)) {
                continue;
            }
            all += 1;
            let length = name.as_str().len();
            if fields.len() == MAX_HEADER_FIELDS || length > left {
                continue;
            }
            let (value, taken) = value_of(name, value, left - length);
            left -= length + taken;
            name_bytes += length;
            fields.push((name.clone(), value));
        }
        let original_fields = if fields.len() < all { limits::original_size(all) } else { None };
        CapturedHeaders { fields, shown: Vec::new(), name_bytes: name_bytes as u32, original_fields }
    }
}

impl Value {
    /// Adds the value to `shown` as far as it may be held.
    #[inline]
    fn take(name: &HeaderName, value: &HeaderValue, config: &SinkConfig, shown: &mut Vec<u8>) -> Self {
        let kind =
            if config.reveal_headers.contains(name) { FieldKind::Revealed } else { FieldKind::of(name) };
        let text = || String::from_utf8_lossy(value.as_bytes());
        let bytes: Cow<'_, [u8]> = match kind {
            FieldKind::Secret => return Value::Length(value.len() as u32),
            FieldKind::Revealed => value.as_bytes().into(),
            FieldKind::Challenges => schemes(&text()).into_bytes().into(),
            FieldKind::Url => mask_reference(value, config.mask_query),
            FieldKind::Refresh => match mask_refresh(&text(), config.mask_query) {
                Some(masked) => masked.into_bytes().into(),
                None => value.as_bytes().into(),
            },
            FieldKind::Links => mask_links(&text(), config.mask_query).into_bytes().into(),
            FieldKind::Text if memchr(b'@', value.as_bytes()).is_some() => {
                mask_in_text(&text()).into_bytes().into()
            }
            FieldKind::Text => value.as_bytes().into(),
        };
        shown.extend_from_slice(&bytes);
        Value::Shown(bytes.len() as u32)
    }

    /// Returns the value cut to at most `left` bytes of what is shown, which begins at index `at`.
    fn limited(self, at: usize, left: usize, shown: &mut Vec<u8>) -> Self {
        let Value::Shown(length) = self else { return self };
        if length as usize <= left {
            return self;
        }
        // No character is cut in two.
        let is_boundary = |bytes: &usize| shown[at + bytes] & 0xc0 != 0x80;
        let bytes = (0..=left).rev().find(is_boundary).unwrap_or(0);
        shown.truncate(at + bytes);
        if bytes == 0 { Value::Length(length) } else { Value::Cut { shown: bytes as u32, length } }
    }
}

/// Returns `true` if the value of a field of that name may be held elsewhere than among the header fields.
#[cfg(feature = "request")]
pub(in crate::sink) fn is_value_wanted(name: &HeaderName, config: &SinkConfig) -> bool {
    config.headers == HeaderCapture::Values
        && config.exclude_header.as_deref().is_none_or(|ask| !is_excluded(ask, name))
}

fn is_excluded(exclude: &ExcludeHeader, name: &HeaderName) -> bool {
    catch_unwind(AssertUnwindSafe(|| exclude(name))).unwrap_or_else(|_| {
        tracing::warn!(target: "nettrace", "the function that excludes header fields panicked");
        true
    })
}

#[cfg(test)]
mod tests;
