//! Why a record ended.

use super::open_enum::open_enum;

open_enum! {
    /// The reason why a record ended.
    ///
    /// Every record that begins ends exactly once.
    pub enum EndReason {
        /// This side closed it normally.
        #[default]
        Closed = "closed",
        /// The peer closed it.
        PeerClosed = "peer-closed",
        /// An error ended it. The record's `failure` names the error.
        Failed = "failed",
        /// It was dropped before it was complete.
        Cancelled = "cancelled",
        /// Another attempt of the same dial succeeded first (RFC 8305).
        LostRace = "lost-race",
        /// A timeout of the client expired.
        Timeout = "timeout",
        /// The pool closed it because too many connections were idle, or this one for too long.
        IdleLimit = "idle-limit",
        /// It continued unobserved, for example in a foreign client. Its end time is unknown.
        Unobserved = "unobserved",
        /// The sink was closed while it was running.
        SinkClosed = "sink-closed",
    }
}

impl EndReason {
    /// Returns `true` if an error or a timeout ended the record.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, EndReason::Failed | EndReason::Timeout)
    }
}
