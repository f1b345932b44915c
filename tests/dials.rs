//! Many dials, half of them failing, leave no descriptor and no task behind, and a bounded number of records.
//!
//! The default of 24,000 dials is slightly more than a sink keeps, and takes a few seconds. `NETTRACE_DIALS` sets
//! another number.
#![cfg(feature = "client")]

use std::{
    env, fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use nettrace::{Client, Failure, TraceSink, connect::TcpConnector};
use test_support::{raw::Refused, wait::alive_tasks};
use tokio::time;

/// The number of servers, each on an address of its own in 127.0.0.0/8. For one address the 28,000 ephemeral ports
/// would be used up, because a port is free only a minute after its connection was closed.
const ADDRESSES: u8 = 8;
const AT_ONCE: usize = 16;

#[tokio::test]
async fn many_dials_leave_nothing_behind() {
    let dials = env::var("NETTRACE_DIALS").map_or(24_000, |dials| dials.parse().expect("a number"));
    let servers: Vec<SocketAddr> = (1..=ADDRESSES).map(serve).collect();
    let refused = Refused::on("127.0.0.1:0");
    dial(&servers, refused.addr, 4 * AT_ONCE).await; // creates the one-time resources
    let before = Resources::now();
    let begin = Instant::now();
    dial(&servers, refused.addr, dials).await;
    let took = begin.elapsed();
    // The server closes its ends a little later.
    let mut after = Resources::now();
    for _ in 0..1_000 {
        if after == before {
            break;
        }
        time::sleep(Duration::from_millis(10)).await;
        after = Resources::now();
    }
    println!("{dials} dials in {took:.1?}; before {before:?}, after {after:?}");
    assert_eq!(after, before);
}

/// Makes half of the dials with the connector alone, and half with the preset. Every second dial fails.
async fn dial(servers: &[SocketAddr], refused: SocketAddr, dials: usize) {
    let sink = TraceSink::new();
    let connector = TcpConnector::new(&sink);
    let by_connector = |i: usize| {
        let connector = connector.clone();
        async move {
            let fails = i % 2 == 1;
            let addr = if fails { refused } else { servers[i / 2 % servers.len()] };
            let dialed = connector.connect(addr).await;
            assert_eq!(dialed.err().map(|error| error.failure()), expected(fails));
        }
    };
    stream::iter(0..dials / 2).map(by_connector).buffer_unordered(AT_ONCE).collect::<()>().await;

    let client = &Client::builder(&sink).build().unwrap();
    let by_preset = |i: usize| async move {
        let fails = i % 2 == 1;
        let addr = if fails { refused } else { servers[i / 2 % servers.len()] };
        match client.get(format!("http://{addr}/")).await {
            Ok(response) => {
                assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
                assert!(!fails);
            }
            Err(error) => assert_eq!(Some(error.failure()), expected(fails)),
        }
    };
    stream::iter(0..dials / 2).map(by_preset).buffer_unordered(AT_ONCE).collect::<()>().await;
    client.close().await;
    assert_bounded(&sink, dials);
}

fn expected(fails: bool) -> Option<Failure> {
    fails.then_some(Failure::ConnectionRefused)
}

/// Asserts that every record is kept or counted, within the default bounds, and that none is open.
fn assert_bounded(sink: &TraceSink, dials: usize) {
    let trace = sink.snapshot("all");
    let dropped = trace.dropped.unwrap_or_default();
    let kept = [trace.dials.len(), trace.tcp_conns.len(), trace.http_requests.len()];
    println!("{kept:?} dials, connections and requests are kept, and {dropped:?}");
    assert_eq!(kept[0] as u64 + dropped.dials, dials as u64);
    assert_eq!(kept[1] as u64 + dropped.tcp_conns, dials as u64);
    assert_eq!(kept[2] as u64 + dropped.http_requests, dials as u64 / 2);
    assert!(kept[0] <= 20_100 && kept[1] <= 20_100 && kept[2] <= 10_100, "{kept:?}");
    assert!(trace.dials.iter().all(|dial| dial.end_reason.is_some()));
    assert!(trace.tcp_conns.iter().all(|conn| conn.end_reason.is_some()));
    assert!(trace.http_requests.iter().all(|request| request.end_reason.is_some()));
}

/// The resources in which a leak would show.
#[derive(Debug, PartialEq)]
struct Resources {
    descriptors: usize,
    tasks: usize,
}

impl Resources {
    fn now() -> Self {
        let descriptors = fs::read_dir("/proc/self/fd").expect("Linux").count();
        Resources { descriptors, tasks: alive_tasks() }
    }
}

/// Starts a server on 127.0.0.`last_byte` that answers one request per connection, one connection at a time.
fn serve(last_byte: u8) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, last_byte], 0))).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // An error is how the client has ended the connection.
            let _ = answer(stream.unwrap());
        }
    });
    addr
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let (mut head, mut buffer) = (Vec::new(), [0; 1_024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => head.extend(&buffer[..n]),
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello")
}
