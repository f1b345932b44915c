//! Runs every example without arguments: it sends requests to its own server, and the trace that it writes has all
//! links.
#![cfg(all(
    feature = "client",
    feature = "explain",
    feature = "reqwest",
    feature = "ring",
    feature = "server",
    feature = "tonic"
))]

use std::{env, fs, path::PathBuf, process::Command, time::Duration};

use nettrace::NetTrace;
use nettrace::record::TcpConnTrace;

use test_support::{check, process, process::Daemon};

/// The records that the trace of an example must have.
#[derive(Default)]
struct Expected {
    methods: &'static [&'static str],
    tunnels: usize,
    /// Whether a server recorded the trace.
    accepted: bool,
}

#[test]
fn get_writes_a_complete_trace() {
    assert_trace("get", Expected { methods: &["GET"], ..Expected::default() });
}

#[test]
fn wrap_connector_writes_a_complete_trace() {
    assert_trace("wrap_connector", Expected { methods: &["GET"], ..Expected::default() });
}

#[test]
fn hyper_pool_writes_a_complete_trace() {
    assert_trace("hyper_pool", Expected { methods: &["GET", "GET", "GET"], ..Expected::default() });
}

#[test]
fn proxy_writes_a_complete_trace() {
    assert_trace(
        "proxy",
        Expected { methods: &["CONNECT", "GET", "GET"], tunnels: 1, ..Expected::default() },
    );
}

#[test]
fn tonic_writes_a_complete_trace() {
    assert_trace("tonic", Expected { methods: &["POST", "POST", "POST"], ..Expected::default() });
}

#[test]
fn reqwest_writes_a_complete_trace() {
    assert_trace("reqwest", Expected { methods: &["GET", "GET"], ..Expected::default() });
}

#[test]
fn postgres_writes_a_complete_trace() {
    assert_trace("postgres", Expected::default());
}

#[test]
fn websocket_writes_a_complete_trace() {
    assert_trace("websocket", Expected { methods: &["GET"], ..Expected::default() });
}

#[test]
fn server_writes_a_complete_trace() {
    assert_trace("server", Expected { methods: &["POST", "POST"], tunnels: 1, accepted: true });
}

/// A screen is enough to see what is wrong with each of three dependencies.
#[test]
fn incident_names_the_cause_of_each_dependency() {
    let trace = run("incident");
    check::running(&trace);
    let explanation = nettrace::explain::explain(&trace);
    let roots: Vec<_> =
        explanation.findings.iter().map(|finding| (finding.code.as_str(), finding.count)).collect();
    // Behind them it may say that connections are not reused, which is so here.
    assert_eq!(roots[..3], [("tls_expired", 30), ("tcp_reset", 6), ("dns_first_server_dead", 30)]);
    let screen = format!("{}\n{explanation}", nettrace::view::summary(&trace));
    assert!(screen.lines().count() < 50, "{screen}");
}

/// A signal to a running program is enough to get its trace.
#[test]
fn dump_writes_the_trace_when_it_gets_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("dump"));
    command.arg(dir.path()).env("NO_PROXY", "*").env_remove("no_proxy");
    let running = Daemon::spawn(command).unwrap();
    running.line("dumps to", process::READY).unwrap();
    signal(running.pid(), "USR1");
    let line = running.line("wrote", process::READY).unwrap();
    let file = line.strip_prefix("wrote ").unwrap();
    assert!(file.starts_with(dir.path().to_str().unwrap()), "{file}");
    let trace: NetTrace = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    check::running(&trace);
    assert_eq!(trace.description, "SIGUSR1");
    signal(running.pid(), "TERM");
}

fn signal(process: u32, signal: &str) {
    let mut command = Command::new("kill");
    command.arg(format!("-{signal}")).arg(process.to_string());
    process::run(command, Duration::from_secs(20)).success();
}

#[track_caller]
fn assert_trace(example: &str, expected: Expected) {
    let trace = run(example);
    check::running(&trace);

    let mut methods: Vec<_> = trace.http_requests.iter().map(|request| &*request.req_method).collect();
    methods.sort();
    assert_eq!(methods, expected.methods);
    assert_eq!(trace.tls_tunnels.len(), expected.tunnels);
    assert!(!trace.tcp_conns.is_empty());
    for request in &trace.http_requests {
        assert!(trace.tcp_conns.get(&request.tcp_conn).is_some(), "{} has no connection", request.trace_id);
        assert_eq!(request.accepted, expected.accepted);
    }
    for conn in &trace.tcp_conns {
        let TcpConnTrace { trace_id, from_dial, accepted, .. } = conn;
        assert_eq!(trace.dials.get(from_dial).is_none(), expected.accepted, "{trace_id}");
        assert_eq!(*accepted, expected.accepted);
    }
    for tunnel in &trace.tls_tunnels {
        assert!(trace.tcp_conns.get(&tunnel.tcp_conn).is_some(), "{} has no connection", tunnel.trace_id);
    }
}

fn run(example: &str) -> NetTrace {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(program(example));
    command.arg("--json").arg(file.path()).env("NO_PROXY", "*").env_remove("no_proxy");
    process::run(command, Duration::from_secs(60)).success();
    serde_json::from_str(&fs::read_to_string(file.path()).unwrap()).unwrap()
}

/// Returns the path of an example. Cargo builds the examples together with the tests, unless single tests are selected.
fn program(example: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(example);
    assert!(
        program.is_file(),
        "{} does not exist: run cargo build --examples with the same features",
        program.display()
    );
    program
}
