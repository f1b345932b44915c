//! Traces reqwest in both ways: observes an unmodified client, then sends the same request with this crate's client.
//!
//! ```text
//! cargo run --example reqwest --features reqwest -- [URL] [--json FILE]
//! ```
//!
//! Without a URL the requests go to a server of the example's own on loopback.

mod common;

use common::Arguments;
use nettrace::{Client, ResponseExt, TraceSink, reqwest::RequestBuilderExt, view};
use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let url = arguments.url_or_own_server().await?;

    let sink = TraceSink::new();
    let builder = reqwest::Client::builder();
    let client = nettrace::reqwest::trace(builder, &sink)?.build()?; // <- instead of `builder.build()`

    let sent = client.get(&url).send_traced(&client); // <- instead of `send()`
    let request = sent.request_handle().clone();
    match sent.await {
        Ok(response) => {
            println!("{} answered {}", response.url(), response.status());
            println!("{} bytes", response.bytes().await?.len());
            println!("observed: {}", request.timings()?);
        }
        // The error is reqwest's own; the trace says why.
        Err(error) => eprintln!("{error}\n{}", view::waterfall(&request.trace())),
    }

    let own_client = Client::builder(&sink).build()?;
    match client.get(&url).send_through(&own_client).await {
        Ok(response) => {
            let request = response.request_handle().cloned();
            println!("{} bytes", response.bytes().await?.len());
            if let Some(request) = request {
                println!("with this crate's client: {}", request.timings()?);
            }
        }
        Err(error) => eprintln!("{error}\n{}", view::waterfall(&error.request().trace())),
    }
    own_client.close().await;
    arguments.write(&sink.snapshot(format!("GET {url}")))
}
