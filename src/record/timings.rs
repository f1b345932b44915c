//! [`Timings`]: the durations of a request's phases.

use std::fmt;
use std::time::Duration;

/// The durations of the phases of a request.
///
/// A phase that did not happen, or has not ended yet, is `None`. The phases of connecting are those of the request's
/// own dial. If another request dialled the connection, the whole time until it was available is `blocked`. The phase
/// in which a request failed ends with the failure.
///
/// [`Display`](fmt::Display) prints one line: `blocked 0 · dns 12.1 ms · connect 8.3 ms · total 20.4 ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// The time until the request got a connection, without `dns`, `connect`, `proxy` and `tls`. `None` if the client
    /// does not report when it got one.
    pub blocked: Option<Duration>,
    /// The duration of the name lookup.
    pub dns: Option<Duration>,
    /// The time from the end of the lookup until the TCP connection was established.
    pub connect: Option<Duration>,
    /// Whether `connect` includes the name lookup, because a foreign connector does both and reports no time between
    /// them. [`Display`](fmt::Display) then prints `connect with dns`.
    pub connect_includes_dns: bool,
    /// The time in which the proxy connected to the server: CONNECT or the SOCKS5 handshake.
    pub proxy: Option<Duration>,
    /// The duration of the TLS handshake, or of both with an HTTPS proxy.
    pub tls: Option<Duration>,
    /// The time in which the request was sent with its body. A response that arrives earlier ends it.
    pub send: Option<Duration>,
    /// The time until the head of the response arrived.
    pub wait: Option<Duration>,
    /// The time in which the body of the response was received.
    pub receive: Option<Duration>,
    /// The time from the begin of the request to its end.
    pub total: Option<Duration>,
}
impl Timings {
    /// The names of the phases, and of the whole.
    pub(crate) const PHASES: [&'static str; 9] =
        ["blocked", "dns", "connect", "proxy", "tls", "send", "wait", "receive", "total"];

    /// Returns the durations in the order of [`Self::PHASES`].
    pub(crate) fn phases(&self) -> [Option<Duration>; 9] {
        let Timings {
            blocked,
            dns,
            connect,
            proxy,
            tls,
            send,
            wait,
            receive,
            total,
            connect_includes_dns: _,
        } = *self;
        [blocked, dns, connect, proxy, tls, send, wait, receive, total]
    }
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, time) in Self::PHASES.into_iter().zip(self.phases()) {
            let name = if name == "connect" && self.connect_includes_dns { "connect with dns" } else { name };
            if let Some(time) = time {
                write!(f, "{separator}{name} {}", HumanDuration(time))?;
                separator = " · ";
            }
        }
        Ok(())
    }
}

/// A duration printed for people: `0`, `431 µs`, `12.1 ms`, `3.20 s`.
pub(super) struct HumanDuration(pub(super) Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        match nanos {
            0..500 => f.write_str("0"),
            500..999_500 => write!(f, "{} µs", (nanos + 500) / 1_000),
            999_500..999_950_000 => write!(f, "{:.1} ms", nanos as f64 / 1e6),
            _ => write!(f, "{:.2} s", self.0.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        let text = |nanos| HumanDuration(Duration::from_nanos(nanos)).to_string();
        for (nanos, expected) in [
            (0, "0"),
            (499, "0"),
            (500, "1 µs"),
            (999_499, "999 µs"),
            (999_500, "1.0 ms"),
            (12_149_999, "12.1 ms"),
            (999_949_999, "999.9 ms"),
            (999_950_000, "1.00 s"),
            (3_204_000_000, "3.20 s"),
        ] {
            assert_eq!(text(nanos), expected);
        }
    }
}
