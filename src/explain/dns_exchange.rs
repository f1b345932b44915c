//! [`Exchange`]: what became of a query to a nameserver.

use crate::{
    graph::TimeAxis,
    record::{
        AddrTuple, DnsAnswer, DnsQueryMsg, DnsQueryTrace, DnsReplyMsg, DnsResType, EndReason, NetTrace,
        Timestamp,
    },
};

/// The address and port of a nameserver.
pub(super) type Server<'a> = (&'a str, u16);

/// A query to a nameserver, with what became of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange<'a> {
    pub(super) record: &'a DnsQueryTrace,
    pub(super) server: Server<'a>,
    /// The name in the question, without the final dot.
    pub(super) name: &'a str,
    pub(super) kind: &'a DnsResType,
    pub(super) sent_at: Timestamp,
    pub(super) state: State,
}

/// The outcome of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A reply was accepted, whatever it said.
    Answered,
    /// The reply was cut off.
    Truncated,
    /// All replies were ignored, and the resolver stopped waiting.
    Ignored,
    /// No reply came until the resolver stopped waiting.
    Silent,
    /// It failed, or has not ended.
    Other,
}

impl<'a> Exchange<'a> {
    /// Returns `None` if the query was not sent.
    pub(super) fn of(trace: &'a NetTrace, record: &'a DnsQueryTrace) -> Option<Self> {
        let DnsQueryMsg { sent_at, questions, .. } = record.dns_query_msgs.first()?;
        let question = questions.first()?;
        let udp = trace.udp_conns.get(&record.connection).map(|conn| &conn.addr_tuple);
        let tcp = || trace.tcp_conns.get(&record.connection).map(|conn| &conn.addr_tuple);
        let AddrTuple { dst_ip, dst_port, .. } = udp.or_else(tcp)?;
        Some(Exchange {
            record,
            server: (dst_ip, *dst_port),
            name: question.name.trim_end_matches('.'),
            kind: &question.r#type,
            sent_at: *sent_at,
            state: State::of(record),
        })
    }

    /// Returns the reply that was accepted.
    pub(super) fn reply(&self) -> Option<&'a DnsReplyMsg> {
        self.record.dns_reply_msgs.iter().find(|reply| reply.ignored.is_empty())
    }

    /// Returns the reply that was not used, and why.
    pub(super) fn ignored_reply(&self) -> Option<&'a DnsReplyMsg> {
        self.record.dns_reply_msgs.iter().find(|reply| !reply.ignored.is_empty())
    }

    /// Returns the addresses that the accepted reply has.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &'a DnsAnswer> + use<'a> {
        let answers = self.reply().into_iter().flat_map(|reply| &reply.answers);
        answers.filter(|answer| matches!(answer.r#type, DnsResType::A | DnsResType::Aaaa))
    }

    /// Returns the nanoseconds from the query to the reply that was accepted.
    pub(super) fn reply_time(&self, times: &TimeAxis) -> Option<i64> {
        Some(times.at(self.reply()?.recv_at)?.saturating_sub(times.at(self.sent_at)?))
    }

    /// Returns the question as text: the name and the type.
    pub(super) fn question(&self) -> String {
        format!("{} {}", self.name, self.kind.as_str())
    }

    pub(super) fn has_question_of(&self, other: &Self) -> bool {
        self.name == other.name && self.kind == other.kind
    }
}

impl State {
    fn of(record: &DnsQueryTrace) -> Self {
        let replies = &record.dns_reply_msgs;
        let was_waited_for = matches!(record.end_reason, Some(EndReason::Timeout | EndReason::Cancelled));
        if replies.iter().any(|reply| reply.ignored.is_empty()) {
            State::Answered
        } else if replies.iter().any(|reply| reply.truncated) {
            State::Truncated
        } else if !replies.is_empty() {
            State::Ignored
        } else if was_waited_for {
            State::Silent
        } else {
            State::Other
        }
    }
}
