//! Happy Eyeballs: which address is tried next, and when (RFC 8305).
//!
//! A name may have addresses of both families, and some of them may not answer. Instead of waiting for the kernel to
//! give one up, the next address is tried after a short delay while the first attempt goes on. The first connection
//! wins; the others are closed and recorded as having lost the race. The [`TcpConnector`](super::TcpConnector) has the
//! addresses looked up and calls [`connect`] with them.

use crate::{
    error::ConnectAttempt,
    net::{FailedAttempt, SocketOptions, TcpAttempt},
    sink::{ConnRecorder, DialRecorder},
};
use futures_util::{
    future::{Either, select},
    stream::{FuturesUnordered, StreamExt},
};
use std::{net::SocketAddr, pin::pin, time::Duration};
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until},
};

/// The time limits of a dial.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectTimes {
    /// Limits each attempt. `None` leaves it to the kernel.
    pub(super) handshake_timeout: Option<Duration>,
    /// Limits all attempts together.
    pub(super) connect_timeout: Option<Duration>,
    /// How long to wait for an attempt before the next one starts (the Connection Attempt Delay of RFC 8305).
    pub(super) attempt_delay: Duration,
}

/// Connects to one of the addresses, trying them in turn.
///
/// The next address is tried when an attempt fails, or when none has succeeded after the attempt delay. Once the
/// connect timeout is over no other one is tried.
///
/// # Errors
///
/// All attempts, each with its own error, when none succeeds.
pub(super) async fn connect(
    addrs: Vec<SocketAddr>,
    options: &SocketOptions,
    times: &ConnectTimes,
    dial: &DialRecorder,
) -> Result<(TcpStream, ConnRecorder), Vec<ConnectAttempt>> {
    let limits = Limits::start(times, addrs.len());
    if let [only] = addrs[..] {
        let attempt = match start(only, options, &limits, dial) {
            Ok(attempt) => attempt.await,
            Err(failed) => Err(failed),
        };
        return attempt.map_err(|failed| vec![failed.into()]);
    }
    let mut waiting = interleave(addrs).into_iter();
    let mut running = FuturesUnordered::new();
    let mut failed = Vec::new();
    loop {
        let mut has_more = match waiting.next() {
            Some(addr) => match start(addr, options, &limits, dial) {
                Ok(attempt) => {
                    running.push(attempt);
                    waiting.len() > 0
                }
                Err(attempt) => {
                    failed.push(attempt.into());
                    continue;
                }
            },
            None => false,
        };
        // Waits for the attempts in progress; goes on to the next address after a failure or the attempt delay.
        loop {
            let done = if has_more {
                match select(running.next(), pin!(sleep(limits.attempt_delay))).await {
                    Either::Left((done, _)) => done,
                    Either::Right(_) => break,
                }
            } else {
                running.next().await
            };
            match done {
                Some(Ok(won)) => {
                    running.iter_mut().for_each(TcpAttempt::lost_race);
                    return Ok(won);
                }
                Some(Err(attempt)) => failed.push(attempt.into()),
                None => {}
            }
            has_more = has_more && !limits.are_over();
            if has_more {
                break;
            }
            if running.is_empty() {
                return Err(failed);
            }
        }
    }
}

fn start(
    addr: SocketAddr,
    options: &SocketOptions,
    limits: &Limits,
    dial: &DialRecorder,
) -> Result<TcpAttempt, FailedAttempt> {
    TcpAttempt::start(addr, dial.attempt(addr), limits.of_attempt().map(Box::pin), options)
}

/// The limits of a dial in progress, with its deadline instead of the connect timeout.
struct Limits {
    handshake_timeout: Option<Duration>,
    deadline: Option<Instant>,
    /// At most an equal share of the connect timeout, so that every address is tried within it.
    attempt_delay: Duration,
}

impl Limits {
    fn start(times: &ConnectTimes, addrs: usize) -> Self {
        let ConnectTimes { handshake_timeout, connect_timeout, attempt_delay } = *times;
        let share = connect_timeout.map(|limit| limit / u32::try_from(addrs.max(1)).unwrap_or(u32::MAX));
        Limits {
            handshake_timeout,
            // A time that the clock cannot represent is no limit.
            deadline: connect_timeout.and_then(|limit| Instant::now().checked_add(limit)),
            attempt_delay: share.map_or(attempt_delay, |share| share.min(attempt_delay)),
        }
    }

    /// Returns the timer of an attempt that starts now.
    fn of_attempt(&self) -> Option<Sleep> {
        let Some(deadline) = self.deadline else { return self.handshake_timeout.map(sleep) };
        let handshake_end = self.handshake_timeout.and_then(|limit| Instant::now().checked_add(limit));
        Some(sleep_until(handshake_end.map_or(deadline, |end| end.min(deadline))))
    }

    fn are_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// Reorders the addresses so that the two families alternate, beginning with that of the first address (RFC 8305
/// section 4). The order within a family is kept.
fn interleave(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addrs.first().copied() else { return addrs };
    let is_preferred = |addr: &SocketAddr| addr.is_ipv4() == first.is_ipv4();
    if addrs.iter().all(is_preferred) {
        return addrs;
    }
    let (preferred, other): (Vec<_>, Vec<_>) = addrs.into_iter().partition(is_preferred);
    let mut mixed = Vec::with_capacity(preferred.len() + other.len());
    let mut other = other.into_iter();
    for addr in preferred {
        mixed.push(addr);
        mixed.extend(other.next());
    }
    mixed.extend(other);
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate_and_each_keeps_its_order() {
        let addrs =
            |list: &[&str]| list.iter().map(|addr| addr.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed = interleave(addrs(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]));
        assert_eq!(mixed, addrs(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]));
        let mixed = interleave(addrs(&["1.1.1.1:1", "[::1]:1", "[::2]:1", "[::3]:1"]));
        assert_eq!(mixed, addrs(&["1.1.1.1:1", "[::1]:1", "[::2]:1", "[::3]:1"]));
    }
}
