//! Encodes the error of an operation as a number of 32 bits.

use std::borrow::Cow;
use std::io::{self, ErrorKind};

/// The part of an operation's error that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpError {
    /// An error number of the operating system.
    Os(i32),
    /// An error of the standard library without a text of its own.
    Kind(ErrorKind),
    /// Any other error. The number is the index of its text in the connection's list of texts.
    Text(u32),
}

/// The largest number that fits next to the two bits for the variant.
#[cfg(any(loom, feature = "connect"))]
const MAX_NUMBER: u32 = u32::MAX >> 2;

impl OpError {
    pub(crate) fn from_code(code: u32) -> OpError {
        let number = code >> 2;
        match code & 3 {
            0 => OpError::Os(number as i32),
            1 => OpError::Kind(ERROR_KINDS.get(number as usize).copied().unwrap_or(ErrorKind::Other)),
            _ => OpError::Text(number),
        }
    }

    /// Returns the text that the `io::Error` had.
    pub(super) fn text<T: AsRef<str>>(self, texts: &[T]) -> Cow<'_, str> {
        match self {
            OpError::Os(errno) => io::Error::from_raw_os_error(errno).to_string().into(),
            OpError::Kind(kind) => kind.to_string().into(),
            OpError::Text(at) => match texts.get(at as usize) {
                Some(text) => text.as_ref().into(),
                None => ErrorKind::Other.to_string().into(),
            },
        }
    }
}

#[cfg(any(loom, feature = "connect"))]
impl OpError {
    /// Converts an error that needs no text of its own. Returns `None` for an error whose text must be kept.
    pub(crate) fn from_io(error: &io::Error) -> Option<OpError> {
        match error.raw_os_error() {
            Some(errno) if u32::try_from(errno).is_ok_and(|n| n <= MAX_NUMBER) => Some(OpError::Os(errno)),
            None if error.get_ref().is_some() => None,
            _ => Some(OpError::Kind(error.kind())),
        }
    }

    /// Returns the number that represents the error in [`RawOp::len`](super::RawOp::len).
    pub(crate) fn code(self) -> u32 {
        match self {
            OpError::Os(errno) => (errno as u32) << 2,
            OpError::Kind(kind) => {
                let known = ERROR_KINDS.iter().position(|known| *known == kind);
                (known.unwrap_or(OTHER_KIND) as u32) << 2 | 1
            }
            OpError::Text(at) => at.min(MAX_NUMBER) << 2 | 2,
        }
    }
}

#[cfg(any(loom, feature = "connect"))]
const OTHER_KIND: usize = 0;
/// The error kinds by code. Append only: codes are indexes.
const ERROR_KINDS: [ErrorKind; 39] = [
    ErrorKind::Other,
    ErrorKind::NotFound,
    ErrorKind::PermissionDenied,
    ErrorKind::ConnectionRefused,
    ErrorKind::ConnectionReset,
    ErrorKind::HostUnreachable,
    ErrorKind::NetworkUnreachable,
    ErrorKind::ConnectionAborted,
    ErrorKind::NotConnected,
    ErrorKind::AddrInUse,
    ErrorKind::AddrNotAvailable,
    ErrorKind::NetworkDown,
    ErrorKind::BrokenPipe,
    ErrorKind::AlreadyExists,
    ErrorKind::WouldBlock,
    ErrorKind::NotADirectory,
    ErrorKind::IsADirectory,
    ErrorKind::DirectoryNotEmpty,
    ErrorKind::ReadOnlyFilesystem,
    ErrorKind::StaleNetworkFileHandle,
    ErrorKind::InvalidInput,
    ErrorKind::InvalidData,
    ErrorKind::TimedOut,
    ErrorKind::WriteZero,
    ErrorKind::StorageFull,
    ErrorKind::NotSeekable,
    ErrorKind::QuotaExceeded,
    ErrorKind::FileTooLarge,
    ErrorKind::ResourceBusy,
    ErrorKind::ExecutableFileBusy,
    ErrorKind::Deadlock,
    ErrorKind::TooManyLinks,
    ErrorKind::InvalidFilename,
    ErrorKind::CrossesDevices,
    ErrorKind::ArgumentListTooLong,
    ErrorKind::Interrupted,
    ErrorKind::Unsupported,
    ErrorKind::UnexpectedEof,
    ErrorKind::OutOfMemory,
];

#[cfg(all(test, feature = "connect"))]
mod tests {
    use super::*;

    #[test]
    fn errors_survive_a_round_trip() {
        for error in ERROR_KINDS.map(OpError::Kind).into_iter().chain([
            OpError::Os(0),
            OpError::Os(104),
            OpError::Os(MAX_NUMBER as i32),
            OpError::Text(0),
            OpError::Text(MAX_NUMBER),
        ]) {
            assert_eq!(OpError::from_code(error.code()), error);
        }
        assert_eq!(OpError::Text(u32::MAX).code(), OpError::Text(MAX_NUMBER).code());
    }

    #[test]
    fn an_error_keeps_its_number_kind_or_text() {
        let none: &[&str] = &[];
        let reset = io::Error::from_raw_os_error(104);
        assert_eq!(OpError::from_io(&reset), Some(OpError::Os(104)));
        assert_eq!(OpError::Os(104).text(none), reset.to_string());
        let eof = io::Error::from(ErrorKind::UnexpectedEof);
        assert_eq!(OpError::from_io(&eof), Some(OpError::Kind(ErrorKind::UnexpectedEof)));
        assert_eq!(OpError::Kind(ErrorKind::UnexpectedEof).text(none), eof.to_string());
        assert_eq!(OpError::from_io(&io::Error::other("mine")), None);
        assert_eq!(OpError::Text(1).text(&["a", "b"]), "b");
        assert_eq!(OpError::Text(2).text(&["a", "b"]), "other error");
        let negative = io::Error::from_raw_os_error(-1);
        assert_eq!(OpError::from_io(&negative), Some(OpError::Kind(negative.kind())));
    }

    #[test]
    fn any_code_has_a_text() {
        for code in [0, 1, 2, 3, 1000 << 2 | 1, u32::MAX, u32::MAX - 1, u32::MAX - 2, u32::MAX - 3] {
            assert!(!OpError::from_code(code).text::<&str>(&[]).is_empty());
        }
    }
}
