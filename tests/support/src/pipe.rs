//! One end of a connection in memory, which hyper-util's client takes.

use crate::delegate_io;
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::DuplexStream;

/// One end of a connection in memory.
#[derive(Debug)]
pub struct Pipe(pub DuplexStream);

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

delegate_io!(Pipe);
