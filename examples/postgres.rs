//! Traces a protocol that is not HTTP: tokio-postgres over a stream of `TcpConnector`.
//!
//! ```text
//! cargo run --example postgres -- [postgresql://USER@HOST/DATABASE] [--json FILE]
//! ```
//!
//! Without a URL it queries a small server of the example's own on loopback, which implements just enough of the
//! protocol to give the same answer to every query.

mod common;

use common::Arguments;
use nettrace::{TraceSink, connect::TcpConnector, view};
use std::{error::Error, io};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_postgres::{Config, NoTls, SimpleQueryMessage, config::Host};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let config: Config = match &arguments.url {
        Some(url) => url.parse()?,
        None => format!("postgresql://nobody@localhost:{}/", serve().await?).parse()?,
    };
    let Some(Host::Tcp(host)) = config.get_hosts().first() else { return Err("a host to connect to".into()) };
    let port = config.get_ports().first().copied().unwrap_or(5432);

    let sink = TraceSink::new();
    let stream = TcpConnector::new(&sink).connect((host.as_str(), port)).await?; // <- instead of TcpStream::connect
    let (client, driver) = config.connect_raw(stream, NoTls).await?;
    let driver = tokio::spawn(driver);
    for message in client.simple_query("SELECT version()").await? {
        if let SimpleQueryMessage::Row(row) = message {
            println!("{}", row.get(0).unwrap_or_default());
        }
    }
    drop(client); // sends Terminate
    driver.await??;

    let trace = sink.snapshot(format!("PostgreSQL at {host}:{port}"));
    print!("{}", view::waterfall(&trace));
    arguments.write(&trace)
}

/// Starts a server on loopback and returns its port.
async fn serve() -> io::Result<u16> {
    let listener = TcpListener::bind("localhost:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    Ok(port)
}

/// Serves one connection, as <https://www.postgresql.org/docs/current/protocol-flow.html> describes.
async fn answer(mut stream: TcpStream) -> io::Result<()> {
    const READY: (u8, &[u8]) = (b'Z', b"I");
    let startup = stream.read_u32().await?;
    stream.read_exact(&mut vec![0; startup as usize - 4]).await?;
    let authenticated = (b'R', &[0; 4][..]);
    write(&mut stream, &[authenticated, READY]).await?;
    while let Ok(kind) = stream.read_u8().await {
        let length = stream.read_u32().await?;
        stream.read_exact(&mut vec![0; length as usize - 4]).await?;
        if kind != b'Q' {
            break;
        }
        // One column of type text, and one row.
        let columns = b"\0\x01version\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
        let row = b"\0\x01\0\0\0\x17one that knows one line";
        write(&mut stream, &[(b'T', columns), (b'D', row), (b'C', b"SELECT 1\0"), READY]).await?;
    }
    Ok(())
}

async fn write(stream: &mut TcpStream, messages: &[(u8, &[u8])]) -> io::Result<()> {
    for (kind, content) in messages {
        stream.write_u8(*kind).await?;
        stream.write_u32(content.len() as u32 + 4).await?;
        stream.write_all(content).await?;
    }
    Ok(())
}
