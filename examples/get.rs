//! Makes a request with the prebuilt client, and prints how long each phase took.
//!
//! ```text
//! cargo run --example get -- [URL] [--json FILE]
//! ```
//!
//! Without a URL the request goes to a server of the example's own on loopback.

mod common;

use common::Arguments;
use nettrace::{Client, ResponseExt, TraceSink, view};
use std::{error::Error, process::ExitCode, time::Duration};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let url = arguments.url_or_own_server().await?;

    let sink = TraceSink::new();
    let client = Client::builder(&sink).timeout(Duration::from_secs(30)).build()?;
    let code = match client.get(&url).await {
        Ok(response) => {
            let request = response.request_handle().cloned();
            println!("{url} answered {}", response.status());
            let body = response.into_body().bytes().await?;
            println!("{} bytes", body.len());
            if let Some(request) = request {
                println!("{}", request.timings()?);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{url} failed: {error} ({})", error.failure());
            eprintln!("{}", view::waterfall(&error.request().trace()));
            ExitCode::FAILURE
        }
    };
    client.close().await;
    arguments.write(&sink.snapshot(format!("GET {url}")))?;
    Ok(code)
}
