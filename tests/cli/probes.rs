//! The options that switch on probes: capture, connection tracking, `TCP_INFO`.

use crate::{PATIENCE, command, exits_with, parse, reason, run, tls::site};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};
use test_support::{
    lab::{Delay, Hook, Ns, Routed},
    process,
    raw::Server,
    require::{require_lab, require_tool},
    tshark,
};

/// Runs the command without `capabilities`, such as `-net_admin,-net_raw`.
pub(crate) fn run_without(capabilities: &str, args: &[&str]) -> process::Output {
    let nettrace = command(args);
    let mut setpriv = Command::new("setpriv");
    setpriv.arg(format!("--bounding-set={capabilities}")).arg(nettrace.get_program()).args(args);
    process::run(setpriv, PATIENCE)
}

#[cfg(feature = "capture")]
#[test]
fn captured_packets_can_be_decrypted() {
    require_tool!("tshark");
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
    assert_eq!(tshark::field(&packets, "http", "http.response.code"), ["200"]);
    assert!(fs::read_to_string(&keys).unwrap().contains("CLIENT_TRAFFIC_SECRET_0 "));
    for file in [packets, keys] {
        assert_eq!(
            fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600,
            "only the owner may read it"
        );
    }
}

#[cfg(feature = "capture")]
#[test]
fn a_missing_interface_is_reported() {
    let (site, directory) = (site(), tempfile::tempdir().unwrap());
    let packets = directory.path().join("out.pcap");
    let url = format!("https://{}/", site.server.addr());
    let output =
        run(["get", &url, "--insecure", "--pcap", "nope0,lo", "--pcap-file", packets.to_str().unwrap()]);
    exits_with(&output, 0);
    // Another line may report lost packets, because other tests use that interface, too.
    let reason = output.stderr.lines().find(|line| line.starts_with("nettrace: no packets of nope0: "));
    assert!(reason.is_some(), "{}", output.stderr);
    assert!(fs::metadata(packets).unwrap().len() > 24, "the packets of lo are written");
}

#[test]
fn unwritable_files_are_reported_before_the_request() {
    for option in ["--keylog", "--pcap-file"] {
        let output = run(["get", "http://127.0.0.1:1/", option, "/nowhere/out.pcap"]);
        exits_with(&output, 2);
    }
    let output = run(["get", "http://127.0.0.1:1/", "--pcap-file", "/tmp/out.text"]);
    exits_with(&output, 2);
    exits_with(&run(["get", "http://127.0.0.1:1/", "--pcap", "lo"]), 2);
}

/// The server sends more than is kept; the command reports how many packets are missing.
#[cfg(all(target_os = "linux", feature = "capture"))]
#[test]
fn packets_over_the_limit_are_reported() {
    require_lab!();
    let directory = tempfile::tempdir().unwrap();
    let packets = directory.path().join("out.pcap");
    let ns = Ns::new();
    let length = 160 << 20;
    let server = Server::on(ns.listen("127.0.0.1:80"), async move |mut conn| {
        conn.read_head().await?;
        conn.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes()).await?;
        conn.write(&vec![0; length]).await
    });
    let get = || {
        let mut get = ns.command(env!("CARGO_BIN_EXE_nettrace"));
        let url = format!("http://{}/", server.addr());
        get.args(["get", &url, "--trace-only", "--pcap", "lo", "--pcap-file"]).arg(&packets);
        let output = process::run(get, PATIENCE);
        exits_with(&output, 0);
        assert!(reason(&output).starts_with("packets of lo are missing: "), "{}", output.stderr);
        output.stderr
    };
    // On a busy machine the kernel may drop so many packets that the others are within the limit.
    let over_limit = (0..5).map(|_| get()).find(|stderr| stderr.contains(" over the limit of 64 MiB"));
    assert!(over_limit.is_some());
    let written = fs::metadata(packets).unwrap().len();
    assert!((8 << 20..=(64 << 20) + 24).contains(&written), "{written}");
}

#[cfg(all(target_os = "linux", feature = "capture"))]
#[test]
fn interfaces_that_do_not_fit_into_one_file_are_reported_before_the_request() {
    require_lab!();
    let directory = tempfile::tempdir().unwrap();
    let [pcap, pcapng] = ["out.pcap", "out.pcapng"].map(|name| directory.path().join(name));
    let get = |file: &Path, interfaces: &str| {
        run(["get", "http://127.0.0.1:1/", "--pcap", interfaces, "--pcap-file", file.to_str().unwrap()])
    };
    let output = get(&pcap, "lo,any");
    exits_with(&output, 2);
    assert!(reason(&output).ends_with("which only pcapng can hold"), "{}", output.stderr);
    // These options are valid: only the request fails.
    exits_with(&get(&pcapng, "lo,any"), 1);
    exits_with(&get(&pcap, " lo , lo"), 1);
    exits_with(&get(&pcap, "lo,"), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn without_privileges_the_rest_works() {
    require_tool!("setpriv");
    let (site, directory) = (site(), tempfile::tempdir().unwrap());
    let url = format!("https://{}/", site.server.addr());
    let packets = directory.path().join("out.pcap");
    let mut args = vec!["get", &url, "--insecure", "--json", "-", "--conntrack"];
    if cfg!(feature = "capture") {
        args.extend(["--pcap", "lo", "--pcap-file", packets.to_str().unwrap()]);
    }
    let output = run_without("-net_admin,-net_raw", &args);
    exits_with(&output, 0);
    let messages: Vec<_> = output.stderr.lines().filter(|line| line.starts_with("nettrace: ")).collect();
    assert_eq!(messages.len(), if cfg!(feature = "capture") { 2 } else { 1 }, "{}", output.stderr);
    assert!(messages[0].contains("CAP_NET_ADMIN"), "{messages:?}");
    assert!(
        messages.get(1).is_none_or(|line| line.contains("lo") && line.contains("cap_net_raw")),
        "{messages:?}"
    );
    let trace = parse(&output.stdout);
    assert!(!trace.tcp_conns[0].tcp_info.is_empty(), "`TCP_INFO` needs no privileges");
}

/// The server's FIN and the client's last acknowledgement follow a round trip after the close.
#[cfg(all(target_os = "linux", feature = "capture"))]
#[test]
fn the_command_waits_for_the_last_packets() {
    require_lab!();
    require_tool!("tshark");
    let net = Routed::with_delay(Delay::All(Duration::from_millis(15)));
    net.client.sysctl("net/netfilter/nf_conntrack_acct", "1");
    net.client.nft(Hook::Output, "ct state new");
    let server = Server::on(net.server.listen("10.9.2.2:80"), async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await?;
        conn.read_to_end().await.map(drop)
    });
    let directory = tempfile::tempdir().unwrap();
    let [packets, json] = ["out.pcap", "out.json"].map(|name| directory.path().join(name));
    let mut get = net.client.command(env!("CARGO_BIN_EXE_nettrace"));
    get.args(["get", &format!("http://{}/", server.addr()), "--trace-only", "--conntrack", "--json"]);
    get.arg(&json).arg("--pcap-file").arg(&packets);
    exits_with(&process::run(get, PATIENCE), 0);
    let trace = parse(&fs::read_to_string(json).unwrap());
    let entry = trace.tcp_conns[0].conntrack.as_deref().expect("an entry");
    assert_eq!(entry.tcp_state.as_str(), "time-wait");
    // ICMP packets are captured as well.
    let fields = ["-Y", "tcp", "-T", "fields", "-e", "tcp.flags.fin"];
    let flags = tshark::tshark(&packets, &fields);
    assert_eq!(flags.len() as u64, entry.packets_sent + entry.packets_recv);
    let is_fin = |flag: &&String| *flag == "True" || *flag == "1";
    assert_eq!(flags.iter().filter(is_fin).count(), 2, "a FIN from each side: {flags:?}");
    assert!(!flags.last().is_some_and(|flag| is_fin(&flag)), "the last acknowledgement: {flags:?}");
}

/// Entries in another conntrack zone are found with the option, and are not reported as missing.
#[cfg(target_os = "linux")]
#[test]
fn entries_in_another_conntrack_zone_are_found() {
    require_lab!();
    let ns = Ns::new();
    ns.sh("nft 'add table inet zones
        add chain inet zones output { type filter hook output priority raw; }
        add chain inet zones input { type filter hook prerouting priority raw; }
        add chain inet zones track { type filter hook output priority 0; }
        add rule inet zones output ct zone set 5
        add rule inet zones input ct zone set 5
        add rule inet zones track ct state new'");
    let server = Server::on(ns.listen("127.0.0.1:80"), async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await
    });
    let url = format!("http://{}/", server.addr());
    let get = |options: &[&str]| {
        let mut get = ns.command(env!("CARGO_BIN_EXE_nettrace"));
        get.args(["get", &url, "--json", "-", "--conntrack"]).args(options);
        let output = process::run(get, PATIENCE);
        exits_with(&output, 0);
        (parse(&output.stdout).tcp_conns[0].conntrack.as_deref().map(|entry| entry.zone), output.stderr)
    };
    let (zone, messages) = get(&[]);
    assert_eq!(zone, None);
    assert!(
        messages.contains("in the zone that was looked in") && messages.contains("--conntrack-zone"),
        "{messages}"
    );
    let (zone, messages) = get(&["--conntrack-zone", "5"]);
    assert_eq!(zone, Some(Some(5)), "{messages}");
    assert!(!messages.contains("no entry"), "{messages}");
    for wrong in ["65536", "x"] {
        let output = run(["get", "http://h/", "--conntrack", "--conntrack-zone", wrong]);
        exits_with(&output, 2);
    }
    exits_with(&run(["get", "http://h/", "--conntrack-zone", "5"]), 2);
}
