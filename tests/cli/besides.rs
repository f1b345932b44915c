//! What is recorded besides the requests.

use crate::{
    PATIENCE, command, exits_with, parse, reason, run,
    support::{need::need_tool, process},
    tls::site,
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

fn tshark(file: &Path, fields: &[&str]) -> String {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(file).args(["-T", "fields"]);
    tshark.args(fields.iter().flat_map(|field| ["-e", field]));
    process::run(tshark, PATIENCE).stdout
}

/// With all privileges of root but these.
fn without(capabilities: &str, args: &[&str]) -> process::Output {
    let it = command(args);
    let mut setpriv = Command::new("setpriv");
    setpriv.arg(format!("--bounding-set={capabilities}")).arg(it.get_program()).args(args);
    process::run(setpriv, PATIENCE)
}

#[cfg(feature = "capture")]
#[test]
fn packets_that_can_be_decrypted() {
    need_tool!("tshark");
    let (site, directory) = (site(), tempfile::tempdir().unwrap());
    let [packets, keys] = ["out.pcapng", "keys.txt"].map(|name| directory.path().join(name));
    let output = run([
        "get",
        &format!("https://{}/", site.server.addr()),
        "--cacert",
        site.authority.to_str().unwrap(),
        "--pcap",
        "lo",
        "--pcap-file",
        packets.to_str().unwrap(),
        "--keylog",
        keys.to_str().unwrap(),
    ]);
    exits_with(&output, 0);
    assert_eq!(tshark(&packets, &["http.response.code"]).split_whitespace().collect::<Vec<_>>(), ["200"]);
    assert!(fs::read_to_string(&keys).unwrap().contains("CLIENT_TRAFFIC_SECRET_0 "));
    for file in [packets, keys] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "its owner's alone");
    }
}

#[cfg(feature = "capture")]
#[test]
fn an_interface_that_there_is_not() {
    let (site, directory) = (site(), tempfile::tempdir().unwrap());
    let packets = directory.path().join("out.pcap");
    let url = format!("https://{}/", site.server.addr());
    let output =
        run(["get", &url, "--insecure", "--pcap", "nope0,lo", "--pcap-file", packets.to_str().unwrap()]);
    exits_with(&output, 0);
    assert!(reason(&output).starts_with("no packets of nope0: "), "{}", output.stderr);
    assert!(fs::metadata(packets).unwrap().len() > 24, "those of lo are there");
}

#[test]
fn what_cannot_be_written_is_told_before_the_request() {
    for option in ["--keylog", "--pcap-file"] {
        let output = run(["get", "http://127.0.0.1:1/", option, "/nowhere/out.pcap"]);
        exits_with(&output, 2);
    }
    let output = run(["get", "http://127.0.0.1:1/", "--pcap-file", "/tmp/out.text"]);
    exits_with(&output, 2);
    exits_with(&run(["get", "http://127.0.0.1:1/", "--pcap", "lo"]), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn without_privileges_the_rest_works() {
    need_tool!("setpriv");
    let (site, directory) = (site(), tempfile::tempdir().unwrap());
    let url = format!("https://{}/", site.server.addr());
    let packets = directory.path().join("out.pcap");
    let mut args = vec!["get", &url, "--insecure", "--json", "-", "--conntrack"];
    if cfg!(feature = "capture") {
        args.extend(["--pcap", "lo", "--pcap-file", packets.to_str().unwrap()]);
    }
    let output = without("-net_admin,-net_raw", &args);
    exits_with(&output, 0);
    let told: Vec<_> = output.stderr.lines().filter(|line| line.starts_with("nettrace: ")).collect();
    assert_eq!(told.len(), if cfg!(feature = "capture") { 2 } else { 1 }, "{}", output.stderr);
    assert!(told[0].contains("CAP_NET_ADMIN"), "{told:?}");
    assert!(told.get(1).is_none_or(|line| line.contains("lo") && line.contains("cap_net_raw")), "{told:?}");
    let trace = parse(&output.stdout);
    assert!(!trace.tcp_conns[0].tcp_info.is_absent(), "what needs no privilege is there");
}
