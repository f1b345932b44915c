//! Tasks that make requests until they are stopped.

use nettrace::{Client, TraceSink};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::time::timeout;

/// Requests that are made one after another, a few at a time.
pub struct Workers {
    is_stopped: Arc<AtomicBool>,
    thread: JoinHandle<Made>,
}

/// How many requests were made.
#[derive(Clone, Copy, Default)]
pub struct Made {
    /// Those that failed, or that the server answered with an error.
    pub failed: u64,
    /// All others.
    pub fine: u64,
}

const TASKS: usize = 8;

/// A port of loopback on which nothing listens.
const REFUSED: &str = "http://127.0.0.1:1";

impl Workers {
    pub fn start(sink: &TraceSink, url: &str) -> Self {
        let is_stopped = Arc::<AtomicBool>::default();
        let (sink, url, stop) = (sink.clone(), url.to_owned(), is_stopped.clone());
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(run(sink, url, stop))
        });
        Workers { is_stopped, thread }
    }

    /// Waits for the requests that are under way.
    pub fn stop(self) -> Made {
        self.is_stopped.store(true, Relaxed);
        self.thread.join().expect("no worker panics")
    }
}

impl Made {
    pub fn total(self) -> u64 {
        self.failed + self.fine
    }
}

async fn run(sink: TraceSink, url: String, stop: Arc<AtomicBool>) -> Made {
    let client = |keep_alive| {
        let builder = Client::builder(&sink).keep_alive(keep_alive).timeout(Duration::from_secs(20));
        builder.build().expect("a client")
    };
    let worker = Arc::new(Worker { kept: client(true), fresh: client(false), url, next: AtomicU64::new(0) });
    let tasks = (0..TASKS).map(|_| {
        let (worker, stop) = (worker.clone(), stop.clone());
        tokio::spawn(async move {
            let mut made = Made::default();
            while !stop.load(Relaxed) {
                match worker.request().await {
                    true => made.fine += 1,
                    false => made.failed += 1,
                }
            }
            made
        })
    });
    let mut made = Made::default();
    for task in tasks.collect::<Vec<_>>() {
        let of_task = task.await.expect("no worker panics");
        made.failed += of_task.failed;
        made.fine += of_task.fine;
    }
    worker.kept.close().await;
    worker.fresh.close().await;
    made
}

struct Worker {
    kept: Client,
    fresh: Client,
    url: String,
    next: AtomicU64,
}

impl Worker {
    /// Makes the next request. Returns `false` if its record is that of a failure.
    async fn request(&self) -> bool {
        let number = self.next.fetch_add(1, Relaxed);
        let url = |base: &str, what: &str| format!("{base}{what}/{number}");
        match number % 100 {
            1 => fetch(&self.fresh, url(REFUSED, "")).await,
            2 => fetch(&self.kept, url(&self.url, "/closes")).await,
            3 => fetch(&self.kept, url(&self.url, "/fails")).await,
            4 => {
                // Dropped while it waits for the response: nobody saw a failure.
                let hanging = self.kept.get(url(&self.url, "/hangs"));
                assert!(
                    timeout(Duration::from_millis(2), hanging).await.is_err(),
                    "the server does not answer"
                );
                true
            }
            5 => {
                let response = self.kept.get(url(&self.url, "/dropped")).await.expect("the server answers");
                drop(response);
                true
            }
            6..20 => fetch(&self.fresh, url(&self.url, "/fresh")).await,
            _ => fetch(&self.kept, url(&self.url, "/kept")).await,
        }
    }
}

async fn fetch(client: &Client, url: String) -> bool {
    let Ok(response) = client.get(&url).await else { return false };
    let is_fine = response.status().is_success();
    response.into_body().bytes().await.is_ok() && is_fine
}
