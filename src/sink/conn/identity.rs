//! Finds out which traced connection a stream is, through any number of wrappers.
//!
//! A stream carries its identity in the extras of hyper-util's `Connected`. To build that, a TCP stream asks the kernel
//! for both of its addresses: four system calls and six allocations for a new connection with TLS. So a caller that
//! wants only the identity sets a thread-local before it calls `connected()`, and the stream puts the identity there.

use super::conn_ref::ConnRef;
use crate::{connected::with_extras, scoped, sink::request::response_ext::TraceExtension};
use hyper_util::client::legacy::connect::{Connected, Connection};
use std::cell::Cell;

thread_local! {
    /// The query of the caller of `connected()`, if there is one.
    static IDENTITY_QUERY: Cell<Option<IdentityQuery>> = const { Cell::new(None) };
}

/// Asks the stream whose `connected()` is called for its identity alone.
enum IdentityQuery {
    Pending,
    Answered(ConnRef),
}

impl ConnRef {
    /// Returns the identity of what a connector has connected; `None` if it is not traced.
    pub fn of(io: &impl Connection) -> Option<Self> {
        match scoped::scope_and_take(&IDENTITY_QUERY, IdentityQuery::Pending, || io.connected()) {
            (_, Some(IdentityQuery::Answered(conn))) => Some(conn),
            // A stream that does not know of the query, or a wrapper that answers with a copy made before.
            (connected, _) => with_extras(&connected, |extras| ConnRef::from_extensions(extras).cloned()),
        }
    }
}

/// Returns what a stream of that connection answers to `connected()`: `describe()` with the identity added, or an empty
/// answer if the caller wants only the identity.
pub(crate) fn describe_conn(conn: &ConnRef, describe: impl FnOnce() -> Connected) -> Connected {
    let is_answered = scoped::with_current(&IDENTITY_QUERY, |query| {
        let is_pending = matches!(query, IdentityQuery::Pending);
        if is_pending {
            *query = IdentityQuery::Answered(conn.clone());
        }
        is_pending
    });
    if is_answered == Some(true) {
        return Connected::new();
    }
    describe().extra(TraceExtension::new(conn.clone()))
}

#[cfg(all(test, feature = "connect"))]
mod tests {
    use super::*;
    use crate::sink::{Endpoint, TraceSink, Transport};
    use std::cell::RefCell;

    /// A stream that counts how often it is described.
    struct Stream<'a>(&'a RefCell<u32>, Option<ConnRef>);

    impl Connection for Stream<'_> {
        fn connected(&self) -> Connected {
            let describe = || {
                *self.0.borrow_mut() += 1;
                Connected::new()
            };
            self.1.as_ref().map_or_else(describe, |conn| describe_conn(conn, describe))
        }
    }

    /// A wrapper that delegates to the inner stream.
    struct Around<S>(S);

    impl<S: Connection> Connection for Around<S> {
        fn connected(&self) -> Connected {
            self.0.connected().proxy(true)
        }
    }

    /// A stream that carries an identity, but does not know the query.
    struct Foreign(ConnRef);

    impl Connection for Foreign {
        fn connected(&self) -> Connected {
            Connected::new().extra(TraceExtension::new(self.0.clone()))
        }
    }

    #[test]
    fn an_identity_is_found_without_a_description() {
        let (sink, described) = (TraceSink::new(), RefCell::new(0));
        let conn = |sink: &TraceSink| {
            let recorder = sink.dial(|| "web.test:80".into()).adopt(Transport::Tcp, Endpoint::default, false);
            recorder.conn_ref().cloned()
        };
        let (known, other) = (conn(&sink), conn(&sink));
        let id = |conn: &Option<ConnRef>| conn.as_ref().map(ConnRef::id);
        let stream = Around(Around(Stream(&described, known.clone())));
        assert_eq!(id(&ConnRef::of(&stream)), id(&known));
        assert_eq!(*described.borrow(), 0);
        assert!(ConnRef::of(&Around(Stream(&described, None))).is_none());
        assert_eq!(*described.borrow(), 1);
        // The query has no lasting effect: afterwards the stream returns its description again.
        assert!(stream.connected().is_proxied());
        assert_eq!(*described.borrow(), 2);
        assert_eq!(id(&ConnRef::of(&Foreign(known.clone().unwrap()))), id(&known));
        assert_eq!(id(&ConnRef::of(&Stream(&described, other.clone()))), id(&other));
    }
}
