//! Which header fields hold credentials, and which may mention them.

use http::HeaderName;

/// The kind of a header field, which decides how much of its value may be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldKind {
    /// Named by the user as one whose value is recorded as it is.
    Revealed,
    /// A credential: not recorded.
    Secret,
    /// Authentication schemes with their parameters, which are not recorded (RFC 9110 section 11.3).
    Challenges,
    /// A reference to a resource. It may have user info and a query as a URL has.
    Url,
    /// Such a reference behind a number.
    Refresh,
    /// Such references between angle brackets, among parameters (RFC 8288).
    Links,
    /// Anything else. It may mention a URL.
    Text,
}

impl FieldKind {
    pub(super) fn of(name: &HeaderName) -> Self {
        match name.as_str() {
            "www-authenticate" | "proxy-authenticate" => FieldKind::Challenges,
            "location" | "content-location" | "referer" | "origin" | "destination" => FieldKind::Url,
            "refresh" => FieldKind::Refresh,
            "link" => FieldKind::Links,
            name if is_secret(name) => FieldKind::Secret,
            _ => FieldKind::Text,
        }
    }
}

/// Returns `true` if a field of that name holds a credential.
fn is_secret(name: &str) -> bool {
    // Asked for every field: one pass over the name, in which most words are told by their first letter.
    let bytes = name.as_bytes();
    let mut begin = 0;
    for (end, byte) in bytes.iter().enumerate() {
        if *byte == b'-' {
            if is_secret_word(&bytes[begin..end]) {
                return true;
            }
            begin = end + 1;
        }
    }
    match &bytes[begin..] {
        b"key" => begin > 0 && is_kind_of_key(&name[..begin - 1]),
        b"info" => matches!(name, "authentication-info" | "proxy-authentication-info"),
        b"id" => name == "x-session-id",
        b"dpop" => begin == 0,
        word => is_secret_word(word),
    }
}

/// Returns `true` if a field is a credential because of this word of its name, as in `X-Amz-Security-Token` and
/// `Set-Cookie2`.
#[inline]
fn is_secret_word(word: &[u8]) -> bool {
    matches!(word, [b'a' | b'c' | b'j' | b'p' | b's' | b't', ..]) && is_listed_word(word)
}

fn is_listed_word(word: &[u8]) -> bool {
    matches!(
        word,
        b"authorization"
            | b"cookie"
            | b"cookie2"
            | b"token"
            | b"jwt"
            | b"secret"
            | b"password"
            | b"passwd"
            | b"credential"
            | b"credentials"
            | b"apikey"
    )
}

/// Returns `true` if a key of that kind is a credential, as in `X-Goog-Api-Key`. There are harmless ones, such as
/// `Surrogate-Key`.
fn is_kind_of_key(name: &str) -> bool {
    const KINDS: [&str; 9] = [
        "api",
        "access",
        "account",
        "auth",
        "customer",
        "encryption",
        "subscription",
        "x-functions",
        "x-master",
    ];
    KINDS.iter().any(|kind| name.ends_with(kind))
}
