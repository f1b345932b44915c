//! Which nameserver is asked next, and what its reply means, without I/O.
//!
//! The order is that of Go's resolver (net/dnsclient_unix.go). [`Lookup`](super::lookup::Lookup) takes attempts from a
//! [`QueryPlan`], performs them, and reports their outcomes to it.

use std::net::IpAddr;

use super::{
    config::Config,
    message::{QueryType, Question, Reply},
};
use crate::{
    error::{LookupError, ResolveErrorKind as Kind, rcode},
    nameserver::{Nameserver, NameserverKind},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
    /// The nameserver's own, TLS or HTTPS.
    #[cfg(feature = "encrypted-dns")]
    Encrypted,
}

/// One query to one nameserver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueryAttempt {
    pub(super) server: Nameserver,
    pub(super) transport: Transport,
    /// Whether the query has an OPT record.
    pub(super) edns: bool,
    /// Whether the query was sent before, on a connection that the nameserver had closed.
    #[cfg(feature = "encrypted-dns")]
    pub(super) is_repeated: bool,
}

/// The meaning of a reply.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Addresses(Vec<IpAddr>),
    /// The reply to a question that is only recorded.
    Recorded,
    /// The name does not exist; no other server needs to be asked.
    NoSuchHost,
    /// The name exists, but has no address of this family. No other server needs to be asked.
    NoData,
    /// The reply was truncated: the same server is asked over TCP.
    Truncated,
    /// The server may not understand the OPT record: it is asked again without one (RFC 6891 section 7).
    EdnsRefused(u16),
    /// Another response code: the next server is asked.
    ServerError(u16),
    /// The server neither knows the answer nor is willing to find it: the next one is asked.
    LameReferral,
}

impl Verdict {
    /// Returns the error to record for this query. Also for [`EdnsRefused`](Self::EdnsRefused), after which the lookup
    /// goes on.
    pub(super) fn error_kind(&self) -> Option<Kind> {
        match self {
            Self::Addresses(_) | Self::Recorded | Self::Truncated => None,
            Self::NoSuchHost => Some(Kind::NoSuchHost),
            Self::NoData => Some(Kind::NoData),
            Self::EdnsRefused(code) | Self::ServerError(code) => Some(Kind::Server(*code)),
            Self::LameReferral => Some(Kind::LameReferral),
        }
    }
}

/// Classifies a reply that matches its query.
pub(super) fn classify_reply(reply: &Reply, question: &Question, attempt: &QueryAttempt) -> Verdict {
    // A reply that is truncated even over TCP is used as it is.
    if reply.truncated && attempt.transport == Transport::Udp {
        return Verdict::Truncated;
    }
    match reply.rcode {
        rcode::NO_ERROR => {}
        rcode::NAME_ERROR => return Verdict::NoSuchHost,
        code @ (rcode::FORMAT_ERROR | rcode::NOT_IMPLEMENTED) if attempt.edns => {
            return Verdict::EdnsRefused(code);
        }
        code => return Verdict::ServerError(code),
    }
    if question.query_type == QueryType::Https {
        return Verdict::Recorded;
    }
    let addresses = reply.addresses(question);
    if !addresses.is_empty() {
        return Verdict::Addresses(addresses);
    }
    // Without answers, a reply that is neither authoritative nor recursive says nothing about the name. Go's resolver
    // (`checkHeader`) takes it for a lame referral only if the additional section is empty. This one also does so if
    // the authority section refers to other servers: an OPT record alone must not turn a referral into "no data".
    let knows_nothing = reply.answers.is_empty() && !reply.authoritative && !reply.recursion_available;
    if knows_nothing && (reply.refers || !reply.has_additionals) {
        return Verdict::LameReferral;
    }
    Verdict::NoData
}

/// The plan for one question: rounds of all servers in turn, until an answer is final. The number of rounds is the
/// option `attempts` of resolv.conf(5), which counts rounds and not [`QueryAttempt`]s.
#[derive(Debug)]
pub(super) struct QueryPlan {
    servers: Vec<Nameserver>,
    /// Whether all queries go over TCP (option `use-vc`).
    use_vc: bool,
    edns: bool,
    rounds_left: u32,
    /// Index of the next server in this round.
    next: usize,
    /// Whether a server was asked in this round. If all were skipped, another round is pointless.
    asked: bool,
    /// The next query, if the last server is to be asked again over TCP or without EDNS. It does not count as a round.
    retry: Option<QueryAttempt>,
    /// The final answer, or the last error so far.
    result: Option<Result<Vec<IpAddr>, LookupError>>,
}

impl QueryPlan {
    /// Creates the plan. `first_server` is the index of the server to begin with, modulo the number of servers (option
    /// `rotate`). `edns` says whether queries have an OPT record.
    pub(super) fn new(config: &Config, first_server: usize, edns: bool) -> Self {
        let mut servers = config.nameservers.clone();
        let len = servers.len().max(1);
        servers.rotate_left(first_server % len);
        Self {
            servers,
            use_vc: config.use_vc,
            edns,
            rounds_left: config.attempts,
            next: 0,
            asked: false,
            retry: None,
            result: None,
        }
    }

    /// Returns the next query to perform; `None` when there is none. `skip` is called with each server right before its
    /// turn, and returns `true` to leave it out.
    pub(super) fn next(&mut self, mut skip: impl FnMut(&Nameserver) -> bool) -> Option<QueryAttempt> {
        if let Some(attempt) = self.retry.take() {
            return Some(attempt);
        }
        while self.rounds_left > 0 {
            while let Some(server) = self.servers.get(self.next) {
                self.next += 1;
                if !skip(server) {
                    self.asked = true;
                    return Some(self.first_attempt(server.clone()));
                }
            }
            self.rounds_left = if self.asked { self.rounds_left - 1 } else { 0 };
            self.next = 0;
            self.asked = false;
        }
        None
    }

    fn first_attempt(&self, server: Nameserver) -> QueryAttempt {
        let transport = match &server.0 {
            #[cfg(feature = "encrypted-dns")]
            NameserverKind::Encrypted(_) => Transport::Encrypted,
            NameserverKind::Plain(_) if self.use_vc => Transport::Tcp,
            NameserverKind::Plain(_) => Transport::Udp,
        };
        QueryAttempt {
            server,
            transport,
            edns: self.edns,
            #[cfg(feature = "encrypted-dns")]
            is_repeated: false,
        }
    }

    /// Takes the outcome of `attempt`, and decides whether the same server is asked again, the next one, or none.
    pub(super) fn on_outcome(&mut self, attempt: QueryAttempt, outcome: Result<Verdict, Kind>) {
        let error = |kind| Err(LookupError { kind, nameserver: Some(attempt.server.clone()) });
        let (result, is_final) = match outcome {
            Ok(Verdict::Truncated) => {
                self.retry = Some(QueryAttempt { transport: Transport::Tcp, ..attempt });
                return;
            }
            Ok(Verdict::EdnsRefused(_)) => {
                self.retry = Some(QueryAttempt { edns: false, ..attempt });
                return;
            }
            #[cfg(feature = "encrypted-dns")]
            Err(kind) if kind.is_of_reused_connection() && !attempt.is_repeated => {
                self.retry = Some(QueryAttempt { is_repeated: true, ..attempt });
                return;
            }
            Ok(Verdict::Addresses(addresses)) => (Ok(addresses), true),
            Ok(Verdict::Recorded) => (Ok(Vec::new()), true),
            Ok(Verdict::NoSuchHost) => (error(Kind::NoSuchHost), true),
            Ok(Verdict::NoData) => (error(Kind::NoData), true),
            Ok(Verdict::ServerError(code)) => (error(Kind::Server(code)), false),
            Ok(Verdict::LameReferral) => (error(Kind::LameReferral), false),
            Err(kind) => (error(kind), false),
        };
        self.result = Some(result);
        if is_final {
            self.rounds_left = 0;
        }
    }

    /// Returns the final answer, or else the last error; `None` if no server was asked.
    pub(super) fn finish(self) -> Option<Result<Vec<IpAddr>, LookupError>> {
        self.result
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const ONE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 53);
    const TWO: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 53);

    fn config() -> Config {
        let mut config = Config::parse(None);
        config.nameservers = vec![ONE.into(), TWO.into()];
        config
    }

    fn plan() -> QueryPlan {
        QueryPlan::new(&config(), 0, true)
    }

    fn udp(server: SocketAddr) -> QueryAttempt {
        QueryAttempt {
            server: server.into(),
            transport: Transport::Udp,
            edns: true,
            #[cfg(feature = "encrypted-dns")]
            is_repeated: false,
        }
    }

    fn timeout() -> Result<Verdict, Kind> {
        Err(Kind::Timeout { ignored: None })
    }

    fn addresses() -> Verdict {
        Verdict::Addresses(vec![[192, 0, 2, 1].into()])
    }

    /// Feeds outcomes in turn and returns the attempts.
    fn run(
        plan: &mut QueryPlan,
        outcomes: impl IntoIterator<Item = Result<Verdict, Kind>>,
    ) -> Vec<QueryAttempt> {
        let mut asked = Vec::new();
        for outcome in outcomes {
            let attempt = plan.next(|_| false).expect("another attempt");
            asked.push(attempt.clone());
            plan.on_outcome(attempt, outcome);
        }
        asked
    }

    #[test]
    fn each_round_queries_all_servers_in_turn() {
        let mut plan = plan();
        let asked =
            run(&mut plan, [timeout(), Ok(Verdict::ServerError(2)), Ok(Verdict::LameReferral), timeout()]);
        assert_eq!(asked, [udp(ONE), udp(TWO), udp(ONE), udp(TWO)]);
        assert_eq!(plan.next(|_| false), None);
        let error = plan.finish().unwrap().unwrap_err();
        assert!(matches!(error.kind, Kind::Timeout { .. }));
        assert_eq!(error.nameserver, Some(TWO.into()));
    }

    #[test]
    fn final_answers_end_the_plan() {
        for verdict in [addresses(), Verdict::NoSuchHost, Verdict::NoData] {
            let mut plan = plan();
            run(&mut plan, [Ok(verdict)]);
            assert_eq!(plan.next(|_| false), None);
            assert!(plan.finish().is_some());
        }
    }

    #[test]
    fn an_answer_after_failures_is_returned() {
        let mut plan = plan();
        run(&mut plan, [timeout(), Ok(addresses())]);
        assert_eq!(plan.next(|_| false), None);
        assert_eq!(plan.finish().unwrap().unwrap().len(), 1);
    }

    #[test]
    fn truncated_replies_are_requested_over_tcp() {
        let mut plan = plan();
        let asked = run(&mut plan, [Ok(Verdict::Truncated), timeout(), Ok(addresses())]);
        assert_eq!(asked, [udp(ONE), QueryAttempt { transport: Transport::Tcp, ..udp(ONE) }, udp(TWO)]);
    }

    #[test]
    fn a_server_that_refuses_edns_is_queried_once_without_it() {
        let mut plan = plan();
        let asked = run(&mut plan, [Ok(Verdict::EdnsRefused(1)), Ok(Verdict::Truncated), Ok(addresses())]);
        let plain = QueryAttempt { edns: false, ..udp(ONE) };
        assert_eq!(
            asked,
            [udp(ONE), plain.clone(), QueryAttempt { transport: Transport::Tcp, ..plain.clone() }]
        );
    }

    #[test]
    fn servers_are_rotated_and_tcp_forced() {
        let config = Config { use_vc: true, attempts: 1, ..config() };
        let mut plan = QueryPlan::new(&config, 3, false);
        let asked = run(&mut plan, [timeout(), timeout()]);
        let tcp = |server| QueryAttempt { transport: Transport::Tcp, edns: false, ..udp(server) };
        assert_eq!(asked, [tcp(TWO), tcp(ONE)]);
        assert_eq!(plan.next(|_| false), None);
    }

    #[test]
    fn skipped_servers_are_not_queried() {
        let mut plan = plan();
        assert_eq!(plan.next(|server| *server == ONE), Some(udp(TWO)));
        plan.on_outcome(udp(TWO), timeout());
        assert_eq!(plan.next(|_| true), None, "no server is left in the second round");
        assert!(plan.finish().unwrap().is_err());

        let mut calls = 0;
        let mut plan = super::tests::plan();
        let skip_all = |_: &Nameserver| {
            calls += 1;
            true
        };
        assert_eq!(plan.next(skip_all), None);
        assert_eq!(calls, 2, "one round is enough");
        assert!(plan.finish().is_none());
    }

    #[cfg(feature = "encrypted-dns")]
    mod encrypted {
        use super::*;

        const TLS: &str = "tls://10.0.0.3#dns.test";

        fn plan() -> QueryPlan {
            let mut config = config();
            config.nameservers.insert(0, TLS.parse().unwrap());
            QueryPlan::new(&Config { use_vc: true, attempts: 1, ..config }, 0, true)
        }

        fn attempt() -> QueryAttempt {
            QueryAttempt { server: TLS.parse().unwrap(), transport: Transport::Encrypted, ..udp(ONE) }
        }

        fn closed() -> Result<Verdict, Kind> {
            let eof = Kind::Io(std::io::ErrorKind::UnexpectedEof.into());
            Err(Kind::ReusedConnection(Box::new(eof)))
        }

        #[test]
        fn encrypted_servers_are_only_asked_over_their_transport() {
            let mut plan = plan();
            let asked = run(&mut plan, [timeout(), timeout(), timeout()]);
            assert_eq!(asked[0], attempt());
            assert!(asked[1..].iter().all(|attempt| attempt.transport == Transport::Tcp));
            assert_eq!(plan.next(|_| false), None);
        }

        #[test]
        fn a_query_on_a_closed_connection_is_repeated_once() {
            let mut plan = plan();
            let asked = run(&mut plan, [closed(), closed(), timeout()]);
            assert_eq!(asked[..2], [attempt(), QueryAttempt { is_repeated: true, ..attempt() }]);
            assert_eq!(asked[2].server, ONE);
        }
    }

    mod classification {
        use super::*;
        use crate::resolve::stub::message::{Query, QueryType};
        use hickory_proto::{
            op::{Edns, Message, OpCode, ResponseCode},
            rr::{Name, RData, Record, rdata},
        };

        fn name(text: &str) -> Name {
            Name::from_ascii(text).unwrap()
        }

        fn verdict(attempt: QueryAttempt, change: impl FnOnce(&mut Message)) -> Verdict {
            let question = Question { name: name("www.test."), query_type: QueryType::A };
            let query = Query::new(&question, None, false).unwrap();
            let mut message = Message::from_vec(&query.wire).unwrap().into_response();
            assert_eq!(message.metadata.op_code, OpCode::Query);
            message.metadata.recursion_available = true;
            change(&mut message);
            let wire = message.to_vec().unwrap();
            let reply = Reply::decode(&wire);
            assert_eq!(reply.mismatch(&query, &question), None);
            classify_reply(&reply, &question, &attempt)
        }

        fn code(code: ResponseCode) -> Verdict {
            verdict(udp(ONE), |m| m.metadata.response_code = code)
        }

        #[test]
        fn response_codes_are_classified() {
            assert_eq!(code(ResponseCode::NXDomain), Verdict::NoSuchHost);
            assert_eq!(code(ResponseCode::ServFail), Verdict::ServerError(2));
            assert_eq!(code(ResponseCode::Refused), Verdict::ServerError(5));
            assert_eq!(code(ResponseCode::FormErr), Verdict::EdnsRefused(1));
            assert_eq!(code(ResponseCode::NotImp), Verdict::EdnsRefused(4));
            let plain = QueryAttempt { edns: false, ..udp(ONE) };
            let formerr = verdict(plain, |m| m.metadata.response_code = ResponseCode::FormErr);
            assert_eq!(formerr, Verdict::ServerError(1));
        }

        #[test]
        fn truncation_over_tcp_is_ignored() {
            let cut = |m: &mut Message| m.metadata.truncation = true;
            assert_eq!(verdict(udp(ONE), cut), Verdict::Truncated);
            assert_eq!(verdict(QueryAttempt { transport: Transport::Tcp, ..udp(ONE) }, cut), Verdict::NoData);
        }

        #[test]
        fn lame_referrals_are_recognised() {
            let ns = || Record::from_rdata(name("test."), 60, RData::NS(rdata::NS(name("ns.test."))));
            let no_recursion = |m: &mut Message| m.metadata.recursion_available = false;
            assert_eq!(verdict(udp(ONE), |_| ()), Verdict::NoData);
            assert_eq!(verdict(udp(ONE), no_recursion), Verdict::LameReferral);
            let with_edns = |m: &mut Message| {
                no_recursion(m);
                m.set_edns(Edns::new());
            };
            assert_eq!(verdict(udp(ONE), with_edns), Verdict::NoData);
            let referral = |m: &mut Message| {
                with_edns(m);
                m.add_authority(ns());
            };
            assert_eq!(verdict(udp(ONE), referral), Verdict::LameReferral);
            let authoritative = |m: &mut Message| {
                no_recursion(m);
                m.metadata.authoritative = true;
            };
            assert_eq!(verdict(udp(ONE), authoritative), Verdict::NoData);
        }
    }
}
