//! Problems are reported once, with a remedy, and do not affect requests.

use std::process::Command;
use std::time::Duration;

use nettrace::linux::{ConntrackProbe, ConntrackProblem};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::{client, conn_to, entry, fetch, probed, refreshed, server, track};
use test_support::check;
use test_support::lab::{Ns, Routed};
use test_support::require::{require_lab, require_tool, skip};
use test_support::{process, raw};

/// Returns the command that the problem's message recommends.
fn remedy(problem: &ConntrackProblem) -> String {
    let text = problem.to_string();
    assert!(!text.contains('\n'), "one line: {text}");
    let (_, after) = text.split_once('`').unwrap_or_else(|| panic!("no command in {text}"));
    after.split_once('`').expect("a closing backtick").0.to_owned()
}

#[test]
fn each_remedy_solves_its_problem() {
    require_lab!();
    require_tool!("sysctl");
    let net = Routed::new();
    let _server = server(&net, Routed::SERVER.v4.into());
    net.client.block_on(async {
        let (probe, sink) = probed();
        let mut expected = vec![];
        for new in [
            &[ConntrackProblem::NotTracked][..],
            &[ConntrackProblem::NoCounters, ConntrackProblem::NoTimestamps],
            &[],
        ] {
            for _ in 0..3 {
                let client = client(&sink).build().unwrap();
                fetch(&client, "http://10.9.2.2/").await;
                client.close().await;
                sink.refresh().await;
            }
            expected.extend_from_slice(new);
            assert_eq!(probe.problems(), expected);
            for problem in new {
                net.client.sh(&remedy(problem));
            }
        }
        let trace = sink.snapshot("all");
        check::finished(&trace);
        let entries: Vec<_> = trace.tcp_conns.iter().map(|conn| conn.conntrack.as_deref()).collect();
        assert!(entries[..3].iter().all(Option::is_none));
        assert!(
            entries[3..6]
                .iter()
                .flatten()
                .all(|entry| entry.packets_sent == 0 && entry.start_at.is_undefined())
        );
        assert!(
            entries[6..]
                .iter()
                .flatten()
                .all(|entry| entry.packets_sent > 0 && !entry.start_at.is_undefined())
        );
        assert_eq!(entries.iter().flatten().count(), 6);
    });
}

#[test]
fn a_missing_capability_is_reported() {
    require_lab!();
    let net = Routed::new();
    track(&net.client);
    let _server = server(&net, Routed::SERVER.v4.into());
    net.client.run(|| {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::NET_ADMIN);
        set_capabilities(None, sets).unwrap();
        let (probe, sink) = probed();
        assert_eq!(probe.problems(), [ConntrackProblem::NotPermitted]);
        let text = probe.problems()[0].to_string();
        assert!(text.contains("CAP_NET_ADMIN") && text.contains("setcap") && !text.contains('\n'), "{text}");
        // New threads, the client's and the runtime's, inherit the reduced capabilities.
        test_support::background::runtime().block_on(async {
            let client = client(&sink).build().unwrap();
            fetch(&client, "http://10.9.2.2/").await;
            client.close().await;
            let trace = refreshed(&sink).await;
            check::finished(&trace);
            assert!(conn_to(&trace, 80).conntrack.is_none());
            assert_eq!(probe.problems(), [ConntrackProblem::NotPermitted]);
        });
    });
}

/// The probe needs no root in a user namespace that has a network namespace of its own.
#[test]
fn a_probe_works_in_a_user_namespace() {
    require_tool!("unshare", "setpriv", "nft", "ip", "sysctl");
    let in_user_namespace = |program: &mut Command| {
        program.args(["unshare", "-Urn", "--"]);
    };
    let mut list_ruleset = Command::new("setpriv");
    list_ruleset.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    in_user_namespace(&mut list_ruleset);
    let listed = process::run(
        {
            list_ruleset.args(["nft", "list", "ruleset"]);
            list_ruleset
        },
        Duration::from_secs(30),
    );
    if !listed.status.success() {
        skip(
            file!(),
            line!(),
            &format!("users other than root cannot create user namespaces: {}", listed.stderr),
        );
        return;
    }
    let mut test = Command::new("setpriv");
    test.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    in_user_namespace(&mut test);
    test.arg(std::env::current_exe().expect("this program"));
    test.args([
        "--exact",
        "conntrack::problems::helper_a_probe_works_in_a_user_namespace",
        "--ignored",
        "--nocapture",
    ]);
    let output = process::run(test, Duration::from_secs(60)).success();
    assert!(output.contains("1 passed"), "{output}");
}

#[test]
#[ignore = "a_probe_works_in_a_user_namespace runs it there"]
fn helper_a_probe_works_in_a_user_namespace() {
    let here = Ns::here();
    here.sh("ip link set lo up");
    track(&here);
    let server = raw::Server::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    here.block_on(async {
        let (probe, sink) = probed();
        let client = client(&sink).build().unwrap();
        fetch(&client, &format!("http://{}/", server.addr())).await;
        let trace = refreshed(&sink).await;
        let entry = entry(conn_to(&trace, server.addr().port()));
        assert_eq!(entry.tcp_state.as_str(), "established");
        assert!(entry.packets_sent > 0);
        assert_eq!(probe.problems(), []);
        assert_eq!(ConntrackProbe::default().problems(), []);
    });
}
