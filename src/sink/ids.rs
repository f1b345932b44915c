//! [`IdFormat`]: the identifiers that records have in a trace.

use super::record_id::RecordId;
use crate::record::{AsciiText, TraceId};
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// The format of the identifiers of records in a trace.
///
/// Each record has a number, which becomes an identifier when a trace is taken, so that the same record has the same
/// identifier in every trace. All sinks of a process take numbers from one counter: identifiers differ between sinks,
/// too, as long as these share a format.
#[derive(Clone)]
pub struct IdFormat(Format);

#[derive(Clone)]
enum Format {
    Counter,
    ShortUuid(u128),
    Custom(Arc<dyn Fn(u64) -> TraceId + Send + Sync>),
}

impl IdFormat {
    /// `tid-1`, `tid-2`, …: concise, unique within the process. The default.
    pub fn counter() -> Self {
        IdFormat(Format::Counter)
    }

    /// 22 letters and digits without look-alikes (base 57), unique across processes: 80 random bits that are the same
    /// for all records, and 48 bits for the record.
    pub fn short_uuid() -> Self {
        IdFormat(Format::ShortUuid(fastrand::u128(..) << 48))
    }

    /// A function from the number of a record, which is unique in the process, to its identifier.
    ///
    /// It must return the same identifier for the same number and different ones for different numbers. It is called
    /// under no lock when a trace is taken or an identifier is asked for. If it panics, the identifier is that of
    /// [`counter`](Self::counter).
    pub fn custom(format: impl Fn(u64) -> TraceId + Send + Sync + 'static) -> Self {
        IdFormat(Format::Custom(Arc::new(format)))
    }

    /// Returns the identifier of a record; the empty one for `None`.
    pub(crate) fn id(&self, record: Option<RecordId>) -> TraceId {
        let Some(record) = record else { return TraceId::default() };
        let number = record.get();
        match &self.0 {
            Format::Counter => counted(number),
            Format::ShortUuid(seed) => short(seed | u128::from(number)),
            Format::Custom(format) => {
                // Also called on the path of the traffic, for errors and subscribers: a panic must not get out.
                catch_unwind(AssertUnwindSafe(|| format(number))).unwrap_or_else(|_| {
                    tracing::warn!(target: "nettrace", "the function for identifiers panicked");
                    counted(number)
                })
            }
        }
    }
}

impl Default for IdFormat {
    fn default() -> Self {
        IdFormat::counter()
    }
}

impl fmt::Debug for IdFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Format::Counter => "IdFormat::counter",
            Format::ShortUuid(_) => "IdFormat::short_uuid",
            Format::Custom(_) => "IdFormat::custom",
        })
    }
}

fn counted(number: u64) -> TraceId {
    TraceId::numbered("tid-", number)
}

/// Encodes a number as the `shortuuid` packages of Python and Go do: base 57, 22 digits.
fn short(mut number: u128) -> TraceId {
    const ALPHABET: &[u8; 57] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut digits = [b'2'; 22];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(number % 57) as usize];
        number /= 57;
    }
    let mut text = AsciiText::default();
    text.push(&digits);
    text.as_str().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_ids_are_short() {
        assert_eq!(IdFormat::counter().id(RecordId::new(7)).as_str(), "tid-7");
        assert!(IdFormat::counter().id(RecordId::new(0)).is_undefined());
    }

    #[test]
    fn short_uuids_differ_between_records_and_sinks() {
        let (one, two) = (IdFormat::short_uuid(), IdFormat::short_uuid());
        assert_eq!(one.id(RecordId::new(1)).as_str().len(), 22);
        assert_eq!(one.id(RecordId::new(1)), one.id(RecordId::new(1)));
        assert_ne!(one.id(RecordId::new(1)), one.id(RecordId::new(2)));
        assert_ne!(one.id(RecordId::new(1)), two.id(RecordId::new(1)));
    }
}
