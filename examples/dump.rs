//! A program that leaves its recorder on. It writes the whole trace to a directory when a request fails, and when it gets
//! the signal SIGUSR1.
//!
//! ```text
//! cargo run --example dump -- [DIRECTORY]
//! kill -USR1 PID
//! nettrace show DIRECTORY/nettrace-dump-….json --failed
//! ```
//!
//! It makes a request to a server of its own every second, until it gets SIGINT or SIGTERM. Without a directory the dumps go
//! to `nettrace-dumps` in the directory for temporary files.

#[cfg(unix)]
mod common;

#[cfg(unix)]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use common::Arguments;
    use nettrace::{Client, Dump, TraceSink};
    use std::{env, path::PathBuf, process, time::Duration};
    use tokio::signal::unix::{SignalKind, signal};

    let dir = env::args_os().nth(1).map_or_else(|| env::temp_dir().join("nettrace-dumps"), PathBuf::from);
    // A failure every few seconds fills the directory no faster than once in ten minutes.
    let dump = Dump::to(&dir).interval(Duration::from_secs(600)).max_files(20);
    let sink = TraceSink::builder().dump(dump.clone()).build();
    let client = Client::builder(&sink).timeout(Duration::from_secs(5)).build()?;
    let url = Arguments { url: None, json: None }.url_or_own_server().await?;

    let mut asked = signal(SignalKind::user_defined1())?;
    let (mut interrupted, mut terminated) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    println!("process {} dumps to {}", process::id(), dir.display());
    loop {
        tokio::select! {
            _ = every_second.tick() => match client.get(&url).await {
                Ok(response) => drop(response.into_body().bytes().await),
                Err(error) => eprintln!("{url} failed: {error}"),
            },
            _ = asked.recv() => {
                let (sink, dump) = (sink.clone(), dump.clone());
                // Writing blocks.
                match tokio::task::spawn_blocking(move || dump.write(&sink, "SIGUSR1")).await? {
                    Ok(file) => println!("wrote {}", file.display()),
                    Err(error) => eprintln!("cannot write to {}: {error}", dir.display()),
                }
            }
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
        }
    }
    client.close().await;
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    eprintln!("this example needs the signals of Unix");
}
