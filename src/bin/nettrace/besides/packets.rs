//! Packets, from the interfaces to a file.

use super::unwritable;
use crate::output::{Problem, complain};
use nettrace::{
    NetTrace, TraceSinkBuilder,
    capture::{CaptureFile, CaptureProbe},
    tls::KeyLog,
};
use std::path::{Path, PathBuf};

pub(crate) struct Packets {
    file: PathBuf,
    probe: CaptureProbe,
}

impl Packets {
    pub(crate) fn start(file: &Path, interfaces: &[String]) -> Result<Self, Problem> {
        let known = ["pcap", "pcapng"];
        let suffix = file.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
        if !known.contains(&suffix.to_ascii_lowercase().as_str()) {
            let text = format!("{}: the suffix must be .pcap or .pcapng", file.display());
            return Err(Problem::usage(text));
        }
        // Empty as yet, but known to be writable.
        CaptureFile::new(&[]).write_to_file(file).map_err(|error| unwritable(file, &error))?;
        let probe = CaptureProbe::builder(interfaces)
            .icmp(true)
            // Whole, as whoever decrypts them needs them; the kernel joins segments.
            .snap_len(65_600)
            .total_size_limit(64 << 20)
            .start();
        Ok(Packets { file: file.into(), probe })
    }

    pub(crate) fn probe(&self, builder: TraceSinkBuilder) -> TraceSinkBuilder {
        builder.probe(self.probe.clone())
    }

    pub(crate) fn write(&self, trace: &NetTrace, key_log: Option<&KeyLog>) -> Result<(), Problem> {
        self.probe.stop();
        self.probe.problems().iter().for_each(|problem| complain(&problem.to_string()));
        let captures = self.probe.captures();
        let secrets = key_log.map(KeyLog::to_nss).unwrap_or_default();
        CaptureFile::new(&captures)
            .trace(trace)
            .tls_secrets(&secrets)
            .write_to_file(&self.file)
            .map_err(|error| Problem::failed(format!("cannot write {}: {error}", self.file.display())))
    }
}
