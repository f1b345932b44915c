//! The code that the examples share: their arguments, and a server for when no URL is given.

// Every example compiles this module and uses a part of it.
#![allow(dead_code)]

use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use nettrace::NetTrace;
use std::{convert::Infallible, error::Error, fs::File, io, path::PathBuf};
use tokio::net::TcpListener;

/// The command line: `[URL] [--json FILE]`.
pub struct Arguments {
    pub url: Option<String>,
    pub json: Option<PathBuf>,
}

impl Arguments {
    pub fn read() -> Result<Self, String> {
        let mut arguments = Arguments { url: None, json: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--json" => arguments.json = Some(words.next().ok_or("--json needs a file")?.into()),
                flag if flag.starts_with('-') => {
                    return Err(format!("usage: [URL] [--json FILE], not {flag}"));
                }
                _ => arguments.url = Some(word),
            }
        }
        Ok(arguments)
    }

    /// Returns the given URL, or starts a server on loopback and returns its URL.
    pub async fn url_or_own_server(&self) -> io::Result<String> {
        match &self.url {
            Some(url) => Ok(url.clone()),
            None => serve().await,
        }
    }

    /// Writes the trace to the file that `--json` names, if it is given.
    pub fn write(&self, trace: &NetTrace) -> Result<(), Box<dyn Error>> {
        if let Some(path) = &self.json {
            serde_json::to_writer_pretty(File::create(path)?, &trace.precise())?;
            println!("wrote {}", path.display());
        }
        Ok(())
    }
}

async fn serve() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://localhost:{}/", listener.local_addr()?.port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service_fn(greet)).await;
            });
        }
    });
    Ok(url)
}

pub async fn greet(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(format!("hello from {}\n", request.uri().path()).into()))
}
