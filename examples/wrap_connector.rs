//! scratch
use nettrace::{Client, ResponseExt, TraceSink};
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sink = TraceSink::new();
    let client = Client::builder(&sink).build()?;
    let url = std::env::args().nth(1).unwrap();
    match client.get(&url).await {
        Ok(response) => {
            let handle = response.request_handle().cloned().unwrap();
            let body = response.into_body().bytes().await?;
            println!("{} bytes {}", body.len(), handle.timings()?);
        }
        Err(error) => println!("{error} {:?} {:?}", error.failure(), error),
    }
    client.close().await;
    println!("{}", serde_json::to_string_pretty(&sink.snapshot("x"))?);
    Ok(())
}
