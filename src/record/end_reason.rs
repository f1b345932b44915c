use super::open_enum::open_enum;

open_enum! {
    /// Why something that had begun came to its end.
    ///
    /// Every record that begins ends exactly once, whatever becomes of it.
    pub enum EndReason {
        /// Our side closed it in the normal course of things.
        #[default]
        Closed = "closed",
        /// The other side closed it.
        PeerClosed = "peer-closed",
        /// An error ended it: see the record's `failure`.
        Failed = "failed",
        /// It was dropped before it was done.
        Cancelled = "cancelled",
        /// Another attempt of the same dial was faster (RFC 8305).
        LostRace = "lost-race",
        /// A timer of ours expired.
        Timeout = "timeout",
        /// The pool closed it because too many connections were idle, or one for too long.
        IdleLimit = "idle-limit",
        /// It went on where nobody watches it any more: it has no time of its end.
        Unobserved = "unobserved",
        /// The sink was closed while it was still running.
        SinkClosed = "sink-closed",
    }
}
