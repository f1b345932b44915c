//! The pool's answer to an exchange: the connection that it gets, or why it gets none.

use super::*;

/// Returns why the next exchange finds no connection, and what keeps it from dialing.
fn reason(pool: &mut Fixture) -> (NotReused, Option<PoolWait>) {
    let waiting = pool.wait('?');
    pool.state.leave(pool.host, waiting.ticket);
    waiting.permit.into_iter().for_each(|permit| pool.state.closed(permit));
    pool.actions();
    (waiting.reason, waiting.obstacle)
}

#[test]
fn an_exchange_is_told_why_there_is_nothing_to_reuse() {
    let mut pool = pool(Limits {
        idle_timeout: Some(Duration::from_secs(9)),
        max_idle_per_host: Some(1),
        max_per_host: Some(2),
        ..Limits::default()
    });
    assert_eq!(reason(&mut pool), (NotReused::First, None));
    let [a, b] = ["a", "b"].map(|name| pool.dial(http1(name)));
    assert_eq!(reason(&mut pool), (NotReused::Busy, Some(PoolWait::Limit)));

    pool.state.closed(a);
    assert_eq!(reason(&mut pool), (NotReused::Busy, None));
    pool.state.closed(b);
    assert_eq!(reason(&mut pool), (NotReused::NotKept, None));

    let [a, b] = ["a", "b"].map(|name| pool.dial(http1(name)));
    pool.release(a, "a");
    pool.release(b, "b");
    pool.state.closed(a);
    pool.state.closed(b);
    assert_eq!(reason(&mut pool), (NotReused::IdleLimit, None), "`b` was closed last, and one may be idle");
    let a = pool.dial(http1("a"));
    pool.release(a, "a");
    pool.state.closed(a);
    assert_eq!(reason(&mut pool), (NotReused::ClosedWhileIdle, None));
}

#[test]
fn a_connection_is_lost_for_the_reason_that_it_is_closed_for() {
    let limits = Limits { idle_timeout: Some(Duration::from_secs(9)), ..Limits::default() };
    type Close = fn(&mut Fixture, ConnId);
    let cases: [(Limits, Close, NotReused); 4] = [
        (limits, |pool, _| _ = pool.state.expire(pool.now), NotReused::IdleTimeout),
        (limits, |pool, _| pool.state.close_idle(), NotReused::ClosedByProgram),
        (limits, |pool, _| assert_eq!(pool.checkout(), None), NotReused::IdleTimeout),
        (limits, |_, _| (), NotReused::ClosedWhileIdle),
    ];
    for (limits, close, expected) in cases {
        let mut pool = pool(limits);
        let id = pool.dial(http1("a"));
        pool.release(id, "a");
        pool.pass(9);
        close(&mut pool, id);
        if expected != NotReused::ClosedWhileIdle {
            assert_eq!(reason(&mut pool), (expected, None), "it is about to be closed");
        }
        pool.state.closed(id);
        assert_eq!(reason(&mut pool), (expected, None));
    }

    let mut none_idle = pool(Limits { max_idle: Some(0), ..Limits::default() });
    let id = none_idle.dial(http1("a"));
    none_idle.release(id, "a");
    none_idle.state.closed(id);
    assert_eq!(reason(&mut none_idle), (NotReused::IdleLimit, None));

    let mut never = pool(Limits { max_idle_per_host: Some(0), ..Limits::default() });
    let id = never.dial(http1("a"));
    never.state.closed(id);
    assert_eq!(reason(&mut never), (NotReused::KeepAliveOff, None));
}

#[test]
fn a_checkout_tells_how_long_the_connection_was_idle() {
    let mut pool = pool(Limits::default());
    let id = pool.dial(http1("a"));
    pool.release(id, "a");
    pool.pass(7);
    let idle = Duration::from_secs(7);
    let reused = (http1("a"), PoolConnection::Reused { idle });
    assert_eq!(pool.state.checkout(pool.host, pool.now), Some(reused));

    pool.host = pool.state.add_host(true, NotReused::OtherKey);
    assert_eq!(reason(&mut pool), (NotReused::OtherKey, None));
    let first = pool.wait('a');
    let second = pool.wait('b');
    assert_eq!((second.reason, second.obstacle), (NotReused::Busy, Some(PoolWait::Dial)));
    let id = first.permit.unwrap();
    pool.state.leave(pool.host, first.ticket);
    pool.state.leave(pool.host, second.ticket);
    pool.state.opened(id, "h");
    assert!(pool.state.connected(id, http2("h"), pool.now).is_some());
    assert_eq!(pool.state.checkout(pool.host, pool.now), Some((http2("h"), PoolConnection::Shared)));
    pool.state.dropped(id, pool.now);
    pool.state.dropped(id, pool.now);
    pool.pass(7);
    let reused = (http2("h"), PoolConnection::Reused { idle });
    assert_eq!(pool.state.checkout(pool.host, pool.now), Some(reused));
}
