//! Captures the packets of traced connections and writes them to the file of `--pcap-file`.

use super::unwritable;
use crate::output::{Problem, warn};
use nettrace::{
    NetTrace, TraceSinkBuilder,
    capture::{CaptureFile, CaptureProbe, PacketCapture},
    tls::KeyLog,
};
use std::path::{Path, PathBuf};

/// The maximum size of the captured packets of all interfaces, in bytes.
const MAX_CAPTURE_BYTES: usize = 64 << 20;

pub(crate) struct PcapOutput {
    file: PathBuf,
    probe: CaptureProbe,
}

impl PcapOutput {
    pub(crate) fn start(file: &Path, interfaces: &[String]) -> Result<Self, Problem> {
        let known = ["pcap", "pcapng"];
        let suffix = file.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
        if !known.contains(&suffix.to_ascii_lowercase().as_str()) {
            let text = format!("{}: the suffix must be .pcap or .pcapng", file.display());
            return Err(Problem::usage(text));
        }
        let probe = CaptureProbe::builder(interfaces)
            .icmp(true)
            // Decryption needs whole packets. The kernel may join segments into packets of up to 64 KiB.
            .snap_len(65_600)
            .total_size_limit(MAX_CAPTURE_BYTES)
            .start();
        // Writes an empty file first, to find out early whether that is possible.
        CaptureFile::new(&probe.captures()).write_to_file(file).map_err(|error| unwritable(file, &error))?;
        Ok(PcapOutput { file: file.into(), probe })
    }

    pub(crate) fn probe(&self, builder: TraceSinkBuilder) -> TraceSinkBuilder {
        builder.probe(self.probe.clone())
    }

    pub(crate) fn write(&self, trace: &NetTrace, key_log: Option<&KeyLog>) -> Result<(), Problem> {
        self.probe.stop();
        self.probe.problems().iter().for_each(|problem| warn(&problem.to_string()));
        let captures = self.probe.captures();
        captures.iter().filter_map(missing).for_each(|text| warn(&text));
        let secrets = key_log.map(KeyLog::to_nss).unwrap_or_default();
        CaptureFile::new(&captures)
            .trace(trace)
            .tls_secrets(&secrets)
            .write_to_file(&self.file)
            // Exit code 1 and not 2: the path was usable at the start.
            .map_err(|error| Problem::failed(format!("cannot write {}: {error}", self.file.display())))
    }
}

/// Returns a warning about packets of an interface that are missing in the file.
fn missing(capture: &PacketCapture) -> Option<String> {
    let losses = [
        (capture.dropped_by_limit, format!("over the limit of {} MiB", MAX_CAPTURE_BYTES >> 20)),
        (capture.dropped_by_kernel, "of any connection came too fast for the kernel's buffer".into()),
        (capture.dropped_pending, "of unknown connections gave way".into()),
    ];
    let losses: Vec<_> = losses
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, why)| format!("{count} {why}"))
        .collect();
    (!losses.is_empty())
        .then(|| format!("packets of {} are missing: {}", capture.interface_name, losses.join(", ")))
}
