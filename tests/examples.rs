//! Every example, run without arguments: it requests its own server, and the trace that it writes has all links.
#![cfg(all(
    feature = "client",
    feature = "reqwest",
    feature = "ring",
    feature = "server",
    feature = "tonic"
))]

use std::{env, fs, path::PathBuf, process::Command, time::Duration};

use nettrace::NetTrace;
use nettrace::record::TcpConnTrace;

use test_support::{check, process};

/// The records that the trace of an example must have.
#[derive(Default)]
struct Has {
    methods: &'static [&'static str],
    tunnels: usize,
    /// Whether a server recorded the trace.
    accepted: bool,
}

#[test]
fn get() {
    shows("get", Has { methods: &["GET"], ..Has::default() });
}

#[test]
fn wrap_connector() {
    shows("wrap_connector", Has { methods: &["GET"], ..Has::default() });
}

#[test]
fn hyper_pool() {
    shows("hyper_pool", Has { methods: &["GET", "GET", "GET"], ..Has::default() });
}

#[test]
fn proxy() {
    shows("proxy", Has { methods: &["CONNECT", "GET", "GET"], tunnels: 1, ..Has::default() });
}

#[test]
fn tonic() {
    shows("tonic", Has { methods: &["POST", "POST", "POST"], ..Has::default() });
}

#[test]
fn reqwest() {
    shows("reqwest", Has { methods: &["GET", "GET"], ..Has::default() });
}

#[test]
fn postgres() {
    shows("postgres", Has::default());
}

#[test]
fn websocket() {
    shows("websocket", Has { methods: &["GET"], ..Has::default() });
}

#[test]
fn server() {
    shows("server", Has { methods: &["POST", "POST"], tunnels: 1, accepted: true });
}

/// The load generator's server begins to serve, whatever cryptography is compiled in besides its own.
#[test]
#[cfg(all(feature = "capture", feature = "conntrack", feature = "tcp-info"))]
fn load() {
    let mut command = Command::new(program("load"));
    command.arg("--serve");
    let printed = process::run(command, Duration::from_secs(60)).success();
    assert!(printed.contains("\nhttps https://127.0.0.1:"), "{printed}");
}

#[track_caller]
fn shows(example: &str, has: Has) {
    let trace = run(example);
    check::running(&trace);

    let mut methods: Vec<_> = trace.http_requests.iter().map(|request| &*request.req_method).collect();
    methods.sort();
    assert_eq!(methods, has.methods);
    assert_eq!(trace.tls_tunnels.len(), has.tunnels);
    assert!(!trace.tcp_conns.is_empty());
    for request in &trace.http_requests {
        assert!(trace.tcp_conns.get(&request.tcp_conn).is_some(), "{} has no connection", request.trace_id);
        assert_eq!(request.accepted, has.accepted);
    }
    for conn in &trace.tcp_conns {
        let TcpConnTrace { trace_id, from_dial, accepted, .. } = conn;
        assert_eq!(trace.dials.get(from_dial).is_none(), has.accepted, "{trace_id}");
        assert_eq!(*accepted, has.accepted);
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

/// Cargo builds the examples with the tests, unless it is told which tests.
fn program(example: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(example);
    assert!(
        program.is_file(),
        "{} is not there: cargo build --examples with the same features",
        program.display()
    );
    program
}
