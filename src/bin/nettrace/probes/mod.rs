//! The probes of the command: kernel information about connections, packets, and TLS secrets.
//!
//! Modules in `unsupported/` replace those that the platform or the build does not support: they have the same types
//! and report an error if an option asks for them.

use crate::{
    args::ProbeArgs,
    output::{Problem, warn},
};
use nettrace::{NetTrace, TraceSink, TraceSinkBuilder, client::ClientBuilder, tls::KeyLog};
use std::path::Path;

#[cfg(target_os = "linux")]
mod kernel;
#[cfg(not(target_os = "linux"))]
#[path = "unsupported/kernel.rs"]
mod kernel;
#[cfg(not(feature = "capture"))]
#[path = "unsupported/pcap_output.rs"]
mod pcap_output;
#[cfg(feature = "capture")]
mod pcap_output;

pub(crate) use self::kernel::KernelProbes;

/// The enabled probes. They are set up before the request is made, so that an unwritable file is reported first.
pub(crate) struct Probes {
    key_log: Option<KeyLog>,
    kernel: KernelProbes,
    packets: Option<pcap_output::PcapOutput>,
}

impl Probes {
    pub(crate) fn new(args: &ProbeArgs) -> Result<Self, Problem> {
        let key_log = args.keylog.as_deref().map(key_log).transpose()?;
        let packets = match &args.pcap_file {
            Some(file) => Some(pcap_output::PcapOutput::start(file, &args.pcap)?),
            None => None,
        };
        Ok(Probes { key_log, kernel: KernelProbes::start(args.conntrack, args.conntrack_zone)?, packets })
    }

    pub(crate) fn sink(&self, builder: TraceSinkBuilder) -> TraceSink {
        let builder = self.kernel.probes(builder);
        let builder = match &self.packets {
            Some(packets) => packets.probe(builder),
            None => builder,
        };
        builder.build()
    }

    pub(crate) fn client(&self, builder: ClientBuilder) -> ClientBuilder {
        match &self.key_log {
            Some(key_log) => builder.tls_key_log(key_log),
            None => builder,
        }
    }

    /// Writes the files after all requests. What could not be recorded is only a warning.
    pub(crate) fn finish(&self, trace: &NetTrace) -> Result<(), Problem> {
        self.kernel.warn_of_problems();
        if let Some(error) = self.key_log.as_ref().and_then(KeyLog::file_error) {
            warn(&format!("not all TLS secrets were written: {error}"));
        }
        match &self.packets {
            Some(packets) => packets.write(trace, self.key_log.as_ref()),
            None => Ok(()),
        }
    }
}

fn key_log(path: &Path) -> Result<KeyLog, Problem> {
    KeyLog::to_file(path).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Problem {
    Problem::usage(format!("cannot write {}: {error}", path.display()))
}
