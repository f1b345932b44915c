//! Tells from passing segments when the last packets of a TCP connection have passed.
//!
//! A refresh waits for them, so that a capture that is read just after a close is complete.

/// The fields of a TCP header that tell how a connection ends (RFC 9293 section 3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpCloseFields {
    /// The sequence number that follows the FIN, if this is one.
    pub(super) after_fin: Option<u32>,
    /// The acknowledgment number, if this acknowledges anything.
    pub(super) acknowledged: Option<u32>,
    /// Whether this is an RST.
    pub(super) is_reset: bool,
}

/// How far TCP has come in closing a connection (RFC 9293 section 3.6).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CloseProgress {
    /// Whether any packet passed since the connection began.
    has_begun: bool,
    is_reset: bool,
    from_local: ClosingDirection,
    from_remote: ClosingDirection,
}

/// How far one direction has come.
#[derive(Clone, Copy, Debug, Default)]
struct ClosingDirection {
    /// The sequence number that follows its FIN.
    after_fin: Option<u32>,
    is_acknowledged: bool,
}

impl CloseProgress {
    /// Notes the fields of a segment that passed.
    pub(super) fn on_segment(&mut self, is_from_local: bool, fields: &TcpCloseFields) {
        let (own, other) = match is_from_local {
            true => (&mut self.from_local, &mut self.from_remote),
            false => (&mut self.from_remote, &mut self.from_local),
        };
        own.after_fin = fields.after_fin.or(own.after_fin);
        if let (Some(acknowledged), Some(after_fin)) = (fields.acknowledged, other.after_fin) {
            // Sequence numbers wrap around: those within half of the range come after.
            other.is_acknowledged |= acknowledged.wrapping_sub(after_fin) < 1 << 31;
        }
        self.has_begun = true;
        self.is_reset |= fields.is_reset;
    }

    /// Returns `true` if the last packets have not passed yet. Without any packet so far there is nothing to wait for:
    /// they pass on another interface.
    pub(super) fn is_settling(&self) -> bool {
        let is_over = self.from_local.is_acknowledged && self.from_remote.is_acknowledged;
        self.has_begun && !self.is_reset && !is_over
    }
}
