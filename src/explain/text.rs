//! Parts of sentences.

/// How many things a list names.
const MAX_LISTED: usize = 4;

/// Returns the texts as a list: `a`, `a and b`, `a, b and c`, `a, b, c, d and 3 more`.
pub(super) fn list(texts: &[impl AsRef<str>]) -> String {
    let mut shown: Vec<_> = texts.iter().take(MAX_LISTED).map(|text| text.as_ref().to_owned()).collect();
    if let Some(more @ 1..) = texts.len().checked_sub(MAX_LISTED) {
        shown.push(format!("{more} more"));
    }
    match shown.pop() {
        Some(last) if !shown.is_empty() => format!("{} and {last}", shown.join(", ")),
        last => last.unwrap_or_default(),
    }
}
