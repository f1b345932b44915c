//! Names of gRPC status codes.

/// Returns the name of a status code in the gRPC specification, or its number if it has none.
pub(super) fn status(code: u16) -> String {
    NAMES.get(usize::from(code)).map_or_else(|| format!("status {code}"), |name| (*name).into())
}

const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_names() {
        assert_eq!([0, 5, 16, 17].map(status), ["OK", "NOT_FOUND", "UNAUTHENTICATED", "status 17"]);
    }
}
