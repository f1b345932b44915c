//! HTTP keep-alive (connections that serve one request or many) and TCP keep-alive.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nettrace::connect::KeepAlive;
use nettrace::record::EndReason;
use nettrace::{Probe, ProbeEvent, ProbeSocket, TraceSink};

use crate::{client, eventually, read};
use test_support::web::{Web, reply};

#[tokio::test]
async fn without_keep_alive_each_request_has_its_own_connection() {
    let web = Web::start(async |request| reply(request.header("connection").to_owned()));
    let (client, sink) = client(|builder| builder.keep_alive(false));
    let first = read(client.get(web.url("/")).await).await;
    let second = read(client.get(web.url("/")).await).await;
    assert_eq!((first.1.as_str(), second.1.as_str()), ("close", "close"));
    assert_ne!(first.0, second.0);
    eventually(|| sink.snapshot("").tcp_conns.iter().all(|conn| conn.end_reason == Some(EndReason::Closed)))
        .await;
    assert_eq!(sink.snapshot("").tcp_conns.len(), 2);
}

/// The paused clock advances only while every task waits for a timer: if it has not advanced, no request has waited.
#[tokio::test(start_paused = true)]
async fn requests_do_not_wait_for_connections_that_are_not_reused() {
    let web = Web::start(async |_| reply("hello"));
    let begin = tokio::time::Instant::now();
    let (off, _) = client(|builder| builder.keep_alive(false));
    let (none, _) = client(|builder| builder.max_idle_conns_per_host(0));
    for client in [off, none] {
        for _ in 0..10 {
            read(client.get(web.url("/")).await).await;
        }
    }
    assert!(begin.elapsed().is_zero(), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn connections_are_reused_by_default() {
    let web = Web::start(async |request| reply(request.header("connection").to_owned()));
    let (client, _) = client(|builder| builder);
    let first = read(client.get(web.url("/")).await).await;
    let second = read(client.get(web.url("/")).await).await;
    assert_eq!((first.1.as_str(), first.0), ("", second.0));
}

/// Whether TCP keep-alive is on, and how long a connection is idle before the first probe.
type Setting = (bool, Option<Duration>);

/// A [`Probe`] that collects the keep-alive settings of connected sockets.
#[derive(Clone, Default)]
struct Settings(Arc<Mutex<Vec<Setting>>>);

impl Probe for Settings {
    fn event(&self, _: &nettrace::ConnRef, event: ProbeEvent, socket: ProbeSocket<'_>) {
        if event == ProbeEvent::Connected {
            let socket = socket2::SockRef::from(&socket);
            let on = socket.keepalive().unwrap();
            self.0.lock().unwrap().push((on, on.then(|| socket.tcp_keepalive_time().unwrap())));
        }
    }
}

#[tokio::test]
async fn tcp_keep_alive_is_set_on_the_socket() {
    let web = Web::start(async |_| reply(""));
    for (keep_alive, expected) in [
        (None, (true, Some(Duration::from_secs(15)))),
        (Some(KeepAlive::Every(Duration::from_secs(77))), (true, Some(Duration::from_secs(77)))),
        (Some(KeepAlive::Off), (false, None)),
    ] {
        let settings = Settings::default();
        let sink = TraceSink::builder().probe(settings.clone()).build();
        let mut builder = nettrace::Client::builder(&sink);
        if let Some(keep_alive) = keep_alive {
            builder = builder.tcp_keep_alive(keep_alive);
        }
        read(builder.build().unwrap().get(web.url("/")).await).await;
        assert_eq!(settings.0.lock().unwrap().as_slice(), [expected]);
    }
}
