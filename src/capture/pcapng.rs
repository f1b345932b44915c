//! Writes blocks of the pcapng format (draft-ietf-opsawg-pcapng), little-endian.
//!
//! No crate writes Decryption Secrets Blocks, which hold the keys of TLS connections.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    net::IpAddr,
};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const NAME_RESOLUTION: u32 = 4;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 10;

/// The code of the option `opt_comment`, which every block may have.
const COMMENT: u16 = 1;
/// The type of secrets in the NSS key log format.
const TLS_KEY_LOG: u32 = 0x544c_534b;

/// A writer of blocks.
pub(super) struct BlockWriter<W> {
    out: W,
    body: Vec<u8>,
}

impl<W: Write> BlockWriter<W> {
    pub(super) fn new(out: W) -> Self {
        BlockWriter { out, body: Vec::new() }
    }

    /// Begins a section, with the name of the writing application.
    pub(super) fn section_header(&mut self, application: &str, comment: &str) -> io::Result<()> {
        self.u32(0x1a2b_3c4d);
        self.u16(1);
        self.u16(0);
        self.u64(u64::MAX); // the length of the section is not specified
        self.text(4, application);
        self.text(COMMENT, comment);
        self.finish(SECTION_HEADER)
    }

    /// Describes the next interface, whose times are in nanoseconds.
    pub(super) fn interface(&mut self, link_type: u16, snap_len: u32, name: &str) -> io::Result<()> {
        self.u16(link_type);
        self.u16(0);
        self.u32(snap_len);
        self.text(2, name);
        self.option(9, &[9]);
        self.finish(INTERFACE_DESCRIPTION)
    }

    /// Writes TLS keys in the NSS key log format.
    pub(super) fn tls_secrets(&mut self, key_log: &[u8]) -> io::Result<()> {
        self.u32(TLS_KEY_LOG);
        self.u32(length(key_log)?);
        self.body.extend(key_log);
        self.finish(DECRYPTION_SECRETS)
    }

    /// Writes the names of addresses.
    pub(super) fn names(&mut self, names: &BTreeMap<IpAddr, BTreeSet<String>>) -> io::Result<()> {
        for (ip, names) in names {
            let (kind, mut record) = match ip {
                IpAddr::V4(ip) => (1, ip.octets().to_vec()),
                IpAddr::V6(ip) => (2, ip.octets().to_vec()),
            };
            for name in names {
                record.extend(name.as_bytes());
                record.push(0);
            }
            self.option(kind, &record);
        }
        self.end_of_options();
        self.finish(NAME_RESOLUTION)
    }

    /// Writes a packet of `original` bytes, of which `data` was captured.
    pub(super) fn packet(
        &mut self,
        interface: u32,
        nanos: u64,
        original: u32,
        data: &[u8],
        comment: &str,
    ) -> io::Result<()> {
        self.u32(interface);
        self.time(nanos);
        self.u32(length(data)?);
        self.u32(original);
        self.body.extend(data);
        self.pad();
        self.text(COMMENT, comment);
        self.finish(ENHANCED_PACKET)
    }

    /// Writes what was lost and kept of an interface.
    pub(super) fn statistics(
        &mut self,
        interface: u32,
        nanos: u64,
        dropped_by_kernel: u64,
        kept: u64,
        comment: &str,
    ) -> io::Result<()> {
        self.u32(interface);
        self.time(nanos);
        self.option(7, &dropped_by_kernel.to_le_bytes());
        self.option(8, &kept.to_le_bytes());
        self.text(COMMENT, comment);
        self.finish(INTERFACE_STATISTICS)
    }

    pub(super) fn flush(mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn u16(&mut self, value: u16) {
        self.body.extend(value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.body.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.body.extend(value.to_le_bytes());
    }

    /// Writes a time in the unit of the interface, its upper half first.
    fn time(&mut self, nanos: u64) {
        self.u32((nanos >> 32) as u32);
        self.u32(nanos as u32);
    }

    /// Writes an option with a text, cut to the length that an option can have; nothing if it is empty.
    fn text(&mut self, code: u16, text: &str) {
        if !text.is_empty() {
            let fits = (0..=text.len().min(MAX_OPTION)).rev().find(|end| text.is_char_boundary(*end));
            self.option(code, &text.as_bytes()[..fits.unwrap_or(0)]);
        }
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let value = &value[..value.len().min(MAX_OPTION)];
        self.u16(code);
        self.u16(value.len() as u16); // within the bound
        self.body.extend(value);
        self.pad();
    }

    fn end_of_options(&mut self) {
        self.u32(0);
    }

    fn pad(&mut self) {
        self.body.resize(self.body.len().next_multiple_of(4), 0);
    }

    fn finish(&mut self, kind: u32) -> io::Result<()> {
        self.pad();
        let length = u32::try_from(self.body.len() + 12).map_err(|_| too_long())?.to_le_bytes();
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&length)?;
        self.out.write_all(&self.body)?;
        self.out.write_all(&length)?;
        self.body.clear();
        Ok(())
    }
}

/// The greatest length of an option.
const MAX_OPTION: usize = u16::MAX as usize;

fn length(data: &[u8]) -> io::Result<u32> {
    u32::try_from(data.len()).map_err(|_| too_long())
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "too long for a pcapng block")
}
