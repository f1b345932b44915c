//! No process and no network namespace outlives a test.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::certificate;
use test_support::dnsmasq::Dnsmasq;
use test_support::lab::{Ns, Routed};
use test_support::nginx::Nginx;
use test_support::openssl::SServer;
use test_support::require::{require_lab, require_tool};

#[test]
fn dropped_servers_and_namespaces_are_gone() {
    require_lab!();
    require_tool!("nginx", "dnsmasq", "openssl");
    let started = start_everything();
    started.assert_present();
    let Everything { network, servers, inodes } = started;
    drop(servers);
    assert!(processes_in(&inodes).is_empty(), "{:?}", processes_in(&inodes));
    drop(network);
    wait_until_gone(&inodes);
}

#[test]
fn a_killed_test_leaves_no_process_or_namespace() {
    require_lab!();
    require_tool!("nginx", "dnsmasq", "openssl");
    let mut test = Command::new(std::env::current_exe().expect("this program"));
    test.args(["--exact", "leftovers::helper_to_be_killed", "--ignored", "--nocapture"]);
    let directory = tempfile::tempdir().expect("a directory"); // removes the files that the killed test leaves
    test.env("TMPDIR", directory.path());
    let mut child = test.stdout(Stdio::piped()).spawn().expect("start this program again");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = lines.map_while(Result::ok).find_map(|line| Some(line.split_once(PREFIX)?.1.to_owned()));
    let inodes: Vec<u64> = line.expect("inodes").split(' ').map(|n| n.parse().expect("a number")).collect();
    assert!(processes_in(&inodes).len() >= 4, "the test itself and three servers");

    child.kill().expect("running");
    child.wait().expect("a child");
    wait_until_gone(&inodes);
}

const PREFIX: &str = "namespaces: ";

#[test]
#[ignore = "waits to be killed by a_killed_test_leaves_no_process_or_namespace"]
fn helper_to_be_killed() {
    let started = start_everything();
    let inodes: Vec<String> = started.inodes.iter().map(u64::to_string).collect();
    println!("{PREFIX}{}", inodes.join(" "));
    thread::sleep(Duration::from_secs(60));
}

struct Everything {
    network: Routed,
    servers: (Nginx, Dnsmasq, SServer),
    inodes: Vec<u64>,
}

/// Starts a network with one server of each kind.
fn start_everything() -> Everything {
    let network = Routed::with_delay(test_support::lab::Delay::All(Duration::from_millis(1)));
    let (cert, key) = certificate();
    let ip = Routed::SERVER.v4.into();
    let servers = (
        Nginx::builder().in_ns(&network.server, &[ip]).tls(&cert, &key).start(),
        Dnsmasq::builder().in_ns(&network.server, (ip, 53)).start(),
        SServer::builder(&cert, &key).in_ns(&network.server, "10.9.2.2:443").start(),
    );
    let inodes = [&network.client, &network.router, &network.server].map(Ns::inode).to_vec();
    Everything { network, servers, inodes }
}

impl Everything {
    fn assert_present(&self) {
        let (nginx, dnsmasq, openssl) = &self.servers;
        let found = processes_in(&self.inodes);
        for pid in [nginx.pid(), dnsmasq.pid(), openssl.pid()] {
            assert!(found.contains(&pid), "{pid} in {found:?}");
        }
    }
}

/// Waits until no process is in the namespaces or keeps them open: then they are gone.
fn wait_until_gone(namespaces: &[u64]) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let (inside, holding) = (processes_in(namespaces), processes_holding(namespaces));
        if inside.is_empty() && holding.is_empty() {
            return;
        }
        let name = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).map(|line| line.replace('\0', " "))
        };
        let inside: Vec<_> = inside.iter().map(name).collect();
        assert!(Instant::now() < end, "still in: {inside:?}, still holding: {holding:?}");
        thread::sleep(Duration::from_millis(5)); // the kernel does not signal that a namespace is gone
    }
}

/// Returns the processes with a thread in one of the namespaces.
fn processes_in(namespaces: &[u64]) -> Vec<u32> {
    let inside = |pid: &u32| {
        entries(&format!("/proc/{pid}/task")).any(|thread| is_one_of(&thread.join("ns/net"), namespaces))
    };
    processes().filter(inside).collect()
}

/// Returns the processes with a descriptor of one of the namespaces.
fn processes_holding(namespaces: &[u64]) -> Vec<u32> {
    let holds = |pid: &u32| entries(&format!("/proc/{pid}/fd")).any(|fd| is_one_of(&fd, namespaces));
    processes().filter(holds).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    entries("/proc").filter_map(|path| path.file_name()?.to_str()?.parse().ok())
}

/// Returns the entries of a directory, or none if it is gone: the process may end meanwhile.
fn entries(directory: &str) -> impl Iterator<Item = std::path::PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn is_one_of(file: &Path, namespaces: &[u64]) -> bool {
    let network = fs::read_link(file).is_ok_and(|target| target.to_string_lossy().starts_with("net:["));
    network && fs::metadata(file).is_ok_and(|metadata| namespaces.contains(&metadata.ino()))
}
