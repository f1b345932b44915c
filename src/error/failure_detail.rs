use super::os_text::os_text;
use crate::record::{
    EndReason, Failure, Text,
    limits::{LimitedText, MAX_ERROR_BYTES},
};
use std::{borrow::Cow, num::NonZeroU32};

/// Why something failed: the code, and the text for people.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FailureDetail {
    pub(crate) failure: Failure,
    /// The error code of an HTTP/2 stream or connection (RFC 9113 section 7).
    pub(crate) http2_error: Option<u32>,
    text: DetailText,
}

#[derive(Clone, Debug, PartialEq)]
enum DetailText {
    Words(Cow<'static, str>),
    /// Boxed, as it is rare.
    Cut(Box<LimitedText>),
    /// What the operating system says of this number is asked for when it is read.
    Os(i32),
}

impl FailureDetail {
    /// Allocates nothing for a text of ours. Of a longer text than [`MAX_ERROR_BYTES`] the beginning is kept.
    pub(crate) fn new(failure: Failure, text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        let text = if text.len() <= MAX_ERROR_BYTES {
            DetailText::Words(text)
        } else {
            DetailText::Cut(Box::new(LimitedText::new(String::from(text), MAX_ERROR_BYTES)))
        };
        FailureDetail { failure, http2_error: None, text }
    }

    /// Creates the detail of an error of the operating system, whose text is asked for when it is read.
    pub(super) fn from_os(failure: Failure, number: i32) -> Self {
        FailureDetail { failure, http2_error: None, text: DetailText::Os(number) }
    }

    /// The code, the text, and how many bytes that had if it was cut.
    pub(crate) fn into_parts(self) -> (Failure, Text, Option<NonZeroU32>) {
        let (text, original_bytes) = match self.text {
            DetailText::Words(Cow::Borrowed(words)) => (Text::from_static(words), None),
            DetailText::Words(Cow::Owned(words)) => (words.into(), None),
            DetailText::Cut(cut) => (cut.text().clone(), cut.original_bytes()),
            DetailText::Os(number) => (os_text(number), None),
        };
        (self.failure, text, original_bytes)
    }

    /// The heap memory that it takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let text = match &self.text {
            DetailText::Words(Cow::Owned(text)) => text.capacity(),
            DetailText::Cut(cut) => size_of::<LimitedText>() + cut.heap_bytes(),
            DetailText::Words(Cow::Borrowed(_)) | DetailText::Os(_) => 0,
        };
        text + self.failure.heap_bytes()
    }

    /// How that ends what it happened to, as far as the code tells.
    pub(crate) fn end_reason(&self) -> EndReason {
        match self.failure {
            Failure::GenericTimeoutError => EndReason::Timeout,
            _ => EndReason::Failed,
        }
    }
}
