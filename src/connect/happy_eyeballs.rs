//! Happy eyeballs: which address next, and when (RFC 8305).

use super::{
    attempt::{FailedAttempt, TcpAttempt},
    tcp_connector::SocketOptions,
};
use crate::{
    error::ConnectAttempt,
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

/// Tries the addresses in turn, the next one when the last has failed or is not there after the attempt delay; the
/// first that answers wins and the others are given up. Once the connect timeout is over no other is tried.
pub(super) async fn connect(
    addrs: Vec<SocketAddr>,
    options: &SocketOptions,
    dial: &DialRecorder,
) -> Result<(TcpStream, ConnRecorder), Vec<ConnectAttempt>> {
    let limits = Limits::start(options, addrs.len());
    if let [only] = addrs[..] {
        let attempt = match begin(only, options, &limits, dial) {
            Ok(attempt) => attempt.await,
            Err(failed) => Err(failed),
        };
        return attempt.map_err(|failed| vec![failed.into()]);
    }
    let mut waiting = interleave(addrs).into_iter();
    let mut running = FuturesUnordered::new();
    let mut failed = Vec::new();
    loop {
        let mut more = match waiting.next() {
            Some(addr) => match begin(addr, options, &limits, dial) {
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
        // Waits for the attempts under way; goes on to the next address on a failure or after the attempt delay.
        loop {
            let done = if more {
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
            more = more && !limits.are_over();
            if more {
                break;
            }
            if running.is_empty() {
                return Err(failed);
            }
        }
    }
}

fn begin(
    addr: SocketAddr,
    options: &SocketOptions,
    limits: &Limits,
    dial: &DialRecorder,
) -> Result<TcpAttempt, FailedAttempt> {
    let timeout = limits.of_attempt().map(Box::pin);
    TcpAttempt::start(addr, dial.attempt(addr), timeout, |socket| options.apply(socket))
}

/// The time limits of a dial whose addresses are known.
struct Limits {
    /// Limits each attempt.
    handshake: Option<Duration>,
    /// Limits all attempts.
    deadline: Option<Instant>,
    /// How long to wait for an attempt before the next one begins.
    attempt_delay: Duration,
}

impl Limits {
    fn start(options: &SocketOptions, addrs: usize) -> Self {
        let SocketOptions { handshake_timeout: handshake, connect_timeout, attempt_delay, .. } = *options;
        let turn = connect_timeout.map(|limit| limit / u32::try_from(addrs.max(1)).unwrap_or(u32::MAX));
        Limits {
            handshake,
            // A time that the clock cannot hold is no limit.
            deadline: connect_timeout.and_then(|limit| Instant::now().checked_add(limit)),
            attempt_delay: turn.map_or(attempt_delay, |turn| turn.min(attempt_delay)),
        }
    }

    fn of_attempt(&self) -> Option<Sleep> {
        let Some(deadline) = self.deadline else { return self.handshake.map(sleep) };
        let handshake = self.handshake.and_then(|limit| Instant::now().checked_add(limit));
        Some(sleep_until(handshake.map_or(deadline, |end| end.min(deadline))))
    }

    fn are_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// Alternates between the families, beginning with that of the first address (RFC 8305 section 4). The order
/// within a family stays.
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
