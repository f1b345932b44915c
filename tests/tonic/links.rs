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
use test_support::{check, wait};

type Greeter = GreeterClient<Channel>;
/// The index of the channel, the handle of the call, and the client port that the server saw, or the status code.
type Call = (usize, RequestHandle, Result<u16, Code>);

async fn channels(place: &ReservedPort, sink: &TraceSink, lazy: bool) -> [Greeter; 2] {
    let new_channel = async || match lazy {
        true => connect_lazy(sink, place.endpoint()),
        false => connect(sink, place.endpoint()).await.expect("a channel"),
    };
    [GreeterClient::new(new_channel().await), GreeterClient::new(new_channel().await)]
}

async fn make_64_calls(channels: &[Greeter; 2]) -> Vec<Call> {
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
            // If a failed call is linked to a connection, it must be one of the call's channel, as is checked below.
            Err(_) => used[*channel].extend(link(&trace, call).1.map(|conn| conn.trace_id.clone())),
        }
    }
    assert!(used[0].is_disjoint(&used[1]), "{used:?}");
    used
}

async fn check_restart(lazy: bool, cut: bool) {
    let place = ReservedPort::new();
    let server = place.serve();
    let sink = TraceSink::new();
    let channels = channels(&place, &sink, lazy).await;

    let before = make_64_calls(&channels).await;
    if cut {
        drop(server)
    } else {
        server.shut_down()
    }
    let _server = place.serve();
    // A channel may notice only at the next call that its connection is gone.
    for channel in &channels {
        let deadline = wait::Deadline::new("a call over a new connection");
        while greet(channel, "again").await.1.is_err() {
            deadline.check();
        }
    }
    let after = make_64_calls(&channels).await;

    let ports = |calls: &[Call]| -> [HashSet<u16>; 2] {
        [0, 1].map(|channel| {
            let calls = calls.iter().filter(|call| call.0 == channel);
            calls.map(|call| *call.2.as_ref().expect("a successful call")).collect()
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
    // Every dial established a connection.
    assert!(trace.tcp_conns.len() >= 4 && trace.dials.len() == trace.tcp_conns.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_are_linked_across_a_restart() {
    for (lazy, cut) in [(false, false), (false, true), (true, false), (true, true)] {
        check_restart(lazy, cut).await;
    }
}

/// The server restarts four times while calls are made without pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_are_linked_while_the_server_restarts() {
    let place = ReservedPort::new();
    let mut server = place.serve();
    let sink = TraceSink::new();
    let channels = channels(&place, &sink, true).await;
    // The calls of each channel.
    let answered: Arc<[AtomicUsize; 2]> = Arc::default();
    let restarted = Arc::new(AtomicBool::new(false));
    let callers = (0..64).map(|i| {
        let (channel, answered, restarted) = (channels[i % 2].clone(), answered.clone(), restarted.clone());
        tokio::spawn(async move {
            let (mut calls, mut done): (Vec<Call>, usize) = (Vec::new(), 0);
            let mut is_after_restarts = false;
            let deadline = wait::Deadline::new("calls after the restarts");
            while done < 12 || !is_after_restarts {
                deadline.check();
                let is_last = restarted.load(Relaxed);
                let (call, port) = greet(&channel, "caller").await;
                done += usize::from(port.is_ok());
                is_after_restarts |= is_last && port.is_ok();
                answered[i % 2].fetch_add(port.is_ok().into(), Relaxed);
                calls.push((i % 2, call, port));
                tokio::task::yield_now().await;
            }
            calls
        })
    });
    let callers: Vec<_> = callers.collect();
    for restart in 1..=4 {
        let counts = || [0, 1].map(|channel| answered[channel].load(Relaxed));
        let before = counts();
        let has_called = || counts().iter().zip(before).all(|(count, before)| *count >= before + 75);
        wait::until("75 calls over each channel", has_called).await;
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
    assert!(used.iter().all(|conns| conns.len() >= 5), "each restart requires a new connection: {used:?}");
    drop((channels, server));
    let trace = closed(&sink).await;
    check::finished(&trace);
    // A failed call has an error text and a known failure, and no gRPC status.
    let failed = trace.http_requests.iter().filter(|request| request.failure.is_some());
    assert!(failed.clone().all(|request| request.grpc_status.is_none() && !request.req_error.is_empty()));
    let mut reasons: HashMap<String, usize> = HashMap::new();
    failed
        .for_each(|request| *reasons.entry(request.failure.as_ref().unwrap().to_string()).or_default() += 1);
    assert!(reasons.keys().all(|reason| !reason.starts_with("unknown_failure")), "{reasons:?}");
}

/// A call that is made while the request stream of another call is polled is linked to a connection of its own channel.
#[tokio::test]
async fn a_call_inside_the_stream_of_another_call_is_linked_to_its_own_channel() {
    let (outer_place, inner_place) = (ReservedPort::new(), ReservedPort::new());
    let _servers = (outer_place.serve(), inner_place.serve());
    let sink = TraceSink::new();
    let mut outer = GreeterClient::new(connect(&sink, outer_place.endpoint()).await.unwrap());
    let inner = GreeterClient::new(connect_lazy(&sink, inner_place.endpoint()));
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    // Polled by the task of the outer connection.
    let names = futures_util::stream::unfold(0, move |i| {
        let (inner, tx) = (inner.clone(), tx.clone());
        async move {
            let (call, port) = greet(&inner, "inner").await;
            tx.send((call, port.expect("a successful call"))).unwrap();
            (i < 3).then(|| (crate::greeter::Name::of("outer"), i + 1))
        }
    });
    let (call, request) = crate::servers::call(names);
    let greeting = outer.greet_all(request).await.unwrap().into_inner();
    let trace = sink.snapshot("");
    let outer_record = assert_linked(&trace, &call, greeting.port as u16);
    let mut inner_calls = 0;
    while let Ok((call, port)) = rx.try_recv() {
        let record = assert_linked(&trace, &call, port);
        assert_ne!(record.tcp_conn, outer_record.tcp_conn);
        inner_calls += 1;
    }
    assert_eq!((inner_calls, trace.tcp_conns.len()), (4, 2));
}

#[tokio::test]
async fn calls_succeed_unrecorded_with_a_disabled_or_closed_sink() {
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

/// A connection that was made while the sink was disabled has no record, so calls over it are not linked.
#[tokio::test]
async fn a_call_over_an_unrecorded_connection_is_not_linked() {
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
