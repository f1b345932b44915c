//! For the benches: what is recorded when a nameserver is asked, without asking one.

use super::{
    message::{Family, Query, Question, Reply},
    to_record,
};
use crate::{
    bench_support::{address, exchange},
    sink::TraceSink,
};
use hickory_proto::{ProtoError, rr::Name};

/// A query and its reply.
#[derive(Debug)]
pub struct Exchange {
    question: Question,
    query: Query,
    reply: Reply<'static>,
}

impl Exchange {
    /// `reply` as it comes from the wire. It is never freed.
    pub fn new(name: &str, reply: &[u8]) -> Result<Self, ProtoError> {
        let question = Question { name: Name::from_ascii(name)?, family: Family::V4 };
        let query = Query::new(&question, Some(1232), false)?;
        Ok(Exchange { question, query, reply: Reply::decode(reply.to_vec().leak()) })
    }

    /// One UDP socket, and over it a message each way.
    pub fn record(&self, sink: &TraceSink) {
        let mut conn = sink.lookup().resolver_dial(address(53, 53)).udp(address(2, 40_000));
        let mut dns = conn.dns();
        dns.query(|| to_record::query(&self.query, &self.question));
        dns.reply(|| "".into(), |answers, ignored| to_record::reply(&self.reply, answers, ignored));
        exchange(&mut conn, self.query.wire.len(), self.reply.size);
        dns.done();
    }
}
