//! [`FailureDetail`]: the code and the text of an error, as a record keeps them.
//!
//! Errors themselves are not kept, since they hold connections and user types. A detail is made when a record ends. Its
//! text is read only by a snapshot, so an error number of the operating system is kept as a number until then.

#[cfg(feature = "_record_conns")]
use super::os_text::os_text;
#[cfg(any(feature = "connect", feature = "request"))]
use crate::record::EndReason;
#[cfg(any(loom, feature = "_record"))]
use crate::record::limits::MAX_ERROR_BYTES;
use crate::record::{Failure, Text, limits::LimitedText};
use std::{borrow::Cow, num::NonZeroU32};

/// Why something failed: a code for programs and a text for people.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FailureDetail {
    pub(crate) failure: Failure,
    /// The error code of an HTTP/2 stream or connection (RFC 9113 section 7).
    pub(crate) http2_error: Option<u32>,
    text: DetailText,
}

#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    not(any(loom, feature = "_record")),
    expect(dead_code, reason = "read in each set of features, made only where something is recorded")
)]
enum DetailText {
    Words(Cow<'static, str>),
    /// Boxed, since few texts are cut.
    Cut(Box<LimitedText>),
    /// An error number of the operating system. Its text is looked up when it is read.
    #[cfg(feature = "_record_conns")]
    Os(i32),
}

impl FailureDetail {
    /// Creates a detail. Does not allocate for a static text. A text of more than [`MAX_ERROR_BYTES`] is cut.
    #[cfg(any(loom, feature = "_record"))]
    pub(crate) fn new(failure: Failure, text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        let text = if text.len() <= MAX_ERROR_BYTES {
            DetailText::Words(text)
        } else {
            DetailText::Cut(Box::new(LimitedText::new(String::from(text), MAX_ERROR_BYTES)))
        };
        FailureDetail { failure, http2_error: None, text }
    }

    /// Creates the detail of an error of the operating system.
    #[cfg(feature = "_record_conns")]
    pub(super) fn from_os(failure: Failure, number: i32) -> Self {
        FailureDetail { failure, http2_error: None, text: DetailText::Os(number) }
    }

    /// Sets the error code of the HTTP/2 stream or connection.
    #[cfg(feature = "wire")]
    pub(crate) fn with_http2_error(self, code: u32) -> Self {
        FailureDetail { http2_error: Some(code), ..self }
    }

    /// Returns the code, the text, and the text's original length in bytes if it was cut.
    pub(crate) fn into_parts(self) -> (Failure, Text, Option<NonZeroU32>) {
        let (text, original_bytes) = match self.text {
            DetailText::Words(Cow::Borrowed(words)) => (Text::from_static(words), None),
            DetailText::Words(Cow::Owned(words)) => (words.into(), None),
            DetailText::Cut(cut) => (cut.text().clone(), cut.original_bytes()),
            #[cfg(feature = "_record_conns")]
            DetailText::Os(number) => (os_text(number), None),
        };
        (self.failure, text, original_bytes)
    }

    /// Returns the heap memory in use, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let text = match &self.text {
            DetailText::Words(Cow::Owned(text)) => text.capacity(),
            DetailText::Cut(cut) => size_of::<LimitedText>() + cut.heap_bytes(),
            DetailText::Words(Cow::Borrowed(_)) => 0,
            #[cfg(feature = "_record_conns")]
            DetailText::Os(_) => 0,
        };
        text + self.failure.heap_bytes()
    }

    /// Returns the end reason of the record that failed, as far as the code decides it.
    #[cfg(any(feature = "connect", feature = "request"))]
    pub(crate) fn end_reason(&self) -> EndReason {
        match self.failure {
            Failure::GenericTimeoutError => EndReason::Timeout,
            _ => EndReason::Failed,
        }
    }
}
