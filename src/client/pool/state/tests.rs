//! The pool's state machine on plain values: connections, waiters and times without sockets or clocks.

use super::*;

mod reuse;

/// A fake connection, identified by its name.
#[derive(Clone, Debug, PartialEq)]
struct Fake {
    name: &'static str,
    is_ready: bool,
    is_http2: bool,
}

impl Reusable for Fake {
    type Handle = &'static str;

    fn is_ready(&self) -> bool {
        self.is_ready
    }

    fn is_shareable(&self) -> bool {
        self.is_http2
    }

    fn share(&self) -> Option<Self> {
        self.is_http2.then(|| self.clone())
    }
}

fn http1(name: &'static str) -> Fake {
    Fake { name, is_ready: true, is_http2: false }
}

fn http2(name: &'static str) -> Fake {
    Fake { name, is_ready: true, is_http2: true }
}

type Act = Action<Fake, char>;

/// A pool with one host, and a clock.
struct Fixture {
    state: PoolState<Fake, char>,
    host: HostId,
    now: Instant,
}

fn pool(limits: Limits) -> Fixture {
    let mut state = PoolState::new(limits);
    let host = state.add_host(false, NotReused::First);
    Fixture { state, host, now: Instant::now() }
}

fn limited(max_per_host: usize) -> Fixture {
    pool(Limits { max_per_host: Some(max_per_host), ..Limits::default() })
}

impl Fixture {
    /// Begins to wait, after a checkout that found no connection.
    fn wait(&mut self, name: char) -> Waiting {
        assert_eq!(self.state.checkout(self.host, self.now), None);
        let waiting = self.state.wait(self.host);
        let expected = if self.state.is_closed { Poll::Ready(Grant::Closed) } else { Poll::Pending };
        assert_eq!(self.poll(&waiting, name), expected);
        waiting
    }

    fn poll(&mut self, waiting: &Waiting, name: char) -> Poll<Grant<Fake>> {
        self.state.poll(self.host, waiting.ticket, &name)
    }

    /// Asserts that only this waiter is woken, and that it gets a permit to dial.
    fn expect_permit(&mut self, waiting: &Waiting, name: char) -> ConnId {
        assert_eq!(self.actions(), [Action::Wake(name)]);
        let Poll::Ready(Grant::Dial(permit)) = self.poll(waiting, name) else { panic!("no permit") };
        permit
    }

    /// Asserts that only this waiter is woken, and that it gets this connection.
    fn expect_conn(&mut self, waiting: &Waiting, name: char, conn: Fake) {
        assert_eq!(self.actions(), [Action::Wake(name)]);
        assert_eq!(self.poll(waiting, name), Poll::Ready(Grant::Conn(conn)));
    }

    /// Dials a connection, which is in use afterwards.
    fn dial(&mut self, conn: Fake) -> ConnId {
        let Waiting { ticket, permit, .. } = self.wait('-');
        let id = permit.expect("within the limit");
        self.state.leave(self.host, ticket);
        self.state.opened(id, conn.name);
        assert_eq!(self.state.connected(id, conn.clone(), self.now), Some(conn));
        assert_eq!(self.actions(), []);
        id
    }

    fn release(&mut self, id: ConnId, name: &'static str) {
        self.state.release(id, http1(name), self.now);
    }

    fn checkout(&mut self) -> Option<&'static str> {
        self.state.checkout(self.host, self.now).map(|(conn, _)| conn.name)
    }

    fn actions(&mut self) -> Vec<Act> {
        self.state.take_actions()
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn is_empty(&self) -> bool {
        self.state.conns.is_empty() && self.state.idle == 0 && self.state.hosts[self.host.0].open == 0
    }
}

#[test]
fn the_connection_used_last_is_used_next() {
    let mut pool = pool(Limits::default());
    let [a, b, c] = ["a", "b", "c"].map(|name| pool.dial(http1(name)));
    pool.release(a, "a");
    pool.release(c, "c");
    pool.release(b, "b");
    assert_eq!([pool.checkout(), pool.checkout()], [Some("b"), Some("c")]);
    pool.release(b, "b");
    assert_eq!([pool.checkout(), pool.checkout(), pool.checkout()], [Some("b"), Some("a"), None]);
}

#[test]
fn unusable_idle_connections_are_not_checked_out() {
    let mut pool = pool(Limits { idle_timeout: Some(Duration::from_secs(9)), ..Limits::default() });
    let [old, broken, young] = ["old", "broken", "young"].map(|name| pool.dial(http1(name)));
    pool.release(old, "old");
    assert_eq!(pool.actions(), [Action::WakeAt(pool.now + Duration::from_secs(9), "old")]);
    pool.pass(8);
    pool.release(young, "young");
    pool.state.release(broken, Fake { is_ready: false, ..http1("broken") }, pool.now);
    pool.pass(1);
    assert_eq!(pool.checkout(), Some("young"));
    assert_eq!(pool.actions(), [Action::Discard(Fake { is_ready: false, ..http1("broken") })]);
    assert_eq!(pool.checkout(), None);
    assert_eq!(
        pool.actions(),
        [Action::Close(http1("old"), EndReason::IdleLimit)],
        "its timeout has passed, although the timer has not fired"
    );
}

#[test]
fn waiters_are_served_in_order() {
    let mut pool = limited(1);
    let id = pool.dial(http1("a"));
    let [a, b, c] = ['a', 'b', 'c'].map(|name| pool.wait(name));
    assert_eq!([a.permit, b.permit, c.permit], [None; 3]);
    pool.state.leave(pool.host, a.ticket);
    pool.release(id, "a");
    pool.expect_conn(&b, 'b', http1("a"));
    pool.state.closed(id);
    let permit = pool.expect_permit(&c, 'c');
    assert_ne!(permit, id);
    // A waiter that dials is still served first.
    pool.wait('d');
    assert_eq!(pool.poll(&c, 'c'), Poll::Pending);
    pool.state.opened(permit, "c");
    assert_eq!(pool.state.connected(permit, http1("c"), pool.now), Some(http1("c")));
    pool.release(permit, "c");
    pool.expect_conn(&c, 'c', http1("c"));
}

#[test]
fn a_grant_that_a_waiter_does_not_take_goes_to_the_next() {
    let mut pool = limited(1);
    let id = pool.dial(http1("a"));
    let [a, b] = ['a', 'b'].map(|name| pool.wait(name));
    pool.release(id, "a");
    assert_eq!(pool.actions(), [Action::Wake('a')]);
    pool.state.leave(pool.host, a.ticket);
    assert_eq!(pool.actions(), [Action::Finish(http1("a"))]);
    pool.release(id, "a");
    pool.expect_conn(&b, 'b', http1("a"));

    let [c, d] = ['c', 'd'].map(|name| pool.wait(name));
    pool.state.closed(id);
    assert_eq!(pool.actions(), [Action::Wake('c')]);
    pool.state.leave(pool.host, c.ticket);
    pool.expect_permit(&d, 'd');
}

#[test]
fn failed_dials_release_their_permit() {
    let mut pool = limited(1);
    let first = pool.wait('a');
    let second = pool.wait('b');
    assert_eq!(second.permit, None);
    // For the other waiters it makes no difference whether the dial failed, timed out or was dropped.
    pool.state.leave(pool.host, first.ticket);
    pool.state.closed(first.permit.unwrap());
    let permit = pool.expect_permit(&second, 'b');
    for _ in 0..2 {
        pool.state.closed(permit);
        assert!(pool.is_empty() && pool.actions().is_empty(), "repeated `closed` has no effect");
    }
}

#[test]
fn waiters_wait_for_connections_that_are_about_to_be_ready() {
    let mut pool = limited(2);
    let id = pool.dial(http1("a"));
    assert!(pool.state.returning(id));
    let waiting = pool.wait('x');
    assert_eq!((waiting.permit, waiting.is_returning), (None, true));
    pool.release(id, "a");
    assert_eq!(pool.state.grace_over(pool.host, waiting.ticket), None, "a connection was granted");
    pool.expect_conn(&waiting, 'x', http1("a"));

    // If the connection is not ready in time, or broken, the waiter may dial.
    for is_dropped in [false, true] {
        assert!(pool.state.returning(id));
        let waiting = pool.wait('x');
        match is_dropped {
            false => pool.state.late(id),
            true => pool.state.dropped(id, pool.now),
        }
        let permit = pool.expect_permit(&waiting, 'x');
        pool.state.closed(permit);
        pool.state.leave(pool.host, waiting.ticket);
    }

    // A waiter whose grace period is over may dial, too.
    assert!(pool.state.returning(id));
    let waiting = pool.wait('x');
    assert!(pool.state.grace_over(pool.host, waiting.ticket).is_some());
    assert_eq!(pool.state.grace_over(pool.host, waiting.ticket), None, "one dial is enough");
    pool.state.late(id);
    assert_eq!(pool.actions(), []);
}

#[test]
fn lent_connections_go_to_waiters() {
    let mut pool = limited(1);
    let id = pool.dial(http1("a"));
    let loan = pool.state.lend(id, http1("a"));
    assert_eq!(pool.state.reclaim(id, loan), Some(http1("a")));
    assert_eq!(pool.state.reclaim(id, loan), None);

    let first = pool.state.lend(id, http1("a"));
    let waiting = pool.wait('x');
    assert_eq!(pool.actions(), [Action::AwaitReady(http1("a"))]);
    assert_eq!(pool.state.reclaim(id, first), None, "the waiter gets it");
    pool.release(id, "a");
    pool.expect_conn(&waiting, 'x', http1("a"));
    let second = pool.state.lend(id, http1("a"));
    assert_eq!(pool.state.reclaim(id, first), None, "the first loan is over");
    assert_eq!(pool.state.reclaim(id, second), Some(http1("a")));

    pool.wait('y');
    pool.state.lend(id, http1("a"));
    assert_eq!(pool.actions(), [Action::AwaitReady(http1("a"))], "a request is already waiting");
}

#[test]
fn lent_connections_that_the_peer_closes_are_discarded() {
    let mut pool = limited(1);
    let id = pool.dial(http1("a"));
    let loan = pool.state.lend(id, http1("a"));
    pool.state.closed(id);
    assert_eq!(pool.actions(), [Action::Discard(http1("a"))]);
    let next = pool.dial(http1("b"));
    assert_eq!(next.index, id.index);
    pool.state.lend(next, http1("b"));
    assert_eq!(pool.state.reclaim(id, loan), None, "the slot belongs to another connection");
    pool.release(id, "a");
    assert_eq!(pool.actions(), [Action::Discard(http1("a"))]);
    assert_eq!(pool.state.counts(pool.host), [0, 1, 0]);
}

#[test]
fn http2_connections_are_shared() {
    let mut pool = pool(Limits { idle_timeout: Some(Duration::from_secs(9)), ..Limits::default() });
    let [a, b] = ['a', 'b'].map(|name| pool.wait(name));
    let (id, other) = (a.permit.unwrap(), b.permit.unwrap());
    pool.state.leave(pool.host, a.ticket);
    pool.state.opened(id, "a");
    assert_eq!(pool.state.connected(id, http2("a"), pool.now), Some(http2("a")));
    pool.expect_conn(&b, 'b', http2("a"));
    assert_eq!(pool.checkout(), Some("a"));
    pool.state.closed(other);
    for _ in 0..2 {
        pool.state.dropped(id, pool.now);
        assert_eq!(pool.actions(), [], "the connection is still in use");
    }
    pool.state.dropped(id, pool.now);
    assert_eq!(pool.actions(), [Action::WakeAt(pool.now + Duration::from_secs(9), "a")]);
    pool.pass(9);
    assert_eq!(pool.checkout(), None);
    assert_eq!(pool.state.expire(pool.now), None);
    assert_eq!(pool.actions(), [Action::Close(http2("a"), EndReason::IdleLimit)]);
    pool.state.closed(id);
    assert!(pool.is_empty());
}

#[test]
fn a_newer_shared_connection_replaces_one_after_goaway() {
    let mut pool = pool(Limits::default());
    let id = pool.dial(http2("a"));
    pool.state.dropped(id, pool.now);
    // After a GOAWAY the connection accepts no more streams.
    let Phase::Shared { conn, .. } = &mut pool.state.conns.get_mut(id).unwrap().phase else { panic!() };
    conn.is_ready = false;
    let newer = pool.dial_over(http2("b"));
    assert_eq!(pool.checkout(), Some("b"));
    pool.state.dropped(id, pool.now);
    pool.state.closed(id);
    assert_eq!(pool.actions(), []);
    assert_eq!(pool.checkout(), Some("b"));
    pool.state.closed(newer);
    assert_eq!(pool.checkout(), None);
}

impl Fixture {
    /// Dials a connection that replaces another one.
    fn dial_over(&mut self, conn: Fake) -> ConnId {
        let Waiting { ticket, permit, .. } = self.wait('-');
        self.state.leave(self.host, ticket);
        let id = permit.unwrap();
        assert_eq!(self.state.connected(id, conn.clone(), self.now), Some(conn));
        assert!(matches!(self.actions()[..], [Action::Discard(_)]));
        id
    }
}

#[test]
fn with_http2_prior_knowledge_there_is_one_dial_at_a_time() {
    let mut pool = pool(Limits::default());
    pool.host = pool.state.add_host(true, NotReused::First);
    let [a, b, c] = ['a', 'b', 'c'].map(|name| pool.wait(name));
    assert_eq!([b.permit, c.permit], [None; 2]);
    pool.state.leave(pool.host, a.ticket);
    pool.state.closed(a.permit.unwrap());
    let permit = pool.expect_permit(&b, 'b');
    pool.state.leave(pool.host, b.ticket);
    assert_eq!(pool.state.connected(permit, http2("x"), pool.now), Some(http2("x")));
    pool.expect_conn(&c, 'c', http2("x"));
}

#[test]
fn idle_connections_above_the_limits_are_closed() {
    let mut pool = pool(Limits { max_idle: Some(2), max_idle_per_host: Some(2), ..Limits::default() });
    let elsewhere = pool.state.add_host(false, NotReused::First);
    let waiting = pool.state.wait(elsewhere);
    let other = waiting.permit.unwrap();
    pool.state.leave(elsewhere, waiting.ticket);
    let ids = ["a", "b", "c"].map(|name| pool.dial(http1(name)));
    pool.state.release(other, http1("other"), pool.now);
    pool.pass(1);
    pool.release(ids[0], "a");
    pool.pass(1);
    assert_eq!(pool.actions(), []);
    pool.release(ids[1], "b");
    assert_eq!(pool.actions(), [Action::Close(http1("other"), EndReason::IdleLimit)], "idle for the longest");
    pool.release(ids[2], "c");
    assert_eq!(
        pool.actions(),
        [Action::Close(http1("c"), EndReason::IdleLimit)],
        "one too many for its host"
    );
    pool.state.close_idle();
    let closed = ["a", "b"].map(|name| Action::Close(http1(name), EndReason::Closed));
    assert_eq!(pool.actions(), closed);
    assert_eq!(pool.state.idle, 0);
}

#[test]
fn idle_connections_are_closed_after_their_timeout() {
    let timeout = Duration::from_secs(9);
    let mut pool = pool(Limits { idle_timeout: Some(timeout), ..Limits::default() });
    let ids = ["a", "b"].map(|name| pool.dial(http1(name)));
    pool.release(ids[0], "a");
    assert_eq!(pool.actions(), [Action::WakeAt(pool.now + timeout, "a")]);
    pool.pass(5);
    pool.release(ids[1], "b");
    assert_eq!(pool.actions(), [], "the timer is already set");
    pool.pass(4);
    assert_eq!(pool.state.expire(pool.now), Some(pool.now + Duration::from_secs(5)));
    assert_eq!(pool.actions(), [Action::Close(http1("a"), EndReason::IdleLimit)]);
    assert_eq!(pool.checkout(), Some("b"));
    assert_eq!(pool.state.expire(pool.now), None);
    pool.release(ids[1], "b");
    assert_eq!(pool.actions(), [Action::WakeAt(pool.now + timeout, "b")], "the timer is set again");
    pool.state.timer_stopped();
    assert_eq!(pool.checkout(), Some("b"));
    pool.release(ids[1], "b");
    assert_eq!(
        pool.actions(),
        [Action::WakeAt(pool.now + timeout, "b")],
        "the timer stopped with its runtime"
    );
}

#[test]
fn with_a_limit_of_zero_no_connection_is_kept() {
    for mut pool in [pool(Limits { max_idle_per_host: Some(0), ..Limits::default() }), {
        let mut pool = pool(Limits::default());
        pool.state.abandon();
        pool
    }] {
        let id = pool.dial(http1("a"));
        assert!(!pool.state.returning(id) && !pool.state.will_be_reused());
        pool.release(id, "a");
        assert_eq!(pool.actions(), [Action::Discard(http1("a"))]);
        pool.state.closed(id);
        let id = pool.dial(http2("b"));
        assert_eq!(pool.checkout(), None, "it is not shared");
        pool.state.dropped(id, pool.now);
        pool.state.closed(id);
        assert!(pool.is_empty());
    }
}

#[test]
fn an_abandoned_pool_closes_a_shared_connection_with_its_last_stream() {
    let mut pool = pool(Limits::default());
    let id = pool.dial(http2("a"));
    pool.state.abandon();
    assert_eq!(pool.actions(), []);
    pool.state.dropped(id, pool.now);
    assert_eq!(pool.actions(), [Action::Close(http2("a"), EndReason::Closed)]);
}

#[test]
fn close_refuses_waiters_and_fails_connections() {
    let mut pool = limited(3);
    let [used, idle, upgraded] = ["used", "idle", "upgraded"].map(|name| pool.dial(http1(name)));
    let [x, y, z] = ['x', 'y', 'z'].map(|name| pool.wait(name));
    pool.state.task_ended(upgraded);
    pool.release(idle, "idle");
    assert_eq!(pool.actions(), [Action::Wake('x')]);
    pool.state.close();
    let actions = pool.actions();
    let expected = [
        Action::Finish(http1("idle")),
        Action::Wake('y'),
        Action::Wake('z'),
        Action::Fail("used"),
        Action::Fail("idle"),
    ];
    assert_eq!(actions, expected);
    for (waiting, name) in [(x, 'x'), (y, 'y'), (z, 'z')] {
        assert_eq!(pool.poll(&waiting, name), Poll::Ready(Grant::Closed));
    }
    assert_eq!(pool.wait('n').permit, None);
    pool.release(idle, "idle");
    assert_eq!(pool.actions(), [Action::Discard(http1("idle"))]);
    for id in [used, idle, upgraded] {
        pool.state.closed(id);
    }
    assert_eq!(pool.actions(), [], "no waiter gets a permit");
    assert!(pool.is_empty());
}

#[test]
fn a_connection_that_opens_after_close_fails() {
    let mut pool = pool(Limits::default());
    let permit = pool.wait('x').permit.unwrap();
    pool.state.close();
    assert_eq!(pool.actions(), [Action::Wake('x')]);
    pool.state.opened(permit, "late");
    assert_eq!(pool.actions(), [Action::Fail("late")]);
}

#[test]
fn hosts_without_connections_and_waiters_are_removed() {
    let mut pool = limited(1);
    let waiting = pool.wait('x');
    assert!(!pool.state.remove_host(pool.host));
    pool.state.leave(pool.host, waiting.ticket);
    assert!(!pool.state.remove_host(pool.host));
    pool.state.closed(waiting.permit.unwrap());
    assert!(pool.state.remove_host(pool.host));
}
