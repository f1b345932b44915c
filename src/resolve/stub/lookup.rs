//! A lookup over the network: the candidate names of a host, each with the address families that are wanted.
//!
//! For each question [`QueryPlan`] decides which nameserver is asked next, and [`Exchange`] asks it.

use std::{
    future::pending,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Mutex,
};

use futures_util::{
    FutureExt,
    future::{Either, join, select},
};
use hickory_proto::rr::Name;

use super::{
    config::Config,
    exchange::Exchange,
    host_name,
    message::{QueryType, Question},
    options::{IpStrategy, Options, SkipNameserver},
    policy::QueryPlan,
};
use crate::{
    error::{LookupError, ResolveErrorKind as Kind},
    nameserver::Nameserver,
    sync::IgnorePoison,
};

/// The lookup of one host.
#[derive(Debug)]
pub(super) struct Lookup<'a> {
    config: &'a Config,
    strategy: IpStrategy,
    skip: Option<&'a SkipNameserver>,
    https_records: bool,
    /// Index of the nameserver to begin with.
    first_server: usize,
    exchange: Exchange,
    /// The nameservers that were skipped, each once, with the reason.
    skipped: Mutex<Vec<(SocketAddr, String)>>,
}

type Outcome = Result<Vec<IpAddr>, LookupError>;

impl<'a> Lookup<'a> {
    pub(super) fn new(
        config: &'a Config,
        options: &'a Options,
        first_server: usize,
        exchange: Exchange,
    ) -> Self {
        let strategy = match options.strategy {
            IpStrategy::Both if config.no_aaaa => IpStrategy::Ipv4Only,
            strategy => strategy,
        };
        let Options { skip, https_records, .. } = options;
        Self {
            config,
            strategy,
            skip: skip.as_ref(),
            https_records: *https_records,
            first_server,
            exchange,
            skipped: Mutex::default(),
        }
    }

    /// Returns the addresses of the first candidate name that has any, in the nameserver's order.
    ///
    /// If none has, the error is that of the host as given, or else that of the last candidate.
    pub(super) async fn host(&self, host: &str) -> Outcome {
        let error = |kind| LookupError { kind, nameserver: None };
        if self.config.nameservers.is_empty() {
            return Err(error(Kind::NoNameservers));
        }
        let mut last_error = error(Kind::Withheld);
        let mut own_error = None;
        for name in host_name::candidates(host, &self.config.search, self.config.ndots) {
            match self.name(&name).await {
                Ok(addresses) => return Ok(addresses),
                Err(error) if matches!(error.kind, Kind::Skipped(_)) => return Err(error),
                Err(error) if is_absolute_form(&name, host) => own_error = Some(error),
                Err(error) => last_error = error,
            }
        }
        Err(own_error.unwrap_or(last_error))
    }

    /// Asks for the addresses of one name.
    async fn name(&self, name: &str) -> Outcome {
        let name = Name::from_ascii(name).map_err(|_| LookupError {
            kind: Kind::InvalidName("the name cannot be encoded"),
            nameserver: None,
        })?;
        if !self.https_records {
            return self.addresses(name).await;
        }
        // Nobody uses the HTTPS records: whatever comes of them, the lookup ends with the addresses.
        let only_recorded = async {
            let _ = self.question(Question { name: name.clone(), query_type: QueryType::Https }).await;
            pending::<Outcome>().await
        };
        match select(pin!(self.addresses(name.clone())), pin!(only_recorded)).await {
            Either::Left((outcome, only_recorded)) => {
                // The reply may have come at the same time.
                let _ = only_recorded.now_or_never();
                outcome
            }
            Either::Right((outcome, _)) => outcome,
        }
    }

    async fn addresses(&self, name: Name) -> Outcome {
        let query = |query_type| self.question(Question { name: name.clone(), query_type });
        let (v4, v6) = match self.strategy {
            IpStrategy::Ipv4Only => return query(QueryType::A).await,
            IpStrategy::Ipv6Only => return query(QueryType::Aaaa).await,
            IpStrategy::Both if self.config.single_request => {
                let v4 = query(QueryType::A).await;
                (v4, query(QueryType::Aaaa).await)
            }
            IpStrategy::Both => join(query(QueryType::A), query(QueryType::Aaaa)).await,
        };
        both(v4, v6)
    }

    /// Asks nameservers until one gives a final answer.
    async fn question(&self, question: Question) -> Outcome {
        let mut plan =
            QueryPlan::new(self.config, self.first_server, self.exchange.udp_payload_size.is_some());
        while let Some(attempt) = plan.next(|server| self.skips(server)) {
            let outcome = self.exchange.run(&attempt, &question).await;
            plan.on_outcome(attempt, outcome);
        }
        plan.finish().unwrap_or_else(|| {
            let skipped = self.skipped.lock().ignore_poison().clone();
            Err(LookupError { kind: Kind::Skipped(skipped), nameserver: None })
        })
    }

    /// Returns `true` if the program wants this nameserver to be skipped, which is recorded.
    fn skips(&self, server: &Nameserver) -> bool {
        // The addresses of a name are asked about when they are known.
        let (Some(skip), Some(server)) = (self.skip, server.addr()) else { return false };
        let Some(reason) = skip.call(server) else { return false };
        self.exchange.dial.skipped_nameserver(server, &reason);
        let mut skipped = self.skipped.lock().ignore_poison();
        if !skipped.iter().any(|(known, _)| *known == server) {
            skipped.push((server, reason));
        }
        true
    }
}

/// Returns `true` if `name` is `host` as given, made absolute.
fn is_absolute_form(name: &str, host: &str) -> bool {
    name.strip_suffix('.') == Some(host.strip_suffix('.').unwrap_or(host))
}

/// Combines the outcomes of both families. The addresses of one are enough.
///
/// Of two errors, the more informative one is returned: that the name does not exist, then that a nameserver could not
/// be asked, then that there is no address of a family.
fn both(v4: Outcome, v6: Outcome) -> Outcome {
    match (v4, v6) {
        (Ok(mut v4), Ok(v6)) => {
            v4.extend(v6);
            Ok(v4)
        }
        (Ok(addresses), Err(_)) | (Err(_), Ok(addresses)) => Ok(addresses),
        (Err(v4), Err(v6)) => Err(if rank(&v6) < rank(&v4) { v6 } else { v4 }),
    }
}

fn rank(error: &LookupError) -> u8 {
    match error.kind {
        Kind::NoSuchHost => 0,
        Kind::NoData => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: Kind) -> Outcome {
        Err(LookupError { kind, nameserver: None })
    }

    #[test]
    fn one_family_is_enough() {
        let (v4, v6): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [0xfe80, 0, 0, 0, 0, 0, 0, 1].into());
        assert_eq!(both(Ok(vec![v4]), Ok(vec![v6])).unwrap(), [v4, v6]);
        assert_eq!(both(Ok(vec![v4]), error(Kind::Timeout { ignored: None })).unwrap(), [v4]);
        assert_eq!(both(error(Kind::NoSuchHost), Ok(vec![v6])).unwrap(), [v6]);
    }

    #[test]
    fn the_more_informative_error_is_returned() {
        let timeout = || error(Kind::Timeout { ignored: None });
        let of = |v4, v6| both(v4, v6).unwrap_err().kind.failure();
        assert_eq!(of(timeout(), error(Kind::NoSuchHost)).as_str(), "dns_nxdomain_error");
        assert_eq!(of(error(Kind::NoData), timeout()).as_str(), "generic_timeout_error");
        assert_eq!(of(error(Kind::NoData), error(Kind::NoData)).as_str(), "dns_no_answer");
        assert_eq!(of(error(Kind::Server(2)), error(Kind::Server(5))).as_str(), "dns_servfail_error");
    }

    #[test]
    fn the_absolute_form_of_a_name_is_recognised() {
        assert!(is_absolute_form("web.test.", "web.test") && is_absolute_form("web.test.", "web.test."));
        assert!(!is_absolute_form("web.test.corp.", "web.test"));
    }
}
