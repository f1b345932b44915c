//! The reasons for which an exchange finds no connection to reuse, and may not dial one.

use super::{
    PoolState,
    conn_table::{Entry, Phase, Reusable},
    ids::{ConnId, HostId},
};
use crate::sink::{NotReused, PoolWait};

impl<Conn: Reusable, Waker: Clone> PoolState<Conn, Waker> {
    /// Returns why there is no connection to reuse, after [`checkout`](Self::checkout) has found none.
    pub(super) fn why_not_reused(&self, host: HostId) -> NotReused {
        let host = &self.hosts[host.0];
        match host.open - host.lost {
            _ if !self.keeps => NotReused::KeepAliveOff,
            0 => host.last_lost,
            _ => NotReused::Busy,
        }
    }

    /// Returns the obstacle that keeps an exchange from dialing.
    pub(super) fn obstacle(&self, id: HostId) -> Option<PoolWait> {
        let host = &self.hosts[id.0];
        if host.shares_dials && host.dialing > 0 {
            return Some(PoolWait::Dial);
        }
        self.limits.max_per_host.filter(|max| host.open >= *max).map(|_| PoolWait::Limit)
    }

    /// Sets why the connection, which is about to be closed, cannot be reused. The first reason counts.
    pub(super) fn will_be_lost(&mut self, id: ConnId, reason: NotReused) {
        if let Some(entry) = self.conns.get_mut(id).filter(|entry| entry.lost.is_none()) {
            entry.lost = Some(reason);
            let host = &mut self.hosts[entry.host.0];
            host.lost += 1;
            host.last_lost = reason;
        }
    }

    /// Notes why the connection, which is closed now, cannot be reused.
    pub(super) fn note_loss(&mut self, id: ConnId) {
        let Some(Entry { host, phase, lost, .. }) = self.conns.get_mut(id) else { return };
        let host = &mut self.hosts[host.0];
        match (*lost, &*phase) {
            (Some(reason), _) => {
                host.lost -= 1;
                host.last_lost = reason;
            }
            (None, Phase::Dialing) => {}
            (None, phase) if phase.idle_since().is_some() => host.last_lost = NotReused::ClosedWhileIdle,
            (None, _) => host.last_lost = NotReused::NotKept,
        }
    }
}
