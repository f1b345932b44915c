//! Header fields as the sink's policy asks for them.
//!
//! They are copied when the request or response passes ([`capture`]), and credentials are left out of the copy: what was
//! never recorded cannot get out.

use crate::record::{HttpHeaderField, HttpHeaders, limits::TRUNCATION_MARK};
use http::HeaderName;
use std::{fmt, num::NonZeroU32};

#[cfg(feature = "_record_requests")]
pub(super) mod capture;

/// Header fields as they were, less what may not be held.
#[derive(Default)]
pub(crate) struct CapturedHeaders {
    fields: Vec<(HeaderName, Value)>,
    /// The values that are shown, one after the other. Copies: what was read shares its memory with the whole head,
    /// secrets included, which must not stay for as long as the record does.
    shown: Vec<u8>,
    /// The bytes of all names.
    name_bytes: u32,
    /// How many fields there were before some were left out.
    original_fields: Option<NonZeroU32>,
}

#[derive(Clone, Copy)]
#[cfg_attr(
    not(feature = "_record_requests"),
    expect(dead_code, reason = "read in each set of features, made only where requests are recorded")
)]
enum Value {
    Hidden,
    Length(u32),
    /// The number of bytes of what is shown.
    Shown(u32),
    /// A value that was truncated, with the number of bytes that are shown and that it had.
    Cut {
        shown: u32,
        length: u32,
    },
}

impl CapturedHeaders {
    /// How many fields there were before some were left out.
    pub(in crate::sink) fn original_fields(&self) -> Option<NonZeroU32> {
        self.original_fields
    }

    /// The heap memory that it takes.
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        let fields = self.fields.capacity() * size_of::<(HeaderName, Value)>();
        fields + self.shown.capacity() + self.name_bytes as usize
    }

    pub(crate) fn export(&self) -> HttpHeaders {
        let mut shown = &self.shown[..];
        let fields = self.fields.iter().map(|(name, value)| {
            let (field_val, field_val_len) = match *value {
                Value::Hidden => (String::new(), 0),
                Value::Length(length) => (String::new(), length),
                Value::Shown(length) => {
                    let (value, rest) = shown.split_at(length as usize);
                    shown = rest;
                    (String::from_utf8_lossy(value).into(), length)
                }
                Value::Cut { shown: bytes, length } => {
                    let (value, rest) = shown.split_at(bytes as usize);
                    shown = rest;
                    let mut value = String::from_utf8_lossy(value).into_owned();
                    value.push(TRUNCATION_MARK);
                    (value, length)
                }
            };
            HttpHeaderField { field_name: name.as_str().into(), field_val, field_val_len }
        });
        fields.collect()
    }
}

/// The names alone.
impl fmt::Debug for CapturedHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fields.iter().map(|(name, _)| name)).finish()
    }
}
