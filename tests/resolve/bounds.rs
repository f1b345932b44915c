//! Trait bounds and auto traits of the public types.

use super::*;
use nettrace::resolve::{Addresses, LookupFuture, TraceResolve, TraceResolveFuture};
use static_assertions::{assert_impl_all, assert_not_impl_any};

assert_impl_all!(StubResolver: Clone, Send, Sync, Unpin, std::fmt::Debug, Service<Name, Error = ResolveError>);
assert_impl_all!(LookupFuture: Send, Unpin);
assert_impl_all!(Addresses: Send, Sync, Iterator<Item = SocketAddr>);
assert_impl_all!(ResolveError: Send, Sync, Error);
assert_impl_all!(TraceResolve<()>: Send, Sync, Unpin, Copy);
assert_impl_all!(TraceResolveFuture<()>: Send, Sync, Unpin);
assert_not_impl_any!(TraceResolveFuture<std::rc::Rc<()>>: Send, Sync);
assert_not_impl_any!(TraceResolveFuture<std::marker::PhantomPinned>: Unpin);
assert_not_impl_any!(TraceResolve<std::rc::Rc<()>>: Send, Sync);

fn is_send<T: Send>(_: T) {}

#[test]
fn lookups_can_move_between_threads() {
    let sink = TraceSink::new();
    let resolver = builder(&sink, []).build().unwrap();
    is_send(resolver.lookup("web.test"));
}
