//! Names of gRPC status codes.

/// Returns the name of a status code in the gRPC specification; `None` if it has none.
pub(crate) fn grpc_status_name(code: u16) -> Option<&'static str> {
    NAMES.get(usize::from(code)).copied()
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
        let names = [0, 5, 16, 17].map(grpc_status_name);
        assert_eq!(names, [Some("OK"), Some("NOT_FOUND"), Some("UNAUTHENTICATED"), None]);
    }
}
