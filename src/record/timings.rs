use std::time::Duration;

/// How long the phases of a request took; `None` for a phase that did not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// Waiting for a connection, less what the request's own dial took.
    pub blocked: Option<Duration>,
    /// Looking the name up.
    pub dns: Option<Duration>,
    /// Connecting over TCP.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// Sending the request with its body.
    pub send: Option<Duration>,
    /// Waiting for the head of the response.
    pub wait: Option<Duration>,
    /// Receiving the body of the response.
    pub receive: Option<Duration>,
    /// From begin to end.
    pub total: Option<Duration>,
}
