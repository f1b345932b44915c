//! Runs tcpdump and compares captures with its output.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, UNIX_EPOCH};

use nettrace::capture::PacketCapture;
use tempfile::TempDir;

use test_support::lab::Ns;
use test_support::process::{self, Daemon};

const DEADLINE: Duration = Duration::from_secs(20);

/// A captured packet: its time in nanoseconds since 1970, its length on the wire, and the part of it that was captured.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    pub nanos: u128,
    pub length: u32,
    pub data: Vec<u8>,
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex: String = self.data.iter().take(80).map(|byte| format!("{byte:02x}")).collect();
        write!(f, "{} {}/{} {hex}", self.nanos, self.data.len(), self.length)
    }
}

/// A tcpdump process that captures every packet on an interface.
pub struct Tcpdump {
    ns: Ns,
    directory: TempDir,
    _daemon: Daemon,
}

impl Tcpdump {
    #[track_caller]
    pub fn start(ns: &Ns, interface: &str, snap_len: u32) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = ns.command("tcpdump");
        command.args(["-i", interface, "-s", &snap_len.to_string(), "-B", "16384", "-p", "-Z", "root"]);
        command.args(["--immediate-mode", "--time-stamp-precision=nano", "-U", "-w"]);
        command.arg(directory.path().join("all.pcap"));
        let daemon = Daemon::spawn(command).expect("tcpdump starts (call require_tool! first)");
        daemon.line("listening on", process::READY).unwrap_or_else(|error| panic!("{error}"));
        Tcpdump { ns: ns.clone(), directory, _daemon: daemon }
    }

    /// Returns the packets captured so far that match `filter`. First sends a marker, a datagram to `mark` that passes
    /// the interface: once tcpdump has written the marker, it has written every packet before it.
    #[track_caller]
    pub fn packets(&self, mark: &str, filter: &str) -> Vec<Packet> {
        let marker = b"nothing after this";
        let send = || {
            UdpSocket::bind(if mark.contains('[') { "[::]:0" } else { "0.0.0.0:0" })?.send_to(marker, mark)
        };
        self.ns.run(send).expect("a marker");
        let all = self.directory.path().join("all.pcap");
        let end = Instant::now() + DEADLINE;
        while !read(&all).iter().any(|packet| packet.data.ends_with(marker)) {
            assert!(Instant::now() < end, "tcpdump did not write the marker");
            std::thread::sleep(Duration::from_millis(2)); // tcpdump does not announce a packet
        }
        let matching = self.directory.path().join("matching.pcap");
        let mut command = Command::new("tcpdump");
        command.arg("-r").arg(&all).arg("-w").arg(&matching);
        command.args(["--time-stamp-precision=nano", "-Z", "root", filter]);
        process::run(command, DEADLINE).success();
        read(&matching)
    }
}

/// Converts the packets of a capture to the type that tcpdump's output is read into.
pub fn packets(capture: &PacketCapture) -> Vec<Packet> {
    let packet = |packet: &nettrace::capture::CapturedPacket| Packet {
        nanos: packet.time.duration_since(UNIX_EPOCH).expect("a time after 1970").as_nanos(),
        length: packet.length,
        data: packet.data.to_vec(),
    };
    capture.packets.iter().map(packet).collect()
}

/// Asserts that both contain the same packets, byte for byte. The kernel takes a timestamp for each of the captures, so
/// times, and the order of simultaneous packets, may differ a little.
#[track_caller]
pub fn assert_same(capture: &PacketCapture, expected: Vec<Packet>) {
    let [ours, theirs] = [packets(capture), expected].map(|mut packets| {
        packets.sort_by(|a, b| (&a.data, a.nanos).cmp(&(&b.data, b.nanos)));
        packets
    });
    assert!(!theirs.is_empty(), "tcpdump has captured nothing: {capture:#?}");
    let is_there = |packet: &Packet, other: &[Packet]| other.iter().any(|other| other.data == packet.data);
    for packet in &theirs {
        assert!(is_there(packet, &ours), "missing: {packet:?} among {} packets", ours.len());
    }
    for packet in &ours {
        assert!(
            is_there(packet, &theirs),
            "not captured by tcpdump: {packet:?} among {} packets",
            theirs.len()
        );
    }
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!((&ours.data, ours.length), (&theirs.data, theirs.length));
        assert!(ours.nanos.abs_diff(theirs.nanos) < 100_000_000, "{ours:?} against {theirs:?}");
    }
}

/// Reads the complete packets of a pcap file with nanosecond timestamps.
fn read(path: &Path) -> Vec<Packet> {
    let bytes = fs::read(path).expect("the file of tcpdump");
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    };
    let Some(magic) = word(0) else { return Vec::new() };
    assert_eq!(magic, 0xa1b2_3c4d);
    let (mut packets, mut at) = (Vec::new(), 24);
    while let (Some(seconds), Some(nanos), Some(captured), Some(length)) =
        (word(at), word(at + 4), word(at + 8), word(at + 12))
        && let Some(data) = bytes.get(at + 16..at + 16 + captured as usize)
    {
        let nanos = u128::from(seconds) * 1_000_000_000 + u128::from(nanos);
        packets.push(Packet { nanos, length, data: data.to_vec() });
        at += 16 + captured as usize;
    }
    packets
}
