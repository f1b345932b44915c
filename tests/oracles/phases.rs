//! The phases of a request, delayed by 100 ms each, compared with those that curl measures.
//!
//! Noise only adds delay, so the earliest end of each phase over several runs is compared. Debian's curl has no option
//! for the nameserver; it reads a resolv.conf of its own in the client's namespace.

use std::fmt;
use std::time::Duration;

use nettrace::client::{Client, HttpVersion};
use nettrace::tls::Roots;
use nettrace::{NetTrace, Timings, TraceSink};

use test_support::check;
use test_support::curl::{Curl, Report};
use test_support::pki::Authority;
use test_support::require::{require_lab, require_tool};
use test_support::slow::{Phases, Slow};

const DELAY: Duration = Duration::from_millis(100);
/// The tolerated difference between two programs on a busy machine.
const NOISE: Duration = Duration::from_millis(60);
const RUNS: usize = 3;

#[test]
fn alone_delays_of_all_phases_are_measured() {
    require_lab!();
    require_tool!("nginx", "dnsmasq", "curl");
    let site = SlowSite::start(Phases::each(DELAY));
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        let (ours, curls) = site.measure(version, 1);
        assert_alike(&ours, &curls);
        for phase in [Phase::Dns, Phase::Connect, Phase::Tls, Phase::Wait, Phase::Receive] {
            assert!(ours.is_delayed(phase), "{phase:?} of ours: {ours}");
            assert!(curls.is_delayed(phase), "{phase:?} of curl's: {curls}");
        }
    }
}

#[test]
fn alone_a_delay_is_measured_in_its_phase_only() {
    require_lab!();
    require_tool!("nginx", "dnsmasq", "curl");
    let none = Phases::default();
    for (delayed, phases) in [
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
                    let expected = phase == delayed;
                    assert_eq!(phases.is_delayed(phase), expected, "{phase:?} of {whose}: {phases}");
                }
            }
        }
    }
}

/// The second request reuses the connection, so it has no phases for the lookup and the handshakes.
#[test]
fn alone_a_reused_connection_is_measured_without_its_setup() {
    require_lab!();
    require_tool!("nginx", "dnsmasq", "curl");
    let site = SlowSite::start(Phases::each(DELAY));
    let (ours, curls) = site.measure(HttpVersion::Http1Only, 2);
    assert_alike(&ours, &curls);
    for (whose, phases) in [("ours", &ours), ("curl's", &curls)] {
        for phase in Phase::ALL {
            let expected = [Phase::Wait, Phase::Receive].contains(&phase);
            assert_eq!(phases.is_delayed(phase), expected, "{phase:?} of {whose}: {phases}");
        }
    }
}

#[track_caller]
fn assert_alike(ours: &Measured, curls: &Measured) {
    for phase in Phase::ALL {
        let difference = ours.duration(phase).abs_diff(curls.duration(phase));
        assert!(difference < NOISE, "{phase:?} differs by {difference:?}: ours {ours}, curl's {curls}");
    }
    let difference = ours.total().abs_diff(curls.total());
    assert!(difference < NOISE, "the total differs by {difference:?}: ours {ours}, curl's {curls}");
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

    /// Measures the last of `requests` sequential requests, made by nettrace and by curl. Returns the earliest ends of
    /// [`RUNS`] runs each.
    #[track_caller]
    fn measure(&self, version: HttpVersion, requests: usize) -> (Measured, Measured) {
        let last = requests - 1;
        let ours = (0..RUNS).map(|_| Measured::ours(&self.fetch(version, requests), last));
        let curl = || (1..requests).fold(self.curl(version), |curl, _| curl.then(Slow::URL));
        let curls = (0..RUNS).map(|_| Measured::curls(&curl().run_all()[last]));
        let earliest = Measured::earliest;
        (ours.reduce(earliest).expect("runs"), curls.reduce(earliest).expect("runs"))
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

/// The end of each [`Phase`], since the start of the request. A phase that did not happen has no duration.
struct Measured {
    ends: [Duration; 6],
}

impl Measured {
    #[track_caller]
    fn ours(trace: &NetTrace, request: usize) -> Self {
        let Timings { blocked, dns, connect, tls, send, wait, receive, .. } =
            trace.http_requests[request].timings(trace);
        let mut now = blocked.expect("the request had a connection");
        let ends = [dns, connect, tls, send, wait, receive].map(|phase| {
            now += phase.unwrap_or_default();
            now
        });
        Self { ends }
    }

    #[track_caller]
    fn curls(report: &Report) -> Self {
        assert_eq!((report.http_code, report.body.as_slice()), (200, Slow::BODY), "{report:?}");
        let ends = [
            report.time_namelookup,
            report.time_connect,
            report.time_appconnect,
            report.time_pretransfer,
            report.time_starttransfer,
            report.time_total,
        ];
        let mut now = 0.0;
        let ends = ends.map(|end| {
            now = f64::max(now, end); // curl reports 0 for a phase that did not happen
            Duration::from_secs_f64(now)
        });
        Self { ends }
    }

    fn earliest(self, other: Self) -> Self {
        Self { ends: Phase::ALL.map(|phase| self.ends[phase as usize].min(other.ends[phase as usize])) }
    }

    fn duration(&self, phase: Phase) -> Duration {
        let begin = (phase as usize).checked_sub(1).map_or(Duration::ZERO, |before| self.ends[before]);
        self.ends[phase as usize] - begin
    }

    fn total(&self) -> Duration {
        self.ends[Phase::Receive as usize]
    }

    fn is_delayed(&self, phase: Phase) -> bool {
        // The server's delay of the body begins when it sends the header, which the client receives a little later.
        let late = if phase == Phase::Receive { NOISE / 2 } else { Duration::ZERO };
        self.duration(phase) >= DELAY - late
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for phase in Phase::ALL {
            write!(f, "{phase:?} {:.1?} ", self.duration(phase))?;
        }
        write!(f, "total {:.1?}", self.total())
    }
}
