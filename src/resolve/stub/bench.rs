//! For benchmarks: records an exchange with a nameserver without a network.

use super::{
    message::{Query, QueryType, Question, Reply},
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
    /// Takes an encoded reply, which is leaked.
    pub fn new(name: &str, reply: &[u8]) -> Result<Self, ProtoError> {
        let question = Question { name: Name::from_ascii(name)?, query_type: QueryType::A };
        let query = Query::new(&question, Some(1232), false)?;
        Ok(Exchange { question, query, reply: Reply::decode(reply.to_vec().leak()) })
    }

    /// Records a UDP connection with the query and the reply.
    pub fn record(&self, sink: &TraceSink) {
        let mut conn =
            sink.lookup().resolver_dial(&address(53, 53).into()).udp(address(2, 40_000), address(53, 53));
        let mut dns = conn.dns();
        dns.query(|| to_record::query(&self.query, &self.question));
        dns.reply(|| "".into(), |answers, ignored| to_record::reply(&self.reply, answers, ignored));
        exchange(&mut conn, self.query.wire.len(), self.reply.size);
        dns.done();
    }
}
