//! [`KernelTimesRecorder`]: writes the kernel's time stamps of a sampled connection.
//!
//! The kernel stamps with the wall clock, the sink has a monotonic one. Each stamp is converted by its age: both clocks
//! are read together when the stamp is taken from the socket. If the wall clock was set in between, what was stamped
//! before counts as unknown.

use super::{
    conn_ref::ConnRef,
    kernel_times::{KernelTimesLog, SendStage},
};
use crate::sink::clock::{Anchor, Clock, Tick};
use std::time::{Duration, SystemTime};

/// Writes the log of one connection, on behalf of whoever reads and writes its socket.
#[derive(Debug)]
pub(crate) struct KernelTimesRecorder {
    conn: ConnRef,
    clock: StampClock,
    sent: u64,
    received: u64,
    acked: u64,
}

impl KernelTimesRecorder {
    /// Creates the recorder of a connection on which nothing has been sent or received. Returns `None` unless a probe
    /// has asked for its stamps.
    pub(in crate::sink) fn of(conn: &ConnRef) -> Option<Self> {
        conn.kernel_times_log()?;
        let clock = StampClock::new(conn.group.core.clock.anchor_in_passing());
        Some(KernelTimesRecorder { conn: conn.clone(), clock, sent: 0, received: 0, acked: 0 })
    }

    /// Returns `true` until the record of the connection has ended.
    pub(crate) fn is_open(&self) -> bool {
        self.conn.record().end.is_open()
    }

    /// Returns the present time.
    pub(crate) fn now(&mut self) -> Tick {
        let clock = &self.conn.group.core.clock;
        self.clock.advance(clock, clock.anchor_in_passing())
    }

    /// Returns `true` if bytes were sent of whose acknowledgement there is no stamp yet.
    pub(crate) fn awaits_stamps(&self) -> bool {
        self.acked < self.sent
    }

    /// Records a write that was called at `called` and took `len` bytes.
    pub(crate) fn wrote(&mut self, called: Tick, len: usize) {
        self.sent += len as u64;
        if let Some(log) = self.log().filter(|_| len > 0) {
            log.wrote(self.sent, called);
        }
    }

    /// Records a stamp of a byte that was written. The kernel counts bytes from zero, modulo 2^32.
    pub(crate) fn stamped(&mut self, byte: u32, stage: SendStage, at: SystemTime) {
        let clock = &self.conn.group.core.clock;
        let at = self.clock.tick(clock, clock.anchor_in_passing(), at);
        let Some(sent_bytes) = bytes_up_to(byte, self.sent) else { return };
        if stage == SendStage::Acked {
            self.acked = self.acked.max(sent_bytes);
        }
        if let (Some(log), Some(at)) = (self.log(), at) {
            log.stamped(sent_bytes, stage, at, self.clock.valid_from);
        }
    }

    /// Records a read that has returned just now. `received` is the stamp of its first byte.
    pub(crate) fn read(&mut self, received: Option<SystemTime>, len: usize) {
        let recv_bytes = self.received;
        self.received += len as u64;
        let Some(received) = received.filter(|_| len > 0) else { return };
        let (received, now) = self.received(received);
        if let (Some(log), Some(received)) = (self.log(), received) {
            log.read(recv_bytes, received, Some(now));
        }
    }

    /// Records that the connection is closed although bytes have been received that nobody has read.
    pub(crate) fn left_unread(&mut self, received: SystemTime) {
        let (received, _) = self.received(received);
        if let (Some(log), Some(received)) = (self.log(), received) {
            log.read(self.received, received, None);
        }
    }

    /// Converts the stamp of received bytes. Returns it with the present time.
    fn received(&mut self, stamp: SystemTime) -> (Option<Tick>, Tick) {
        let clock = &self.conn.group.core.clock;
        let now = clock.anchor_in_passing();
        (self.clock.tick(clock, now, stamp), now.tick)
    }

    fn log(&self) -> Option<&KernelTimesLog> {
        self.conn.kernel_times_log().filter(|_| self.is_open())
    }
}

/// Returns how many bytes were sent up to and including one whose index the kernel gives modulo 2^32. It is the latest
/// such byte of all that were sent.
fn bytes_up_to(byte: u32, sent: u64) -> Option<u64> {
    let last = sent.checked_sub(1)?;
    let behind = (last as u32).wrapping_sub(byte);
    sent.checked_sub(behind.into()).filter(|bytes| *bytes > 0)
}

/// Converts stamps of the wall clock to ticks.
#[derive(Debug)]
struct StampClock {
    latest: Anchor,
    /// When it was last noticed that the wall clock had been set. Earlier stamps cannot be converted.
    valid_from: Tick,
}

impl StampClock {
    fn new(now: Anchor) -> Self {
        StampClock { latest: now, valid_from: Tick::from_ticks(1) }
    }

    /// Compares how far both clocks went since the last call. Returns the present time.
    fn advance(&mut self, clock: &Clock, now: Anchor) -> Tick {
        let elapsed = clock.between(self.latest.tick, now.tick);
        let by_wall = now.wall.duration_since(self.latest.wall).unwrap_or_default();
        // Clocks that are being adjusted drift against each other.
        if elapsed.abs_diff(by_wall) > MAX_DEVIATION + elapsed / 1000 {
            self.valid_from = now.tick;
        }
        self.latest = now;
        now.tick
    }

    /// Converts a stamp. Returns `None` if the wall clock may have been set since.
    fn tick(&mut self, clock: &Clock, now: Anchor, stamp: SystemTime) -> Option<Tick> {
        self.advance(clock, now);
        let age = match now.wall.duration_since(stamp) {
            Ok(age) => age,
            Err(ahead) if ahead.duration() <= MAX_DEVIATION => Duration::ZERO,
            Err(_) => return None,
        };
        Some(clock.before(now.tick, age)).filter(|tick| *tick >= self.valid_from)
    }
}

/// By how much the clocks may deviate before the wall clock counts as set.
const MAX_DEVIATION: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the moment that is this many milliseconds after another on each clock.
    fn later(clock: &Clock, from: Anchor, tick_ms: u64, wall_ms: i64) -> Anchor {
        let back = clock.before(from.tick, Duration::from_millis(tick_ms));
        let tick = Tick::from_ticks(2 * from.tick.get() - back.get());
        let by = Duration::from_millis(wall_ms.unsigned_abs());
        Anchor { tick, wall: if wall_ms < 0 { from.wall - by } else { from.wall + by } }
    }

    #[test]
    fn the_kernels_index_of_a_byte_is_modulo_two_to_the_32nd() {
        assert_eq!(bytes_up_to(99, 100), Some(100));
        assert_eq!(bytes_up_to(9, 100), Some(10));
        assert_eq!(bytes_up_to(100, 100), None, "it was not sent");
        assert_eq!(bytes_up_to(0, 0), None);
        let sent = (5 << 32) + 3;
        assert_eq!(bytes_up_to(2, sent), Some(sent));
        assert_eq!(bytes_up_to(u32::MAX, sent), Some(5 << 32));
    }

    #[test]
    fn a_stamp_is_converted_by_its_age() {
        let clock = Clock::new();
        let begin = clock.anchor;
        let mut stamps = StampClock::new(begin);
        let now = later(&clock, begin, 500, 500);
        let tick = stamps.tick(&clock, now, begin.wall + Duration::from_millis(200)).unwrap();
        let after = clock.between(begin.tick, tick);
        assert!(after.abs_diff(Duration::from_millis(200)) < Duration::from_micros(1), "{after:?}");
        assert_eq!(stamps.tick(&clock, now, now.wall + Duration::from_micros(900)), Some(now.tick));
        assert_eq!(stamps.tick(&clock, now, now.wall + Duration::from_millis(2)), None);
    }

    #[test]
    fn stamps_from_before_the_wall_clock_was_set_are_unknown() {
        let clock = Clock::new();
        for step_ms in [-700, 700] {
            let begin = clock.anchor;
            let mut stamps = StampClock::new(begin);
            let now = later(&clock, begin, 500, 500 + step_ms);
            assert_eq!(stamps.tick(&clock, now, begin.wall + Duration::from_millis(400)), None, "{step_ms}");
            let stamp = now.wall + Duration::from_millis(5);
            let now = later(&clock, now, 10, 10);
            assert!(stamps.tick(&clock, now, stamp).is_some(), "{step_ms}: what is stamped afterwards");
        }
    }
}
