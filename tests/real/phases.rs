//! The phases of a request beside those that curl measures, of the same servers, each held up for 100 ms.
//!
//! Noise only adds: of several runs the shortest time of each phase counts. Debian's curl cannot be told its
//! nameserver; it has a resolv.conf of its own in the client's namespace.

use std::fmt;
use std::time::Duration;

use nettrace::client::{Client, HttpVersion};
use nettrace::tls::Roots;
use nettrace::{NetTrace, Timings, TraceSink};

use crate::support::check;
use crate::support::curl::{Curl, Report};
use crate::support::need::{need_lab, need_tool};
use crate::support::pki::Authority;
use crate::support::slow::{Phases, Slow};

const DELAY: Duration = Duration::from_millis(100);
/// What two programs may differ by, on a busy machine too.
const NOISE: Duration = Duration::from_millis(60);
const RUNS: usize = 3;

#[test]
fn alone_all_phases_held_up() {
    need_lab!();
    need_tool!("nginx", "dnsmasq", "curl");
    let site = SlowSite::start(Phases::each(DELAY));
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        let (ours, curls) = site.measure(version, 1);
        assert_alike(&ours, &curls);
        for phase in [Phase::Dns, Phase::Connect, Phase::Tls, Phase::Wait, Phase::Receive] {
            assert!(ours.is_held_up(phase), "{phase:?} of ours: {ours}");
            assert!(curls.is_held_up(phase), "{phase:?} of curl's: {curls}");
        }
    }
}

#[test]
fn alone_one_phase_held_up() {
    need_lab!();
    need_tool!("nginx", "dnsmasq", "curl");
    let none = Phases::default();
    for (held_up, phases) in [
        (Phase::Dns, Phases { dns: DELAY, ..none }),
        (Phase::Connect, Phases { accept: DELAY, ..none }),
        (Phase::Tls, Phases { tls: DELAY, ..none }),
        (Phase::Wait, Phases { header: DELAY, ..none }),
        (Phase::Receive, Phases { body: DELAY, ..none }),
    ] {
        let site = SlowSite::start(phases);
        for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
            let (ours, curls) = site.measure(version, 1);
            assert_alike(&ours, &curls);
            for (whose, phases) in [("ours", &ours), ("curl's", &curls)] {
                for phase in Phase::ALL {
                    let expected = phase == held_up;
                    assert_eq!(phases.is_held_up(phase), expected, "{phase:?} of {whose}: {phases}");
                }
            }
        }
    }
}

/// The second request finds the connection open: what came before it took time only for the first.
#[test]
fn alone_a_connection_used_again() {
    need_lab!();
    need_tool!("nginx", "dnsmasq", "curl");
    let site = SlowSite::start(Phases::each(DELAY));
    let (ours, curls) = site.measure(HttpVersion::Http1Only, 2);
    assert_alike(&ours, &curls);
    for (whose, phases) in [("ours", &ours), ("curl's", &curls)] {
        for phase in Phase::ALL {
            let expected = [Phase::Wait, Phase::Receive].contains(&phase);
            assert_eq!(phases.is_held_up(phase), expected, "{phase:?} of {whose}: {phases}");
        }
    }
}

#[track_caller]
fn assert_alike(ours: &Measured, curls: &Measured) {
    for phase in Phase::ALL {
        let difference = ours.of(phase).abs_diff(curls.of(phase));
        assert!(difference < NOISE, "{phase:?} differs by {difference:?}: ours {ours}, curl's {curls}");
    }
    let difference = ours.total.abs_diff(curls.total);
    assert!(difference < NOISE, "the whole differs by {difference:?}: ours {ours}, curl's {curls}");
}

struct SlowSite {
    slow: Slow,
    authority: Authority,
}

impl SlowSite {
    #[track_caller]
    fn start(phases: Phases) -> Self {
        let authority = Authority::new("nettrace test CA");
        let leaf = authority.issue(&[Slow::HOST]);
        Self { slow: Slow::start(phases, &leaf.pem, &leaf.key_pem()), authority }
    }

    /// The last of so many requests, one after the other: the shortest times of several runs, ours and curl's.
    #[track_caller]
    fn measure(&self, version: HttpVersion, requests: usize) -> (Measured, Measured) {
        let last = requests - 1;
        let ours = (0..RUNS).map(|_| Measured::ours(&self.fetch(version, requests), last));
        let curl = || (1..requests).fold(self.curl(version), |curl, _| curl.then(Slow::URL));
        let curls = (0..RUNS).map(|_| Measured::curls(&curl().run_all()[last]));
        let shortest = Measured::shortest;
        (ours.reduce(shortest).expect("runs"), curls.reduce(shortest).expect("runs"))
    }

    #[track_caller]
    fn fetch(&self, version: HttpVersion, requests: usize) -> NetTrace {
        let trace = self.slow.net.client.block_on(async {
            let sink = TraceSink::new();
            let client = Client::builder(&sink)
                .roots(Roots::from_pem(self.authority.pem()).expect("a good certificate"))
                .nameservers([self.slow.nameserver])
                .http_version(version)
                .build()
                .expect("a client");
            for _ in 0..requests {
                let response = client.get(Slow::URL).await.expect("a response");
                assert_eq!(response.into_body().bytes().await.expect("a body"), Slow::BODY);
            }
            client.close().await;
            sink.snapshot("slow")
        });
        check::finished(&trace);
        trace
    }

    #[track_caller]
    fn curl(&self, version: HttpVersion) -> Curl {
        let version = if version == HttpVersion::Http1Only { "--http1.1" } else { "--http2" };
        Curl::new(Slow::URL)
            .args([version])
            .cacert(&self.authority.pem())
            .nameserver(self.slow.nameserver.ip())
            .in_ns(&self.slow.net.client)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Dns,
    Connect,
    Tls,
    Send,
    Wait,
    Receive,
}

impl Phase {
    const ALL: [Phase; 6] =
        [Phase::Dns, Phase::Connect, Phase::Tls, Phase::Send, Phase::Wait, Phase::Receive];
}

/// What somebody measured, by [`Phase`].
struct Measured {
    phases: [Duration; 6],
    total: Duration,
}

impl Measured {
    #[track_caller]
    fn ours(trace: &NetTrace, request: usize) -> Self {
        let Timings { dns, connect, tls, send, wait, receive, total, .. } =
            trace.http_requests[request].timings(trace);
        let phases = [dns, connect, tls, send, wait, receive].map(Option::unwrap_or_default);
        Self { phases, total: total.expect("it has ended") }
    }

    /// curl counts from its start, and says 0 of what it did not do again.
    #[track_caller]
    fn curls(report: &Report) -> Self {
        assert_eq!((report.http_code, report.body.as_slice()), (200, Slow::BODY), "{report:?}");
        let mut before = 0.0;
        let phases = [
            report.time_namelookup,
            report.time_connect,
            report.time_appconnect,
            report.time_pretransfer,
            report.time_starttransfer,
            report.time_total,
        ];
        let phases = phases.map(|end| {
            let length = f64::max(end - before, 0.0);
            before += length;
            Duration::from_secs_f64(length)
        });
        Self { phases, total: Duration::from_secs_f64(report.time_total) }
    }

    fn shortest(self, other: Self) -> Self {
        let phases = Phase::ALL.map(|phase| self.of(phase).min(other.of(phase)));
        Self { phases, total: self.total.min(other.total) }
    }

    fn of(&self, phase: Phase) -> Duration {
        self.phases[phase as usize]
    }

    fn is_held_up(&self, phase: Phase) -> bool {
        // The server begins to hold the body up when it sends the header, which is seen a little later.
        let late = if phase == Phase::Receive { NOISE / 2 } else { Duration::ZERO };
        self.of(phase) >= DELAY - late
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for phase in Phase::ALL {
            write!(f, "{phase:?} {:.1?} ", self.of(phase))?;
        }
        write!(f, "total {:.1?}", self.total)
    }
}
