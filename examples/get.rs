//! The preset: `cargo run --example get -- [URL] [--json FILE]`.
//!
//! Without a URL it asks a server of its own on loopback.

mod common;

use common::Arguments;
use nettrace::{Client, ResponseExt, TraceSink};
use std::{error::Error, time::Duration};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let url = arguments.url_or_own_server().await?;

    let sink = TraceSink::new();
    let client = Client::builder(&sink).timeout(Duration::from_secs(30)).build()?;
    match client.get(&url).await {
        Ok(response) => {
            let request = response.request_handle().cloned();
            println!("{url} answered {}", response.status());
            let body = response.into_body().bytes().await?;
            println!("{} bytes", body.len());
            if let Some(request) = request {
                println!("{}", request.timings()?);
            }
        }
        Err(error) => println!("{url} failed: {} ({})", error, error.failure()),
    }
    client.close().await;
    arguments.write(&sink.snapshot(format!("GET {url}")))
}
