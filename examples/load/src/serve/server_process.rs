//! The server in a process of its own.

use super::NAME;
use crate::args::Args;
use std::{
    collections::HashMap,
    env,
    error::Error,
    io::{BufRead, BufReader},
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
};

/// The server in a process of its own, which ends when the value is dropped.
pub struct ServerProcess(Child);

impl ServerProcess {
    /// Starts the server, and fills in its addresses in `args`.
    pub fn start(args: &mut Args) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(env::current_exe()?)
            .arg("--serve")
            .args(args.unpinned.then_some("--unpinned"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines().take(5);
        let child = ServerProcess(child);
        let mut printed = HashMap::new();
        for line in lines {
            let line = line?;
            let (name, address) = line.split_once(' ').ok_or("the server printed an unexpected line")?;
            printed.insert(name.to_owned(), address.to_owned());
        }
        let get =
            |name: &str| printed.get(name).ok_or_else(|| format!("the server did not print its {name}"));
        args.http2 |= args.url == "h2";
        args.url = format!("{}{}", get(&args.url)?, args.path);
        args.cacert = Some(get("cacert")?.into());
        if args.names {
            args.url = args.url.replace(&Ipv4Addr::LOCALHOST.to_string(), NAME);
            args.nameserver = Some(get("dns")?.parse()?);
        }
        Ok(child)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // The server exits when its stdin is closed.
        let _ = self.0.wait();
    }
}
