//! [`PoolCheckout`]: how the client's pool gave a request its connection, as the pool says it and the record keeps it.

use crate::record;
use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// How the pool gave a request its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolCheckout {
    /// `None` while the request waits for one.
    pub(crate) connection: Option<PoolConnection>,
    pub(crate) waited_for: Option<PoolWait>,
    pub(crate) not_reused: Option<NotReused>,
}

/// Where a connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolConnection {
    New,
    Reused { idle: Duration },
    Shared,
}

/// See [`record::PoolWait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolWait {
    Release,
    Dial,
    Limit,
}

/// See [`record::NotReused`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotReused {
    First,
    OtherKey,
    Busy,
    ClosedWhileIdle,
    NotKept,
    IdleTimeout,
    IdleLimit,
    ClosedByProgram,
    KeepAliveOff,
}

const WAITS: [PoolWait; 3] = [PoolWait::Release, PoolWait::Dial, PoolWait::Limit];
const REASONS: [NotReused; 9] = [
    NotReused::First,
    NotReused::OtherKey,
    NotReused::Busy,
    NotReused::ClosedWhileIdle,
    NotReused::NotKept,
    NotReused::IdleTimeout,
    NotReused::IdleLimit,
    NotReused::ClosedByProgram,
    NotReused::KeepAliveOff,
];

/// A [`PoolCheckout`] in the four bytes that a request has left, which are zero without one.
///
/// The lowest two bits are the connection, the next two the wait and the next four the reason, each with zero for none;
/// the others are the [idle time](IdleTime).
#[derive(Debug, Default)]
pub(crate) struct PoolCheckoutCell(AtomicU32);

const NEW: u32 = 1;
const REUSED: u32 = 2;
const SHARED: u32 = 3;
const WAIT_SHIFT: u32 = 2;
const REASON_SHIFT: u32 = 4;
const IDLE_SHIFT: u32 = 8;

/// A duration in 24 bits, as a floating-point number of microseconds: the upper 5 bits are the exponent `e`, the lower 19
/// the significand `s`, and the value is `s << e`. It is rounded down, with a relative error below 2^-18.
#[derive(Clone, Copy)]
struct IdleTime(u32);

impl IdleTime {
    const NUMBER_BITS: u32 = 19;
    const MAX_MICROS: u64 = ((1 << Self::NUMBER_BITS) - 1) << 31;

    #[inline]
    fn new(time: Duration) -> Self {
        let micros = time.as_secs().saturating_mul(1_000_000).saturating_add(time.subsec_micros().into());
        let micros = micros.min(Self::MAX_MICROS);
        let doublings = (u64::BITS - micros.leading_zeros()).saturating_sub(Self::NUMBER_BITS);
        IdleTime(doublings << Self::NUMBER_BITS | (micros >> doublings) as u32)
    }

    fn micros(self) -> u64 {
        let number = self.0 & ((1 << Self::NUMBER_BITS) - 1);
        u64::from(number) << (self.0 >> Self::NUMBER_BITS)
    }
}

impl PoolCheckoutCell {
    #[inline]
    pub(super) fn set(&self, checkout: PoolCheckout) {
        let connection = match checkout.connection {
            None => 0,
            Some(PoolConnection::New) => NEW,
            Some(PoolConnection::Shared) => SHARED,
            Some(PoolConnection::Reused { idle }) => REUSED | IdleTime::new(idle).0 << IDLE_SHIFT,
        };
        let wait = checkout.waited_for.map_or(0, |wait| wait as u32 + 1);
        let reason = checkout.not_reused.map_or(0, |reason| reason as u32 + 1);
        self.0.store(connection | wait << WAIT_SHIFT | reason << REASON_SHIFT, Relaxed);
    }

    pub(in crate::sink) fn export(&self) -> Option<Box<record::PoolCheckout>> {
        let word = self.0.load(Relaxed);
        let bits = |shift: u32, count: u32| (word >> shift & ((1 << count) - 1)) as usize;
        let connection = word & 0b11;
        let wait = bits(WAIT_SHIFT, 2).checked_sub(1).and_then(|index| WAITS.get(index));
        let reason = bits(REASON_SHIFT, 4).checked_sub(1).and_then(|index| REASONS.get(index));
        let checkout = record::PoolCheckout {
            connection: match connection {
                NEW => Some(record::PoolConnection::New),
                REUSED => Some(record::PoolConnection::Reused),
                SHARED => Some(record::PoolConnection::Shared),
                _ => None,
            },
            idle_us: (connection == REUSED).then(|| IdleTime(word >> IDLE_SHIFT).micros()),
            waited_for: wait.map(|wait| match wait {
                PoolWait::Release => record::PoolWait::Release,
                PoolWait::Dial => record::PoolWait::Dial,
                PoolWait::Limit => record::PoolWait::Limit,
            }),
            not_reused: reason.map(|reason| match reason {
                NotReused::First => record::NotReused::First,
                NotReused::OtherKey => record::NotReused::OtherKey,
                NotReused::Busy => record::NotReused::Busy,
                NotReused::ClosedWhileIdle => record::NotReused::ClosedWhileIdle,
                NotReused::NotKept => record::NotReused::NotKept,
                NotReused::IdleTimeout => record::NotReused::IdleTimeout,
                NotReused::IdleLimit => record::NotReused::IdleLimit,
                NotReused::ClosedByProgram => record::NotReused::ClosedByProgram,
                NotReused::KeepAliveOff => record::NotReused::KeepAliveOff,
            }),
        };
        (word != 0).then(|| Box::new(checkout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_checkout_survives_the_cell() {
        let cell = PoolCheckoutCell::default();
        assert_eq!(cell.export(), None);
        for (index, reason) in REASONS.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?} is at its place");
            cell.set(PoolCheckout {
                connection: Some(PoolConnection::Reused { idle: Duration::from_micros(7) }),
                waited_for: None,
                not_reused: Some(reason),
            });
            let checkout = cell.export().unwrap();
            assert_eq!((checkout.idle_us, checkout.waited_for), (Some(7), None));
            assert_eq!(format!("{:?}", checkout.not_reused.unwrap()), format!("{reason:?}"));
        }
        for wait in WAITS {
            for connection in [None, Some(PoolConnection::New), Some(PoolConnection::Shared)] {
                cell.set(PoolCheckout { connection, waited_for: Some(wait), not_reused: None });
                let checkout = cell.export().unwrap();
                assert_eq!(format!("{:?}", checkout.connection), format!("{connection:?}"));
                assert_eq!(format!("{:?}", checkout.waited_for.unwrap()), format!("{wait:?}"));
                assert_eq!((checkout.idle_us, checkout.not_reused), (None, None));
            }
        }
    }

    #[test]
    fn an_idle_time_of_any_length_is_kept_as_far_as_possible() {
        let cell = PoolCheckoutCell::default();
        let kept = |idle| {
            let connection = Some(PoolConnection::Reused { idle });
            cell.set(PoolCheckout { connection, ..PoolCheckout::default() });
            cell.export().unwrap().idle_us.unwrap()
        };
        for micros in [0, 1, 524_287, 524_288, 1 << 40] {
            assert_eq!(kept(Duration::from_micros(micros)), micros);
        }
        for micros in [524_289, 90_000_000_001, IdleTime::MAX_MICROS - 1] {
            let kept = kept(Duration::from_micros(micros));
            assert!(kept <= micros && micros - kept <= micros >> 18, "{micros}: {kept}");
        }
        assert_eq!(kept(Duration::MAX), IdleTime::MAX_MICROS);
    }
}
