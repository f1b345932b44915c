//! Writes captured packets to files, as pcap or as pcapng.

use super::{
    annotations,
    packet_capture::{CapturedPacket, PacketCapture},
    pcapng::BlockWriter,
};
use crate::record::NetTrace;
use std::{
    borrow::Cow,
    collections::HashSet,
    fs::{File, OpenOptions, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// A writer of captured packets, as pcap or as pcapng.
///
/// pcap holds the packets. pcapng also holds the interface that each packet passed and how many were lost. With a
/// [`trace`](Self::trace) it holds the names of addresses, and comments that name the records of each connection. With
/// [`tls_secrets`](Self::tls_secrets) it holds the keys of TLS connections, so that Wireshark decrypts them from the
/// file alone.
#[derive(Clone, Copy)]
#[must_use = "nothing is written until `write_to_file`, `write_pcapng` or `write_pcap`"]
pub struct CaptureFile<'a> {
    captures: &'a [PacketCapture],
    trace: Option<&'a NetTrace>,
    secrets: &'a [u8],
}

impl<'a> CaptureFile<'a> {
    /// Creates a writer of the packets of all these captures.
    pub fn new(captures: &'a [PacketCapture]) -> Self {
        CaptureFile { captures, trace: None, secrets: &[] }
    }

    /// Adds what the trace of the same connections says: names of addresses, and record identifiers as comments.
    /// Written to pcapng only.
    pub fn trace(mut self, trace: &'a NetTrace) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Adds TLS keys in the NSS key log format. Written to pcapng only.
    ///
    /// **Whoever has the file can then read what was encrypted.**
    pub fn tls_secrets(mut self, key_log: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.secrets = key_log.as_ref();
        self
    }

    /// Writes to a file that only its owner may read: as pcapng if its suffix is `.pcapng`, else as pcap.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written, and where [`write_pcap`](Self::write_pcap) does.
    pub fn write_to_file(self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        let is_pcapng = path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("pcapng"));
        if !is_pcapng {
            self.link_type()?; // before what is there is overwritten
        }
        let file = create_private(path)?;
        if is_pcapng { self.write_pcapng(file) } else { self.write_pcap(file) }
    }

    /// Writes pcapng (draft-ietf-opsawg-pcapng), with times in nanoseconds.
    ///
    /// # Errors
    ///
    /// Fails if the writer does.
    pub fn write_pcapng(self, writer: impl Write) -> io::Result<()> {
        let mut blocks = BlockWriter::new(BufWriter::new(writer));
        let application = concat!("nettrace ", env!("CARGO_PKG_VERSION"));
        blocks.section_header(application, self.trace.map_or("", |trace| &trace.description))?;
        for capture in self.captures {
            blocks.interface(capture.link_type, capture.snap_len, &capture.interface_name)?;
        }
        if !self.secrets.is_empty() {
            blocks.tls_secrets(self.secrets)?;
        }
        let names = self.trace.map(annotations::address_names).unwrap_or_default();
        if !names.is_empty() {
            blocks.names(&names)?;
        }
        let comments = self.trace.map(annotations::comments).unwrap_or_default();
        let mut commented = HashSet::new();
        for (interface, packet) in self.packets() {
            let id = &packet.connection;
            let is_first = !id.is_undefined() && commented.insert((interface, id));
            let comment = match comments.get(id) {
                _ if !is_first => Cow::default(),
                Some(comment) => Cow::Borrowed(&**comment),
                None => Cow::Owned(format!("connection {id}")),
            };
            blocks.packet(interface, packet.nanos(), packet.length, &packet.data, &comment)?;
        }
        for (interface, capture) in (0..).zip(self.captures) {
            let last = capture.packets.last().map_or(0, CapturedPacket::nanos);
            let kept = capture.packets.len() as u64;
            blocks.statistics(interface, last, capture.dropped_by_kernel, kept, &drop_comment(capture))?;
        }
        blocks.flush()
    }

    /// Writes pcap (draft-ietf-opsawg-pcap), with times in nanoseconds.
    ///
    /// # Errors
    ///
    /// Fails if the writer does, and with [`io::ErrorKind::InvalidInput`] if the interfaces have different link layers,
    /// which pcap has no place for: write them one by one, or as pcapng.
    pub fn write_pcap(self, writer: impl Write) -> io::Result<()> {
        let link_type = self.link_type()?;
        let mut writer = BufWriter::new(writer);
        let snap_len = self.captures.iter().map(|capture| capture.snap_len).max().unwrap_or(DEFAULT_SNAP_LEN);
        for word in [0xa1b2_3c4d, 0x0004_0002, 0, 0, snap_len, link_type.into()] {
            writer.write_all(&u32::to_le_bytes(word))?;
        }
        for (_, packet) in self.packets() {
            let (nanos, captured) = (packet.nanos(), packet.data.len() as u32);
            let (seconds, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
            // Seconds have 32 bits, until 2106.
            for word in [seconds as u32, nanos as u32, captured, packet.length] {
                writer.write_all(&word.to_le_bytes())?;
            }
            writer.write_all(&packet.data)?;
        }
        writer.flush()
    }

    /// Returns all packets in the order of time, with the indices of their interfaces.
    fn packets(&self) -> Vec<(u32, &'a CapturedPacket)> {
        let of = |(number, capture): (u32, &'a PacketCapture)| {
            capture.packets.iter().map(move |packet| (number, packet))
        };
        let mut packets: Vec<_> = (0..).zip(self.captures).flat_map(of).collect();
        packets.sort_by_key(|(_, packet)| packet.time);
        packets
    }

    fn link_type(&self) -> io::Result<u16> {
        let Some(first) = self.captures.first() else { return Ok(ETHERNET) };
        match self.captures.iter().find(|capture| capture.link_type != first.link_type) {
            None => Ok(first.link_type),
            Some(other) => {
                let (one, other) = (&first.interface_name, &other.interface_name);
                let why = format!("{one} and {other} have different link layers, which only pcapng can hold");
                Err(io::Error::new(io::ErrorKind::InvalidInput, why))
            }
        }
    }
}

impl PacketCapture {
    /// Writes the packets as pcap, with times in nanoseconds. See [`CaptureFile`] for pcapng, which
    /// holds more.
    ///
    /// # Errors
    ///
    /// Fails if the writer does.
    pub fn write_to(&self, writer: impl Write) -> io::Result<()> {
        CaptureFile::new(std::slice::from_ref(self)).write_pcap(writer)
    }

    /// Writes the packets to a file that only its owner may read: as pcapng if its suffix is `.pcapng`, else as pcap.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn write_to_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        CaptureFile::new(std::slice::from_ref(self)).write_to_file(path)
    }
}

/// The link type of a file without interfaces.
const ETHERNET: u16 = 1;
const DEFAULT_SNAP_LEN: u32 = 65_535;

/// Returns a comment with the losses that the format has no field for.
fn drop_comment(capture: &PacketCapture) -> String {
    let mut drop_comment = Vec::new();
    if capture.dropped_by_limit > 0 {
        drop_comment.push(format!("{} packets over the limit of the total size", capture.dropped_by_limit));
    }
    if capture.dropped_pending > 0 {
        drop_comment.push(format!("{} packets of unknown connections gave way", capture.dropped_pending));
    }
    drop_comment.join("; ")
}

/// Creates or empties a file that only its owner may read.
fn create_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

impl std::fmt::Debug for CaptureFile<'_> {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaptureFile")
            .field("captures", &self.captures.len())
            .field("trace", &self.trace.is_some())
            .field("secrets", &self.secrets.len())
            .finish()
    }
}
