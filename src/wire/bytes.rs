//! What the readers of both HTTP versions do with bytes.

/// Takes up to `most` bytes off the beginning of `bytes`. Returns how many.
pub(super) fn take_up_to(bytes: &mut &[u8], most: u64) -> u64 {
    let taken = usize::try_from(most).map_or(bytes.len(), |most| most.min(bytes.len()));
    *bytes = &bytes[taken..];
    taken as u64
}

/// Returns the number that these decimal digits write; `None` if there are none or other characters, or if it is too
/// large.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
