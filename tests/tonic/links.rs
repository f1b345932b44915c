//! The links from calls to the connections that carried them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use futures_util::future::join_all;
use nettrace::tonic::{Channel, connect, connect_lazy};
use nettrace::{RequestHandle, TraceId, TraceSink};
use tonic::Code;

use crate::greeter::GreeterClient;
use crate::servers::{ReservedPort, assert_linked, closed, greet, link};
use test_support::check;

type Greeter = GreeterClient<Channel>;
/// The channel that it was made on, the call, and the port that the server saw.
type Call = (usize, RequestHandle, Result<u16, Code>);

async fn channels(place: &ReservedPort, sink: &TraceSink, lazy: bool) -> [Greeter; 2] {
    let one = async || match lazy {
        true => connect_lazy(sink, place.endpoint()),
        false => connect(sink, place.endpoint()).await.expect("a channel"),
    };
    [GreeterClient::new(one().await), GreeterClient::new(one().await)]
}

async fn sixty_four(channels: &[Greeter; 2]) -> Vec<Call> {
    let calls = (0..64).map(|i| {
        let channel = channels[i % 2].clone();
        tokio::spawn(async move {
            let (call, port) = greet(&channel, &format!("number {i}")).await;
            (i % 2, call, port)
        })
    });
    join_all(calls).await.into_iter().map(|call| call.expect("no panic")).collect()
}

/// Asserts that each call is linked to its connection, and that no connection served both channels. Returns the
/// connections by channel.
#[track_caller]
fn assert_all_linked(sink: &TraceSink, calls: &[Call]) -> [HashSet<TraceId>; 2] {
    let trace = sink.snapshot("");
    check::running(&trace);
    let mut used = [HashSet::new(), HashSet::new()];
    for (channel, call, port) in calls {
        match port {
            Ok(port) => {
                used[*channel].insert(assert_linked(&trace, call, *port).tcp_conn.clone());
            }
            // Where it had come to a connection, that is one of its channel's, as is checked below.
            Err(_) => used[*channel].extend(link(&trace, call).1.map(|conn| conn.trace_id.clone())),
        }
    }
    assert!(used[0].is_disjoint(&used[1]), "{used:?}");
    used
}

async fn a_restart_in_between(lazy: bool, cut: bool) {
    let place = ReservedPort::new();
    let server = place.serve();
    let sink = TraceSink::new();
    let channels = channels(&place, &sink, lazy).await;

    let before = sixty_four(&channels).await;
    if cut {
        drop(server)
    } else {
        server.shut_down()
    }
    let _server = place.serve();
    // A connection may turn out to be gone only when it is used.
    for channel in &channels {
        while greet(channel, "again").await.1.is_err() {}
    }
    let after = sixty_four(&channels).await;

    let ports = |calls: &[Call]| -> [HashSet<u16>; 2] {
        [0, 1].map(|channel| {
            let calls = calls.iter().filter(|call| call.0 == channel);
            calls.map(|call| *call.2.as_ref().expect("it succeeds")).collect()
        })
    };
    let (then, now) = (ports(&before), ports(&after));
    assert!([&then, &now].iter().all(|ports| ports.iter().all(|ports| ports.len() == 1)), "{then:?} {now:?}");
    let all: HashSet<u16> = then.iter().chain(&now).flatten().copied().collect();
    assert_eq!(all.len(), 4, "two connections before and two after");

    let calls: Vec<Call> = before.into_iter().chain(after).collect();
    let used = assert_all_linked(&sink, &calls);
    assert_eq!(used.map(|conns| conns.len()), [2, 2]);
    drop(channels);
    let trace = closed(&sink).await;
    check::finished(&trace);
    // Every dial led to a connection of a channel.
    assert!(trace.tcp_conns.len() >= 4 && trace.dials.len() == trace.tcp_conns.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_calls_over_two_channels_and_a_restart() {
    for (lazy, cut) in [(false, false), (false, true), (true, false), (true, true)] {
        a_restart_in_between(lazy, cut).await;
    }
}

/// The server goes away and comes back while calls are made without pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn restarts_amid_calls() {
    let place = ReservedPort::new();
    let mut server = place.serve();
    let sink = TraceSink::new();
    let channels = channels(&place, &sink, true).await;
    let answered = Arc::new(AtomicUsize::new(0));
    let restarted = Arc::new(AtomicBool::new(false));
    let callers = (0..64).map(|i| {
        let (channel, answered, restarted) = (channels[i % 2].clone(), answered.clone(), restarted.clone());
        tokio::spawn(async move {
            let (mut calls, mut done): (Vec<Call>, usize) = (Vec::new(), 0);
            let mut is_after_restarts = false;
            while done < 12 || !is_after_restarts {
                let is_last = restarted.load(Relaxed);
                let (call, port) = greet(&channel, "caller").await;
                done += usize::from(port.is_ok());
                is_after_restarts |= is_last && port.is_ok();
                answered.fetch_add(port.is_ok().into(), Relaxed);
                calls.push((i % 2, call, port));
                tokio::task::yield_now().await;
            }
            calls
        })
    });
    let callers: Vec<_> = callers.collect();
    for restart in 1..=4 {
        while answered.load(Relaxed) < restart * 150 {
            tokio::task::yield_now().await;
        }
        if restart % 2 == 0 {
            drop(server)
        } else {
            server.shut_down()
        }
        server = place.serve();
    }
    restarted.store(true, Relaxed);
    let calls: Vec<Call> =
        join_all(callers).await.into_iter().flat_map(|calls| calls.expect("no panic")).collect();
    let used = assert_all_linked(&sink, &calls);
    assert!(used.iter().all(|conns| conns.len() >= 5), "each restart takes another connection: {used:?}");
    drop((channels, server));
    let trace = closed(&sink).await;
    check::finished(&trace);
    // A call that failed is no more than that; what it was linked to says why.
    let failed = trace.http_requests.iter().filter(|request| request.failure.is_some());
    assert!(failed.clone().all(|request| request.grpc_status.is_none() && !request.req_error.is_empty()));
    let mut reasons: HashMap<String, usize> = HashMap::new();
    failed
        .for_each(|request| *reasons.entry(request.failure.as_ref().unwrap().to_string()).or_default() += 1);
    assert!(reasons.keys().all(|reason| !reason.starts_with("unknown_failure")), "{reasons:?}");
}

/// A call may be made by another call's stream: then it goes over a connection of its own channel.
#[tokio::test]
async fn calls_within_calls() {
    let (outer_place, inner_place) = (ReservedPort::new(), ReservedPort::new());
    let _servers = (outer_place.serve(), inner_place.serve());
    let sink = TraceSink::new();
    let mut outer = GreeterClient::new(connect(&sink, outer_place.endpoint()).await.unwrap());
    let inner = GreeterClient::new(connect_lazy(&sink, inner_place.endpoint()));
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    // Polled by the task of the outer connection.
    let names = futures_util::stream::unfold(0, move |i| {
        let (inner, tell) = (inner.clone(), tell.clone());
        async move {
            let (call, port) = greet(&inner, "inner").await;
            tell.send((call, port.expect("it succeeds"))).unwrap();
            (i < 3).then(|| (crate::greeter::Name::of("outer"), i + 1))
        }
    });
    let (call, request) = crate::servers::call(names);
    let greeting = outer.greet_all(request).await.unwrap().into_inner();
    let trace = sink.snapshot("");
    let of_outer = assert_linked(&trace, &call, greeting.port as u16);
    let mut inner_calls = 0;
    while let Ok((call, port)) = told.try_recv() {
        let record = assert_linked(&trace, &call, port);
        assert_ne!(record.tcp_conn, of_outer.tcp_conn);
        inner_calls += 1;
    }
    assert_eq!((inner_calls, trace.tcp_conns.len()), (4, 2));
}

#[tokio::test]
async fn a_sink_that_is_off_links_nothing_and_lets_everything_through() {
    let place = ReservedPort::new();
    let _server = place.serve();
    for sink in [TraceSink::disabled(), TraceSink::new()] {
        sink.close();
        for lazy in [true, false] {
            let [client, _] = channels(&place, &sink, lazy).await;
            let (call, port) = greet(&client, "untraced").await;
            assert!(port.is_ok() && call.id().is_undefined());
        }
        assert!(sink.snapshot("").tcp_conns.is_empty() && sink.snapshot("").http_requests.is_empty());
    }
}

/// A connection that was made while the sink was off has no record, and calls on it are not linked.
#[tokio::test]
async fn a_connection_from_before() {
    let place = ReservedPort::new();
    let server = place.serve();
    let sink = TraceSink::new();
    sink.set_enabled(false);
    let [client, _] = channels(&place, &sink, false).await;
    sink.set_enabled(true);
    let (call, port) = greet(&client, "anybody").await;
    assert!(port.is_ok());
    assert!(link(&sink.snapshot(""), &call).1.is_none());
    drop(server);
    let _server = place.serve();
    while greet(&client, "again").await.1.is_err() {}
    let (call, port) = greet(&client, "anybody").await;
    assert_linked(&sink.snapshot(""), &call, port.unwrap());
}
